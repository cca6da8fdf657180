import Events
import Glibc
import Replay
import Trace

/// The trace that an edit reads. Reading ends with an error when the user wants no more of it.
public struct EditInput {
  public let reader: TraceReader
  private let isInterrupted: () -> Bool

  /// - Parameter isInterrupted: asked now and then; true ends the edit, which removes what it wrote.
  public init(_ reader: TraceReader, isInterrupted: @escaping () -> Bool = { false }) {
    (self.reader, self.isInterrupted) = (reader, isInterrupted)
  }

  /// Another trace under the same condition.
  func other(_ reader: TraceReader) -> EditInput { EditInput(reader, isInterrupted: isInterrupted) }

  /// The events of some chunks of one stream, one chunk per call; nil at the end. They stay valid until the next call. A
  /// gap precedes a chunk before which events were lost, except the first.
  func chunks(_ chunks: [Int]) throws(TraceError) -> () throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard let first = chunks.first else { return { () throws(TraceError) in nil } }
    let source = try reader.source(of: chunks)
    var skipsGap = !reader.header.isFlightRecorder && reader.chunks[first].header.firstEvent > 0
    return { [isInterrupted] () throws(TraceError) in
      if isInterrupted() { throw TraceError(.system(EINTR), "interrupted; nothing was written") }
      if skipsGap { _ = try source() }
      skipsGap = false
      return try source()
    }
  }

  /// A replay of one engine's stream.
  func replayer(_ id: StreamID, _ chunks: [Int], isClosed: Bool) throws(TraceError) -> Replayer {
    try Replayer(stream: id.stream, isClosed: isClosed, chunks: self.chunks(chunks))
  }

  /// Replay every engine's stream, to the first divergence.
  func replay() throws(TraceError) -> ReplayResult {
    var result = ReplayResult()
    for (id, chunks) in reader.streams where id.source == .engine && result.divergence == nil {
      var replayer = try replayer(id, chunks, isClosed: reader.isClosed)
      result.add(try replayer.run())
    }
    return result
  }
}

/// The events of a stream, one after another, from one of its chunks on.
struct EventWalk: ~Copyable {
  private let source: () throws(TraceError) -> UnsafeBufferPointer<Record>?
  private var chunk = UnsafeBufferPointer<Record>(start: nil, count: 0)
  private var position = 0
  /// Number of the next event, from 0 at the first chunk.
  private(set) var number: UInt64 = 0

  /// - Parameter chunks: of one stream.
  init(_ input: EditInput, _ chunks: [Int]) throws(TraceError) { source = try input.chunks(chunks) }

  /// The next event with its tail; nil at the end. Valid until the next call.
  mutating func next() throws(TraceError) -> UnsafePointer<Record>? {
    while position >= chunk.count {
      guard let next = try source() else { return nil }
      (chunk, position) = (next, 0)
    }
    let record = chunk.baseAddress! + position
    position += 1 + Int(record.pointee.tail)
    number += 1
    return record
  }
}

extension Record {
  /// The event followed by these bytes, as in a stream.
  func withTail(_ bytes: [UInt8], _ body: (UnsafePointer<Record>) throws(TraceError) -> Void) throws(TraceError) {
    let slots = Record.slots(bytes.count)
    let event = UnsafeMutablePointer<Record>.allocate(capacity: 1 + slots)
    defer { event.deallocate() }
    let raw = UnsafeMutableRawBufferPointer(start: event, count: (1 + slots) * Record.size)
    raw.initializeMemory(as: UInt8.self, repeating: 0)
    UnsafeMutableRawBufferPointer(rebasing: raw[Record.size...]).copyBytes(from: bytes)
    event.pointee = self
    event.pointee.tail = UInt16(truncatingIfNeeded: slots)
    try body(event)
  }
}

extension [Record] {
  /// Every event with its tail, of consecutive slots.
  func forEachEvent(_ body: (UnsafePointer<Record>) throws(TraceError) -> Void) throws(TraceError) {
    var failure: TraceError?
    withUnsafeBufferPointer { slots in
      var position = 0
      while position < slots.count {
        let record = slots.baseAddress! + position
        do throws(TraceError) { try body(record) } catch {
          failure = error
          return
        }
        position += 1 + Int(record.pointee.tail)
      }
    }
    if let failure { throw failure }
  }
}
