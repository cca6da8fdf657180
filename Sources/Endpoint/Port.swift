import NVMe
import Target

/// Which way data moves.
public enum Direction: BitwiseCopyable, Sendable {
  case toHost, fromHost
}

/// A contiguous piece of a command's data in the host's memory.
public struct Segment: BitwiseCopyable, Equatable, Sendable {
  public var address: PCIAddress
  /// Bytes.
  public var length: UInt32
  /// Its data go nowhere: an SGL Bit Bucket.
  public var isBitBucket = false

  public init(address: PCIAddress, length: UInt32, isBitBucket: Bool = false) {
    self.address = address
    self.length = length
    self.isBitBucket = isBitBucket
  }
}

/// What the engine waits for the clock to do.
public enum EngineTimer: BitwiseCopyable, Hashable, Sendable {
  /// Entries of this completion queue wait for more before their interrupt.
  case aggregation(QueueID)
  /// The host must have shown that it is alive.
  case keepAlive
  /// CC is looked at again.
  case configuration
}

/// The engine's only way to the world. Everything uncertain enters through it, everything the engine does leaves
/// through it, and each of its conformances is one driver of the same engine: live, replay, simulation.
///
/// The engine calls it in an order that depends on nothing but what it returned before. A `false` or nil means that the
/// host's memory could not be reached, unless it says otherwise.
public protocol Port: ~Copyable {
  /// The host wrote a register; called before the engine acts on it.
  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64)
  /// The host read a register and is given `value`.
  mutating func registerRead(offset: UInt64, width: Int, value: UInt64)
  /// The controller is about to be reset from outside.
  mutating func willReset(_ reason: ResetReason)
  /// A namespace is about to be attached, or detached where it `isAttached` no longer.
  mutating func willChange(_ namespace: Namespace, isAttached: Bool)

  /// The value of a doorbell; `last` is what the engine saw there before.
  mutating func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32
  /// A queue comes into being: its doorbell reads 0 until the host writes it.
  mutating func clear(_ doorbell: Doorbell)

  /// Transfer `count` submission queue entries that lie side by side, the first of them that of `slot`, once and in one
  /// piece.
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool
  /// Read bytes that the engine interprets: a PRP list, an SGL segment, ranges.
  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  /// Write bytes that the engine made: identify data, a log page.
  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool

  /// The command's fields are checked and its data pointer is parsed.
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32)
  /// Move one segment of a request's data; `offset` is its place in that data, in bytes.
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool
  /// Whether a segment of a request's data can be reached; nothing moves.
  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool
  /// Every segment of the request's data has moved.
  mutating func transferred(_ direction: Direction, _ request: IORequest)
  /// Hand a request to its backend.
  /// - Returns: nil when it is not done at once: `completion` brings it later.
  mutating func execute(_ request: IORequest) -> Status?
  /// The next request that its backend has completed since: its slot, and how it went; `Controller.abandonedSlot` for
  /// all that was abandoned. nil where there is none yet.
  mutating func completion() -> (slot: Int32, status: Status)?
  /// Take a request back that its backend was handed and that is not done.
  /// - Returns: whether nothing of it can happen any more; then no completion of it comes. A backend that has begun it
  ///   goes on.
  mutating func cancel(_ request: IORequest) -> Bool
  /// The engine is done with a request, executed or not.
  mutating func release(_ request: IORequest)
  /// Whatever was handed over is forgotten: no completion of it may come, but one in its place when nothing of it can
  /// happen any more.
  mutating func abandonRequests()

  /// Milliseconds since 1970.
  mutating func clockMs() -> UInt64
  /// Start a timer, or start it again.
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64)
  mutating func disarm(_ timer: EngineTimer)
  /// A timer whose time has come; it is disarmed by that. nil where there is none yet.
  mutating func expired() -> EngineTimer?

  /// Write a completion queue entry, its phase tag last.
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool
  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32)
  /// A completion begins to wait for room in its queue.
  mutating func completionQueueFull(_ cqid: QueueID)
}
