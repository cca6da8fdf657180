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

  private let cursors: UnsafeMutableBufferPointer<StreamCursor>
  private let chunks: [StreamChunks]
  /// The stream whose turn it is: its next event, the end of its chunk, and the time up to which it stays its turn.
  private var current: Int?
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
    var chunks: [StreamChunks] = []
    for stream in places.keys.sorted() { chunks.append(try StreamChunks(reader, places[stream]!, missing)) }
    self.chunks = chunks
    cursors = .allocate(capacity: chunks.count)
    _ = cursors.initialize(fromContentsOf: chunks.map { StreamCursor($0) })
  }

  deinit { cursors.deallocate() }

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
    let cursor = cursors.baseAddress.unsafelyUnwrapped + current.unsafelyUnwrapped
    return Event(
      stream: cursor.pointee.stream, source: cursor.pointee.source, record: record.pointee,
      tail: UnsafeRawBufferPointer(start: record + 1, count: tail * Record.size))
  }

  /// Turn to the stream with the earliest event.
  /// - Returns: false when there are no more.
  @inline(never)
  private mutating func beginRun() throws(TraceError) -> Bool {
    if let current { cursors[current].park(at: slot, end) }
    var best: Int?
    var (first, second) = (UInt64.max, UInt64.max)
    for index in 0..<cursors.count where !cursors[index].isAtEnd {
      let time = cursors[index].time
      if best == nil || time < first {
        second = first
        (best, first) = (index, time)
      } else {
        second = min(second, time)
      }
    }
    current = best
    (slot, end) = (nil, nil)
    guard let best else { return false }
    if cursors[best].slot == cursors[best].end { try chunks[best].advance(&cursors[best]) }
    (slot, end, until) = (cursors[best].slot, cursors[best].end, second)
    return true
  }
}

/// One stream's place in its chunk at hand.
private struct StreamCursor {
  let stream: UInt16
  let source: Source?
  var slot: UnsafePointer<Record>?
  var end: UnsafePointer<Record>?
  /// Of the next event, wherever it is.
  var time: UInt64
  /// Of the first event of the chunk that comes next; nil when there is none.
  var nextChunkTime: UInt64?
  var isAtEnd = false

  init(_ chunks: StreamChunks) {
    (stream, source) = (chunks.stream, chunks.source)
    nextChunkTime = chunks.nextTime
    time = chunks.nextTime ?? 0
  }

  /// The next event is at `slot`, or the first of the next chunk.
  mutating func park(at slot: UnsafePointer<Record>?, _ end: UnsafePointer<Record>?) {
    (self.slot, self.end) = (slot, end)
    if let slot, slot != end {
      time = slot.pointee.time
    } else if let nextChunkTime {
      time = nextChunkTime
    } else {
      isAtEnd = true
    }
  }
}

/// The chunks of one stream, one of them decoded.
private final class StreamChunks {
  let stream: UInt16
  let source: Source?
  private let reader: TraceReader
  private let chunks: [Int]
  private let missing: [Int: UInt64]
  private var next = 0
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

  var nextTime: UInt64? { next < chunks.count ? reader.chunks[chunks[next]].header.firstTime : nil }

  /// Go on to the next chunk, or first to the gap before it.
  func advance(_ cursor: inout StreamCursor) throws(TraceError) {
    let index = chunks[next]
    if let events = missing[index], !hasToldOfGap {
      gap.initialize(to: Record(time: reader.chunks[index].header.firstTime, kind: .gap, a: events))
      hasToldOfGap = true
      (cursor.slot, cursor.end) = (UnsafePointer(gap), UnsafePointer(gap + 1))
      return
    }
    hasToldOfGap = false
    next += 1
    (cursor.slot, cursor.end, cursor.nextChunkTime) = (nil, nil, nextTime)
    try reader.decode(index, into: &decoded)
    cursor.slot = decoded.slots.baseAddress
    cursor.end = cursor.slot! + decoded.slots.count
  }
}
