/// The chunks of one stream, one of them decoded.
final class StreamChunks {
  let id: StreamID
  private let reader: TraceReader
  private let chunks: [Int]
  private let missing: [Int: UInt64]
  private var next = 0
  private var decoded: DecodedChunk
  /// An event that no chunk has.
  private let gap = UnsafeMutablePointer<Record>.allocate(capacity: 1)
  private var hasToldOfGap = false

  /// - Parameter chunks: Indices of chunks, at least one.
  init(_ reader: TraceReader, _ chunks: [Int]) throws(TraceError) {
    (self.reader, self.chunks, missing) = (reader, chunks, reader.missing)
    id = reader.chunks[chunks[0]].header.id
    decoded = try DecodedChunk()
  }

  deinit { gap.deallocate() }

  /// Of the next event that `take` gives.
  var nextTime: UInt64? { next < chunks.count ? reader.chunks[chunks[next]].header.firstTime : nil }

  /// The events of the next chunk, or first the gap before it; nil at the end. Valid until the next call.
  func take() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard next < chunks.count else { return nil }
    let index = chunks[next]
    if let events = missing[index], !hasToldOfGap {
      gap.initialize(to: Record(time: reader.chunks[index].header.firstTime, kind: .gap, a: events))
      hasToldOfGap = true
      return UnsafeBufferPointer(start: gap, count: 1)
    }
    hasToldOfGap = false
    next += 1
    try reader.decode(index, into: &decoded)
    return decoded.slots
  }
}
