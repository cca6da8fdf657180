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

  /// - Throws: when the streams' chunks would need more than 1 GiB at once.
  public init(_ reader: TraceReader) throws(TraceError) {
    let streams = reader.streams
    let slots = streams.reduce(0) { sum, stream in
      sum + (stream.chunks.map { Int(reader.chunks[$0].header.slots) }.max() ?? 0)
    }
    guard slots * Record.size <= Self.memoryMax else {
      throw TraceError(.damaged, "\(reader.path) has too many streams to be read together")
    }
    var chunks: [StreamChunks] = []
    for stream in streams { chunks.append(try StreamChunks(reader, stream.chunks)) }
    self.chunks = chunks
    cursors = .allocate(capacity: chunks.count)
    _ = cursors.initialize(fromContentsOf: chunks.map { StreamCursor($0) })
  }

  deinit { cursors.deallocate() }

  /// The next event, with its tail behind it, and its stream; nil at the end. It stays valid until the next call.
  /// - Throws: `.damaged` when a chunk cannot be read. The next call goes on behind it.
  @inline(__always)
  public mutating func next() throws(TraceError) -> (record: UnsafePointer<Record>, id: StreamID)? {
    if slot == end || slot.unsafelyUnwrapped.pointee.time > until {
      guard try beginRun() else { return nil }
    }
    let record = slot.unsafelyUnwrapped
    slot = record + 1 + Int(record.pointee.tail)
    return (record, cursors[current.unsafelyUnwrapped].id)
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
    if cursors[best].slot == cursors[best].end { try cursors[best].advance(chunks[best]) }
    (slot, end, until) = (cursors[best].slot, cursors[best].end, second)
    return true
  }
}

/// One stream's place in its chunk at hand.
private struct StreamCursor {
  let id: StreamID
  private(set) var slot: UnsafePointer<Record>?
  private(set) var end: UnsafePointer<Record>?
  /// Of the next event, wherever it is.
  private(set) var time: UInt64
  /// Of the first event of the chunk that comes next; nil when there is none.
  private var nextChunkTime: UInt64?
  private(set) var isAtEnd = false

  init(_ chunks: StreamChunks) {
    id = chunks.id
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

  /// Go on to what comes next in `chunks`.
  mutating func advance(_ chunks: StreamChunks) throws(TraceError) {
    (slot, end) = (nil, nil)
    defer { nextChunkTime = chunks.nextTime }
    guard let slots = try chunks.take() else { return }
    slot = slots.baseAddress
    end = slot! + slots.count
  }
}
