import HeapModule
import Platform

/// Hands out the decoded chunks of a trace's streams. A second thread decodes those that are wanted next, so that reading
/// a trace and using its events take place at the same time. What the reader gets does not depend on that thread: a
/// chunk that it has not begun is decoded by the reader itself.
final class ChunkSupply {
  /// With fewer chunks a second thread is not worth its start.
  private static let chunksMin = 8

  private let reader: TraceReader
  private var decoded: DecodedChunk
  private let ahead: DecodingAhead?
  private let thread: WorkerThread?

  /// - Parameter walks: the streams, each before its first chunk.
  init(_ reader: TraceReader, _ walks: [ChunkWalk]) throws(TraceError) {
    self.reader = reader
    decoded = try DecodedChunk()
    guard walks.reduce(0, { $0 + $1.chunks.count - $1.position }) >= ChunkSupply.chunksMin else {
      (ahead, thread) = (nil, nil)
      return
    }
    let ahead = DecodingAhead(reader, walks)
    // Without it the reader decodes everything.
    thread = try? WorkerThread(name: "nvmepf-decode", handlesSignals: false) { ahead.run() }
    self.ahead = thread == nil ? nil : ahead
  }

  deinit {
    ahead?.end()
    thread?.join()
  }

  /// Decode the chunk at which a stream's walk is. The chunks of a stream are taken in their order.
  /// - Parameter events: receives its events in exchange for a buffer that is no longer needed.
  func take(_ stream: Int, _ walk: ChunkWalk, into events: inout ByteBuffer) throws(TraceError) {
    let chunk = walk.chunks[walk.position]
    if let ahead, try ahead.take(stream, walk.position, chunk, into: &events) { return }
    decoded.exchangeEvents(&events)
    defer { decoded.exchangeEvents(&events) }
    try reader.decode(chunk, into: &decoded)
  }
}

/// The order in which a merge by time takes the chunks of streams, as far as their headers tell.
struct ChunkOrder {
  struct Item {
    let stream: Int
    let position: Int
    let chunk: Int
  }

  private var walks: [ChunkWalk]
  private var waiting: Heap<Waiting>

  init(_ walks: [ChunkWalk]) {
    self.walks = walks
    waiting = Heap(
      walks.enumerated().compactMap { stream, walk in
        walk.isAtEnd ? nil : Waiting(time: walk.header.firstTime, stream: stream)
      })
  }

  mutating func next() -> Item? {
    guard let (time, stream) = waiting.popMin().map({ ($0.time, $0.stream) }) else { return nil }
    let (header, position) = (walks[stream].header, walks[stream].position)
    walks[stream].advance()
    if !walks[stream].isAtEnd {
      // A chunk is wanted when the one before is used up.
      waiting.insert(Waiting(time: max(time, header.lastTime, walks[stream].header.firstTime), stream: stream))
    }
    return Item(stream: stream, position: position, chunk: walks[stream].chunks[position])
  }
}

/// Of two streams with events at one time, the one whose first chunk comes first goes first.
struct Waiting: Comparable {
  let time: UInt64
  let stream: Int

  static func < (a: Waiting, b: Waiting) -> Bool { (a.time, a.stream) < (b.time, b.stream) }
}
