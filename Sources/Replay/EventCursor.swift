import Events
import Trace

/// A position in a stream of recorded events. It moves from chunk to chunk by itself and passes over events that do not
/// involve the engine: clocks, waits of the recorder, changes of the memory map, faults injected around it.
struct EventCursor: ~Copyable {
  /// The next chunk's slots, records with their tails; nil at the end. They stay valid until the next call.
  typealias Source = () throws(TraceError) -> UnsafeBufferPointer<Record>?

  private let source: Source
  private var chunk = UnsafeBufferPointer<Record>(start: nil, count: 0)
  private var position = 0
  /// Why the stream ended prematurely.
  private(set) var error: TraceError?
  /// Number of the next event in its stream, from 0.
  private(set) var events: UInt64
  private(set) var chunks: UInt64 = 0
  /// Number of the current chunk's first event.
  private(set) var chunkBegin: UInt64
  /// By kind: whether it is passed over. A table, because every event is looked up.
  private let passedOver: UnsafeMutablePointer<Bool>

  /// - Parameter first: number of the first event.
  init(_ source: @escaping Source, first: UInt64 = 0) {
    (self.source, events, chunkBegin) = (source, first, first)
    passedOver = .allocate(capacity: 256)
    for kind in 0...UInt8.max {
      (passedOver + Int(kind)).initialize(to: EventKind(rawValue: kind)?.involvesEngine != true)
    }
  }

  deinit { passedOver.deallocate() }

  /// The event at this position, with its tail; nil at the end.
  @inline(__always)
  mutating func peek() -> UnsafePointer<Record>? {
    if position < chunk.count, !passedOver[Int(chunk[position].kind)] { return chunk.baseAddress! + position }
    return settle()
  }

  /// Continue after the event that `peek` returned.
  @inline(__always)
  mutating func advance() {
    position += 1 + Int(chunk[position].tail)
    events += 1
  }

  /// Return to the event that `advance` has just left, before the next `peek`.
  mutating func stepBack(to record: UnsafePointer<Record>) {
    position -= 1 + Int(record.pointee.tail)
    events -= 1
  }

  /// Whether a hash of the state follows in this chunk before anything else that involves the engine; the position stays.
  var isBeforeHash: Bool {
    var place = position
    while place < chunk.count, passedOver[Int(chunk[place].kind)] { place += 1 + Int(chunk[place].tail) }
    return place < chunk.count && chunk[place].is(.stateHash)
  }

  @inline(never)
  private mutating func settle() -> UnsafePointer<Record>? {
    while true {
      while position < chunk.count {
        if !passedOver[Int(chunk[position].kind)] { return chunk.baseAddress! + position }
        advance()
      }
      guard error == nil else { return nil }
      do throws(TraceError) {
        guard let next = try source() else { return nil }
        (chunk, position, chunkBegin) = (next, 0, events)
        chunks += 1
      } catch {
        self.error = error
        return nil
      }
    }
  }
}

extension EventKind {
  /// Whether a replay needs its events in an engine's stream: it passes over the others.
  public var involvesEngine: Bool {
    switch self {
    case .clock, .ringWait, .rest, .dmaMap, .dmaUnmap, .fault: false
    default: true
    }
  }
}
