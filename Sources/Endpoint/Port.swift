import NVMe
import Target

/// Direction of a transfer.
public enum Direction: BitwiseCopyable, Sendable {
  case toHost, fromHost
}

/// A contiguous piece of a command's data in host memory.
public struct Segment: BitwiseCopyable, Equatable, Sendable {
  public var address: PCIAddress
  /// Bytes.
  public var length: UInt32
  /// Discards its data: an SGL Bit Bucket.
  public var isBitBucket = false

  public init(address: PCIAddress, length: UInt32, isBitBucket: Bool = false) {
    self.address = address
    self.length = length
    self.isBitBucket = isBitBucket
  }
}

/// The engine's timers.
public enum EngineTimer: BitwiseCopyable, Hashable, Sendable {
  /// Aggregation time of this completion queue.
  case aggregation(QueueID)
  /// Keep alive timeout.
  case keepAlive
  /// Poll CC.
  case configuration
}

/// The engine's only connection to the world. Every uncertain value enters through it, every effect leaves through it,
/// and each conformance is one driver of the same engine: live, replay, simulation.
///
/// The engine's calls depend only on earlier return values. `false` or nil means that host memory is not accessible,
/// unless stated otherwise.
public protocol Port: ~Copyable {
  /// The host wrote a register; called before the engine acts on it.
  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64)
  /// The host read a register and receives `value`.
  mutating func registerRead(offset: UInt64, width: Int, value: UInt64)
  /// The controller is about to be reset from outside.
  mutating func willReset(_ reason: ResetReason)
  /// A namespace is about to be attached, or detached if not `isAttached`.
  mutating func willChange(_ namespace: Namespace, isAttached: Bool)

  /// The current value of a doorbell; `last` is the value that the engine saw before.
  mutating func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32
  /// A queue is created: its doorbell reads 0 until the host writes it.
  mutating func clear(_ doorbell: Doorbell)

  /// Transfer `count` adjacent submission queue entries starting at `slot`, exactly once and in one piece.
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool
  /// Read bytes that the engine interprets: a PRP list, an SGL segment, ranges.
  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  /// Write bytes that the engine produced: Identify data, a log page.
  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool

  /// The engine turns to a fetched command.
  mutating func begins(qid: QueueID, cid: CommandID)
  /// The command's fields are valid and its data pointer is parsed.
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32)
  /// Transfer one segment of a request's data; `offset` is its position in the data, in bytes.
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool
  /// Whether a segment of a request's data is accessible; transfers nothing.
  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool
  /// Every segment of the request's data was transferred.
  mutating func transferred(_ direction: Direction, _ request: IORequest)
  /// Submit a request to its backend.
  /// - Returns: nil if it does not complete immediately: `completion` reports it later.
  mutating func execute(_ request: IORequest) -> Status?
  /// The next completed request: its slot and status, or `Controller.abandonedSlot` for all abandoned requests. Nil if
  /// there is none.
  mutating func completion() -> (slot: Int32, status: Status)?
  /// Cancel a request at its backend.
  /// - Returns: whether it can have no effect any more; it then has no completion. A backend that has begun it
  ///   continues.
  mutating func cancel(_ request: IORequest) -> Bool
  /// The engine is done with a request, executed or not.
  mutating func release(_ request: IORequest)
  /// Abandon all requests at backends: none of them may complete; one completion stands for all when none can take
  /// effect any more.
  mutating func abandonRequests()

  /// Milliseconds since 1970.
  mutating func clockMs() -> UInt64
  /// Start or restart a timer.
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64)
  mutating func disarm(_ timer: EngineTimer)
  /// The next expired timer, which is thereby disarmed; nil if there is none.
  mutating func expired() -> EngineTimer?

  /// Write a completion queue entry, its phase tag last.
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool
  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32)
  /// A completion starts to wait for room in its queue.
  mutating func completionQueueFull(_ cqid: QueueID)

  /// The engine has acted on what the port told it: for a port that examines the engine in the middle of a pass.
  mutating func observe(_ controller: borrowing Controller)
}

/// Many ports do nothing with what the engine only announces.
extension Port where Self: ~Copyable {
  @inline(__always)
  public func registerWritten(offset: UInt64, width: Int, value: UInt64) {}
  @inline(__always)
  public func registerRead(offset: UInt64, width: Int, value: UInt64) {}
  @inline(__always)
  public func willReset(_ reason: ResetReason) {}
  @inline(__always)
  public func willChange(_ namespace: Namespace, isAttached: Bool) {}
  @inline(__always)
  public func begins(qid: QueueID, cid: CommandID) {}
  @inline(__always)
  public func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {}
  @inline(__always)
  public func transferred(_ direction: Direction, _ request: IORequest) {}
  @inline(__always)
  public func release(_ request: IORequest) {}
  @inline(__always)
  public func completionQueueFull(_ cqid: QueueID) {}
  @inline(__always)
  public func observe(_ controller: borrowing Controller) {}
}
