import Events

/// The chunks of one stream, with the events of the current one.
final class StreamChunks {
  let id: StreamID
  private var walk: ChunkWalk
  private let supply: ChunkSupply
  /// The stream's number there.
  private let stream: Int
  private var events = ByteBuffer(capacity: 0)
  /// An event for a gap between chunks.
  private let gap = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private var hasReturnedGap = false

  /// - Parameter walk: before the first of its chunks, of which there is one at least.
  init(_ stream: Int, _ walk: ChunkWalk, _ supply: ChunkSupply) {
    (self.stream, self.walk, self.supply) = (stream, walk, supply)
    id = walk.reader.chunks[walk.chunks[0]].header.id
  }

  deinit { gap.deallocate() }

  /// Time of the next event that `next` returns.
  var nextTime: UInt64? { walk.isAtEnd ? nil : walk.header.firstTime }

  /// The events of the next chunk, preceded by a gap where events were lost; nil at the end. Valid until the next call.
  func next() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard !walk.isAtEnd else { return nil }
    let lost = lostEvents
    if lost > 0, !hasReturnedGap {
      gap.initialize(to: Event.Gap(time: walk.header.firstTime, events: lost).record)
      hasReturnedGap = true
      return UnsafeBufferPointer(start: gap, count: 1)
    }
    hasReturnedGap = false
    defer { walk.advance() }
    try supply.take(stream, walk, into: &events)
    return events.bytes.assumingMemoryBound(to: Record.self)
  }

  /// Before the next chunk.
  private var lostEvents: UInt64 {
    let last = walk.position == 0 ? nil : walk.reader.chunks[walk.chunks[walk.position - 1]].header
    return walk.reader.lostEvents(before: walk.header, last: last)
  }
}
