import Events

/// Decodes chunks for several streams, which keep their events, in turn.
final class ChunkDecoder {
  fileprivate var decoded: DecodedChunk
  init() throws(TraceError) { decoded = try DecodedChunk() }
}

/// The chunks of one stream, the events of one of them at hand.
final class StreamChunks {
  let id: StreamID
  private let reader: TraceReader
  private let chunks: [Int]
  private var next = 0
  private let decoder: ChunkDecoder
  private var events = ByteBuffer(capacity: 0)
  /// An event that no chunk has.
  private let gap = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private var hasToldOfGap = false

  /// - Parameter chunks: Indices of chunks, at least one.
  init(_ reader: TraceReader, _ chunks: [Int], _ decoder: ChunkDecoder) {
    (self.reader, self.chunks, self.decoder) = (reader, chunks, decoder)
    id = reader.chunks[chunks[0]].header.id
  }

  deinit { gap.deallocate() }

  /// Of the next event that `take` gives.
  var nextTime: UInt64? { next < chunks.count ? reader.chunks[chunks[next]].header.firstTime : nil }

  /// The events of the next chunk, or first the gap before it; nil at the end. Valid until the next call.
  func take() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard next < chunks.count else { return nil }
    let index = chunks[next]
    let missing = eventsMissing(before: next)
    if missing > 0, !hasToldOfGap {
      gap.initialize(to: Event.Gap(time: reader.chunks[index].header.firstTime, events: missing).record)
      hasToldOfGap = true
      return UnsafeBufferPointer(start: gap, count: 1)
    }
    hasToldOfGap = false
    next += 1
    // What all streams need to decode is there once, the events for each of them.
    decoder.decoded.exchangeEvents(&events)
    defer { decoder.decoded.exchangeEvents(&events) }
    try reader.decode(index, into: &decoder.decoded)
    return decoder.decoded.slots
  }

  private func eventsMissing(before place: Int) -> UInt64 {
    let chunk = reader.chunks[chunks[place]].header
    return reader.missing(before: chunk, last: place == 0 ? nil : reader.chunks[chunks[place - 1]].header)
  }
}
