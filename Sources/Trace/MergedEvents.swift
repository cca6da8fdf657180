/// One event as `MergedEvents` gives it.
public struct Event {
  public let stream: UInt16
  public let source: Source?
  /// Times and spans in nanoseconds.
  public let record: Record
  /// The `record.tail` slots behind it, valid until the next event is taken.
  public let tail: UnsafeRawBufferPointer
}

/// The events of all streams of a trace in the order of their times, a chunk of each stream in memory. Where events
/// are missing between two chunks, a `gap` event tells how many.
public struct MergedEvents: ~Copyable {
  /// Decoded chunks of all streams may take as much memory, bytes.
  static let memoryMax = 1 << 30

  private let cursors: [StreamCursor]
  /// The stream whose turn it is, its next event, and the time up to which it stays its turn.
  private var current: StreamCursor?
  private var slot: UnsafePointer<Record>?
  private var end: UnsafePointer<Record>?
  private var until: UInt64 = 0

  /// - Parameter streams: Only these; all when nil.
  /// - Throws: when the streams' chunks would need more than 1 GiB at once.
  public init(_ reader: TraceReader, streams: Set<UInt16>? = nil) throws(TraceError) {
    var places: [UInt16: [Int]] = [:]
    var slotsMax: [UInt16: Int] = [:]
    for (index, chunk) in reader.chunks.enumerated() where streams?.contains(chunk.header.stream) != false {
      places[chunk.header.stream, default: []].append(index)
      slotsMax[chunk.header.stream] = max(slotsMax[chunk.header.stream] ?? 0, Int(chunk.header.slots))
    }
    guard slotsMax.values.reduce(0, { $0 + $1 * Record.size }) <= Self.memoryMax else {
      throw TraceError(.damaged, "\(reader.path) has too many streams to be read together")
    }
    let missing = reader.missing
    var cursors: [StreamCursor] = []
    for stream in places.keys.sorted() { cursors.append(try StreamCursor(reader, places[stream]!, missing)) }
    self.cursors = cursors
  }

  /// The next event, or nil at the end.
  /// - Throws: `.damaged` when a chunk cannot be read. The next call goes on behind it.
  @inline(__always)
  public mutating func next() throws(TraceError) -> Event? {
    if slot == end || slot.unsafelyUnwrapped.pointee.time > until {
      guard try beginRun() else { return nil }
    }
    let record = slot.unsafelyUnwrapped
    let tail = Int(record.pointee.tail)
    slot = record + 1 + tail
    let current = current.unsafelyUnwrapped
    return Event(
      stream: current.stream, source: current.source, record: record.pointee,
      tail: UnsafeRawBufferPointer(start: record + 1, count: tail * Record.size))
  }

  /// Turn to the stream with the earliest event.
  /// - Returns: false when there are no more.
  @inline(never)
  private mutating func beginRun() throws(TraceError) -> Bool {
    current?.slot = slot
    var best: StreamCursor?
    var (first, second) = (UInt64.max, UInt64.max)
    for cursor in cursors {
      guard let time = cursor.time else { continue }
      if best == nil || time < first {
        second = first
        (best, first) = (cursor, time)
      } else {
        second = min(second, time)
      }
    }
    current = best
    (slot, end) = (nil, nil)
    guard let best else { return false }
    if best.slot == best.end { try best.advance() }
    (slot, end, until) = (best.slot, best.end, second)
    return true
  }
}

/// One stream's place in its chunks.
private final class StreamCursor {
  let stream: UInt16
  let source: Source?
  /// The next event of the chunk at hand, and the chunk's end.
  var slot: UnsafePointer<Record>?
  private(set) var end: UnsafePointer<Record>?
  private let reader: TraceReader
  private let chunks: [Int]
  private let missing: [Int: UInt64]
  private var nextChunk = 0
  private var decoded: DecodedChunk
  /// An event that no chunk has.
  private let gap = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private var hasToldOfGap = false

  init(_ reader: TraceReader, _ chunks: [Int], _ missing: [Int: UInt64]) throws(TraceError) {
    (self.reader, self.chunks, self.missing) = (reader, chunks, missing)
    let header = reader.chunks[chunks[0]].header
    (stream, source) = (header.stream, header.source)
    decoded = try DecodedChunk()
  }

  deinit { gap.deallocate() }

  /// Of the next event; nil when there is none.
  var time: UInt64? {
    if let slot, slot != end { return slot.pointee.time }
    return nextChunk < chunks.count ? reader.chunks[chunks[nextChunk]].header.firstTime : nil
  }

  /// Go on to the next chunk, or first to the gap before it.
  func advance() throws(TraceError) {
    let index = chunks[nextChunk]
    if let events = missing[index], !hasToldOfGap {
      gap.initialize(to: Record(time: reader.chunks[index].header.firstTime, kind: .gap, a: events))
      hasToldOfGap = true
      (slot, end) = (UnsafePointer(gap), UnsafePointer(gap + 1))
      return
    }
    hasToldOfGap = false
    nextChunk += 1
    (slot, end) = (nil, nil)
    try reader.decode(index, into: &decoded)
    slot = decoded.slots.baseAddress
    end = slot! + decoded.slots.count
  }
}
