import Events

/// Decodes chunks for several streams in turn; each stream keeps its events.
final class ChunkDecoder {
  fileprivate var decoded: DecodedChunk
  init() throws(TraceError) { decoded = try DecodedChunk() }
}

/// The chunks of one stream, with the events of the current one.
final class StreamChunks {
  let id: StreamID
  private let reader: TraceReader
  private let chunks: [Int]
  private let selection: ChunkSelection
  /// The next chunk of the selection.
  private var position = -1
  private let decoder: ChunkDecoder
  private var events = ByteBuffer(capacity: 0)
  /// An event for a gap between chunks.
  private let gap = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private var hasReturnedGap = false

  /// - Parameters:
  ///   - chunks: indices of chunks, at least one.
  ///   - selection: which of them to decode.
  init(_ reader: TraceReader, _ chunks: [Int], _ decoder: ChunkDecoder, _ selection: ChunkSelection = .init()) {
    (self.reader, self.chunks, self.decoder, self.selection) = (reader, chunks, decoder, selection)
    id = reader.chunks[chunks[0]].header.id
    moveToNext()
  }

  private func moveToNext() {
    repeat {
      position += 1
    } while position < chunks.count
      && !selection.mayContain(reader.chunks[chunks[position]].header)
  }

  deinit { gap.deallocate() }

  /// Time of the next event that `next` returns.
  var nextTime: UInt64? { position < chunks.count ? reader.chunks[chunks[position]].header.firstTime : nil }

  /// The events of the next chunk, preceded by a gap where events were lost; nil at the end. Valid until the next call.
  func next() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard position < chunks.count else { return nil }
    let index = chunks[position]
    let lost = lostEvents(before: position)
    if lost > 0, !hasReturnedGap {
      gap.initialize(to: Event.Gap(time: reader.chunks[index].header.firstTime, events: lost).record)
      hasReturnedGap = true
      return UnsafeBufferPointer(start: gap, count: 1)
    }
    hasReturnedGap = false
    moveToNext()
    // All streams share the decoder; each has its own events.
    decoder.decoded.exchangeEvents(&events)
    defer { decoder.decoded.exchangeEvents(&events) }
    try reader.decode(index, into: &decoder.decoded)
    return decoder.decoded.slots
  }

  private func lostEvents(before place: Int) -> UInt64 {
    let chunk = reader.chunks[chunks[place]].header
    return reader.lostEvents(before: chunk, last: place == 0 ? nil : reader.chunks[chunks[place - 1]].header)
  }
}
