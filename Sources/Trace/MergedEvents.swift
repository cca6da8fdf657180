import Events

/// The events of all streams of a trace in the order of their times, a chunk of each stream in memory. Where events
/// are missing between two chunks, a `gap` event tells how many.
public struct MergedEvents: ~Copyable {
  /// What the trace's index and the chunks at hand may take together, bytes. With what it takes to decode a chunk and to
  /// analyse events, no trace makes a process larger than 1 GiB.
  static let memoryMax = 384 << 20

  /// The most that the trace's index and the chunks at hand will take.
  public let bytesMax: Int
  private let cursors: UnsafeMutableBufferPointer<StreamCursor>
  private let chunks: [StreamChunks]
  /// The streams that have events left, as a binary heap: on top the one whose next event is the earliest, of several such
  /// the first.
  private let heap: UnsafeMutableBufferPointer<Int>
  private var heapCount: Int
  /// The stream whose turn it is: its next event, the end of its chunk, and the time up to which it stays its turn.
  private var current: Int?
  private var slot: UnsafePointer<Record>?
  private var end: UnsafePointer<Record>?
  private var until: UInt64 = 0

  /// - Throws: when the largest chunks of all streams would need more than 384 MiB together.
  public init(_ reader: TraceReader) throws(TraceError) {
    let streams = reader.streams
    let bytes = try Self.bytesMax(reader, streams)
    let decoder = try ChunkDecoder()
    bytesMax = bytes
    chunks = streams.map { StreamChunks(reader, $0.chunks, decoder) }
    cursors = .allocate(capacity: chunks.count)
    _ = cursors.initialize(fromContentsOf: chunks.map { StreamCursor($0) })
    heap = .allocate(capacity: chunks.count)
    _ = heap.initialize(fromContentsOf: chunks.indices)
    heapCount = chunks.count
    for place in (0..<heapCount / 2).reversed() { sink(place) }
  }

  deinit {
    cursors.deallocate()
    heap.deallocate()
  }

  /// What the index and the largest chunk of each stream take.
  private static func bytesMax(_ reader: TraceReader, _ streams: [(id: StreamID, chunks: [Int])]) throws(TraceError)
    -> Int
  {
    let slots = streams.reduce(0) { sum, stream in
      sum + (stream.chunks.map { Int(reader.chunks[$0].header.slots) }.max() ?? 0)
    }
    let bytes = slots * Record.size + reader.chunks.count * MemoryLayout<ChunkPlace>.stride
    guard bytes <= memoryMax else {
      throw TraceError(
        .damaged,
        "\(reader.path): reading its \(TraceError.grouped(UInt64(streams.count))) streams together needs "
          + "\(TraceError.grouped(UInt64(bytes >> 20))) MiB, and nvmepf takes \(memoryMax >> 20) MiB at most: the trace is "
          + "damaged, or was recorded on too many CPUs; record fewer streams")
    }
    return bytes
  }

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
    if let current {
      cursors[current].park(at: slot, end)
      if cursors[current].isAtEnd {
        heapCount -= 1
        heap[0] = heap[heapCount]
      }
      sink(0)
    }
    (slot, end) = (nil, nil)
    guard heapCount > 0 else {
      current = nil
      return false
    }
    let best = heap[0]
    current = best
    if cursors[best].slot == cursors[best].end { try cursors[best].advance(chunks[best]) }
    (slot, end) = (cursors[best].slot, cursors[best].end)
    until = (1..<max(1, min(3, heapCount))).reduce(.max) { min($0, cursors[heap[$1]].time) }
    return true
  }

  /// Move the stream at `place` down to where it belongs, its time being the only one that may be too late for its place.
  private func sink(_ place: Int) {
    var place = place
    while true {
      var first = place
      for child in 2 * place + 1..<2 * place + 3 where child < heapCount && precedes(child, first) { first = child }
      if first == place { return }
      heap.swapAt(first, place)
      place = first
    }
  }

  /// Whether the stream at one place of the heap comes before the one at another.
  private func precedes(_ place: Int, _ other: Int) -> Bool {
    let (one, two) = (heap[place], heap[other])
    return (cursors[one].time, one) < (cursors[two].time, two)
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
