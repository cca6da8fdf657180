import Endpoint
import Events
import Replay
import Trace

/// A trace without what tells who recorded it, and of what, which replays as before.
public struct Anonymized {
  private let input: EditInput
  private let pseudonyms: Pseudonyms

  /// - Parameter keepsBlocks: leave logical blocks, and sizes of namespaces, as they are.
  public init(_ input: EditInput, keepsBlocks: Bool) {
    self.input = input
    pseudonyms = Pseudonyms(keepsBlocks: keepsBlocks)
  }

  /// Write it to `path`.
  /// - Throws: if it would not replay as the original does, or cannot be written; then nothing is.
  public func write(to path: String) throws(TraceError) -> EditedTrace {
    let reader = input.reader
    let divergence = try input.replay().divergence
    try collect()
    try pseudonyms.complete()
    let copy = try TraceCopy(path, header: Anonymized.header(reader.header), of: reader)
    for (id, chunks) in reader.streams {
      let chunk = try PseudonymousChunks(input, id, chunks, pseudonyms, copy)
      if id.source == .engine {
        try chunk.replay(id, isClosed: reader.isClosed, divergence)
      }
      while try chunk.next() != nil {}
    }
    try copy.close(end: reader.end)
    return try EditedTrace(publishing: copy, as: path, input, expecting: divergence) { (new) throws(TraceError) in
      try driverDifference(new)
    }
  }

  /// The first controller of the kernel whose driver does not replay as in the original.
  private func driverDifference(_ new: TraceReader) throws(TraceError) -> String? {
    for controller in pseudonyms.controllers.sorted() {
      let before = try DriverReplay(input.reader, controller: controller).run()
      let after = try DriverReplay(new, controller: controller).run()
      guard before.counts != after.counts else { continue }
      return "the driver of controller \(controller) is found \(after.verdict) instead of \(before.verdict)"
    }
    return nil
  }

  /// Collect the logical blocks of all streams.
  private func collect() throws(TraceError) {
    for (id, chunks) in input.reader.streams {
      let chunk = try PseudonymousChunks(input, id, chunks, pseudonyms, nil)
      while try chunk.next() != nil {}
    }
  }

  // MARK: Notes

  /// Notes that a trace keeps: what recorded it, not who or where.
  private static let keptNotes: Set<String> = ["version", "commit", "cpu", "simulation", "anonymized"]

  static func header(_ original: TraceHeader) -> TraceHeader {
    typealias MergeKey = TraceHeader.MergeKey
    var header = original
    header.metadata = original.metadata.compactMap { key, value in
      let isHosts = key.hasPrefix(MergeKey.hostPrefix)
      let name = isHosts ? String(key.dropFirst(MergeKey.hostPrefix.count)) : key
      switch name {
      // A kernel's version may end with the name of a machine or of a company.
      case "kernel": return (key, String(value.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }))
      // Without the identifier of the original.
      case "cut", "minimized":
        return (key, value.split(separator: ";").map(Anonymized.withoutID).joined(separator: ";"))
      case MergeKey.offset, MergeKey.comparedUntil, MergeKey.drift, MergeKey.bound: return (key, value)
      default: return keptNotes.contains(name) || name.hasPrefix("probes ") ? (key, value) : nil
      }
    }
    return header.edited("anonymized", "yes")
  }

  private static func withoutID(_ note: Substring) -> Substring {
    let words = note.split(separator: " ")
    guard words.count >= 2, words[words.count - 2] == "of" else { return note }
    return note.dropLast(words[words.count - 1].count + 4)
  }
}

/// The chunks of a stream with other values; each is written when the next one is asked for.
private final class PseudonymousChunks {
  private var stream: PseudonymousStream
  private let source: () throws(TraceError) -> UnsafeBufferPointer<Record>?
  /// Nil if the values are only collected.
  private let copy: TraceCopy?
  private let id: StreamID
  private let path: String
  private var slots: [Record] = []
  /// The current chunk's events, which the engine completes.
  private var chunk = UnsafeMutableBufferPointer<Record>.allocate(capacity: 0)
  /// Where the events are whose bytes or hash the engine gives, by number; and the number of the next chunk's first event.
  private var places: [UInt64: Int] = [:]
  private var number: UInt64 = 0

