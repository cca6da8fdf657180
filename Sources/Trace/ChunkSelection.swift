/// A part of a trace, found by the headers of its chunks: what else lies in these chunks is read too.
public struct ChunkSelection: Sendable {
  /// Times of the wanted events: nanoseconds since the trace began, up to but not including `to`.
  public var from: UInt64 = 0
  public var to = UInt64.max
  /// Only events of this queue; nil for all.
  public var qid: UInt16?

  public init() {}

  /// Whether a chunk may contain a wanted event.
  public func mayContain(_ chunk: ChunkHeader) -> Bool {
    guard chunk.firstTime < to, chunk.lastTime >= from else { return false }
    guard let qid, chunk.queues != 0 else { return true }
    return chunk.queues >> UInt64(qid & 63) & 1 != 0
  }
}
