import Events
import HeapModule
import Text

/// The events of all streams of a trace in order of time, with one chunk of each stream in memory. A `gap` event
/// reports events lost between two chunks.
public struct MergedEvents: ~Copyable {
  /// Maximum memory of the trace's index and the current chunks together, in bytes. Together with decoding and
  /// analysis, no trace makes a process larger than 1 GiB.
  static let memoryMax = 384 << 20

  /// Maximum memory of this trace's index and current chunks.
  public let bytesMax: Int
  private let cursors: UnsafeMutableBufferPointer<StreamCursor>
  private let chunks: [StreamChunks]
  /// The other streams with remaining events, by the time of their next event.
  private var waiting: Heap<Waiting>
  /// The current stream: its next event, the end of its chunk, and the time up to which it remains current.
  private var current: Int?
  private var slot: UnsafePointer<Record>?
  private var end: UnsafePointer<Record>?
  private var until: UInt64 = 0

  /// - Parameter selection: decode only the chunks that may contain these events.
  /// - Throws: if the largest chunks of all streams need more than 384 MiB together.
  public init(_ reader: TraceReader, _ selection: ChunkSelection = .init()) throws(TraceError) {
    let streams = reader.streams
    let bytes = try Self.bytesMax(reader, streams)
    let walks = streams.map { ChunkWalk(reader, $0.chunks, selection) }
    let supply = try ChunkSupply(reader, walks)
    bytesMax = bytes
    chunks = walks.enumerated().map { StreamChunks($0, $1, supply) }
    cursors = .allocate(capacity: chunks.count)
    _ = cursors.initialize(fromContentsOf: chunks.map { StreamCursor($0) })
    waiting = Heap(
      chunks.enumerated().compactMap { index, chunks in
        chunks.nextTime.map { Waiting(time: $0, stream: index) }
      })
  }

  deinit { cursors.deallocate() }

  /// Memory of the index and of the largest chunk of each stream.
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
        "\(reader.path): reading its \(Quantity.count(streams.count)) streams together needs "
          + "\(Quantity.count(bytes >> 20)) MiB, and nvmepf takes \(memoryMax >> 20) MiB at most: the trace is "
          + "damaged, or was recorded on too many CPUs; record fewer streams")
    }
    return bytes
  }

  /// The next event with its tail, and its stream; nil at the end. Valid until the next call.
  /// - Throws: `.damaged` if a chunk cannot be read. The next call continues after it.
  @inline(__always)
  public mutating func next() throws(TraceError) -> (record: UnsafePointer<Record>, id: StreamID)? {
    if slot == end || slot.unsafelyUnwrapped.pointee.time > until {
      guard try beginRun() else { return nil }
    }
    let record = slot.unsafelyUnwrapped
    slot = record + 1 + Int(record.pointee.tail)
    return (record, cursors[current.unsafelyUnwrapped].id)
  }

  /// Make the stream with the earliest event current.
  /// - Returns: false if there are no more events.
  @inline(never)
  private mutating func beginRun() throws(TraceError) -> Bool {
    if let current {
      cursors[current].park(at: slot, end)
      if !cursors[current].isAtEnd { waiting.insert(Waiting(time: cursors[current].time, stream: current)) }
    }
    (slot, end) = (nil, nil)
    current = waiting.popMin()?.stream
    guard let current else { return false }
    if cursors[current].slot == cursors[current].end { try cursors[current].advance(chunks[current]) }
    (slot, end) = (cursors[current].slot, cursors[current].end)
    until = waiting.min?.time ?? .max
    return true
  }
}

/// One stream's position in its current chunk.
private struct StreamCursor {
  let id: StreamID
  private(set) var slot: UnsafePointer<Record>?
  private(set) var end: UnsafePointer<Record>?
  /// Time of the next event.
  private(set) var time: UInt64
  /// Time of the first event of the next chunk; nil if there is none.
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

  /// Continue with the next chunk of `chunks`.
  mutating func advance(_ chunks: StreamChunks) throws(TraceError) {
    (slot, end) = (nil, nil)
    defer { nextChunkTime = chunks.nextTime }
    guard let slots = try chunks.next() else { return }
    slot = slots.baseAddress
    end = slot! + slots.count
  }
}