  init(_ input: EditInput, _ id: StreamID, _ chunks: [Int], _ pseudonyms: Pseudonyms, _ copy: TraceCopy?)
    throws(TraceError)
  {
    (self.id, self.copy, path) = (id, copy, input.reader.path)
    source = try input.chunks(chunks)
    stream = PseudonymousStream(id, pseudonyms)
  }

  deinit {
    stream.deallocate()
    chunk.deallocate()
  }

  /// Write the current chunk and read the next one; nil at the end. Valid until the next call.
  func next() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    if let copy { try forEach { (record, _) throws(TraceError) in try copy.append(record, as: id) } }
    slots.removeAll(keepingCapacity: true)
    places.removeAll(keepingCapacity: true)
    repeat {
      guard let chunk = try source() else {
        stream.finish(&slots)
        break
      }
      var position = 0
      while position < chunk.count {
        let record = chunk.baseAddress! + position
        position += 1 + Int(record.pointee.tail)
        do throws(TraceError) { try stream.append(record, to: &slots) } catch {
          throw TraceError(error.kind, "\(path): \(error.description)")
        }
      }
    } while stream.isReceiving
    chunk.deallocate()
    chunk = .allocate(capacity: slots.count)
    _ = chunk.initialize(fromContentsOf: slots)
    try forEach { (record, index) in
      if record.pointee.is(.write) || record.pointee.is(.stateHash) { places[number] = index }
      number += 1
    }
    return chunk.isEmpty ? nil : UnsafeBufferPointer(chunk)
  }

  private func forEach(_ body: (UnsafePointer<Record>, Int) throws(TraceError) -> Void) throws(TraceError) {
    var position = 0
    while position < chunk.count {
      let record = UnsafePointer(chunk.baseAddress! + position)
      try body(record, position)
      position += 1 + Int(record.pointee.tail)
    }
  }

  /// Let the engine write its bytes, as far as it agrees with the recording.
  func replay(_ id: StreamID, isClosed: Bool, _ divergence: Divergence?) throws(TraceError) {
    var replayer = try Replayer(stream: id.stream, isClosed: isClosed) { () throws(TraceError) in try self.next() }
    replayer.outputs = { [unowned self] in put($0, $1) }
    replayer.hashes = { [unowned self] in put($0, $2) }
    // Bytes and hashes are compared when their event has been passed.
    if let divergence, divergence.stream == id.stream, divergence.isOfBytes || divergence.recordedKind == .stateHash {
      divergent = divergence.event
    }
    _ = try replayer.run()
  }

  /// The event whose bytes or hash differ from the engine's; nil if there is none.
  private var divergent: UInt64?

  private func put(_ number: UInt64, _ bytes: UnsafeRawBufferPointer) {
    guard let place = places[number] else { return }
    let target = UnsafeMutableRawBufferPointer(
      rebasing: UnsafeMutableRawBufferPointer(chunk)[((place + 1) * Record.size)...])
    target.copyBytes(from: bytes)
    if number == divergent, !bytes.isEmpty { target[0] = ~target[0] }
  }

  private func put(_ number: UInt64, _ hash: StateHash) {
    // The recorded engine's state is not known after it differed.
    guard let place = places[number], number <= divergent ?? .max else { return }
    var event = Event.StateHash(chunk[place])
    (event.hash, event.length) = (number == divergent ? ~hash.value : hash.value, UInt32(hash.length))
    let tail = chunk[place].tail
    chunk[place] = event.record
    chunk[place].tail = tail
  }
}

extension DriverReplayResult {
  /// What two replays of the same driver have in common.
  fileprivate var counts: [UInt64] {
    [
      commands, compared, segments, bytes, UInt64(newDifferences), UInt64(knownDifferences), interrupted, before,
      refused,
      afterEnd, doubtful,
    ]
  }
}
