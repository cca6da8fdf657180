import NVMe

/// Where the time of one finished command went. `stages` and `unexplained` add up to `total`, to the nanosecond.
public struct CommandTimes: Sendable {
  public let qid: QueueID
  public let cid: CommandID
  /// Nil where no event told it.
  public let opcode: UInt8?
  /// Nanoseconds since the trace began: the host's doorbell or, without it, when the engine saw the doorbell.
  public let begin: UInt64
  /// Nanoseconds since the trace began: the completion queue head doorbell that covers the command.
  public let end: UInt64
  /// Nanoseconds.
  public let stages: StageTimes
  /// Nanoseconds between stages, in none of them.
  public let unexplained: UInt64
  /// The part of detect after the engine saw the doorbell, in nanoseconds.
  public let turn: UInt64
  /// The part of complete in which the completion queue had no room, in nanoseconds.
  public let queueFull: UInt64
  /// Host: command handed to the driver's queue → doorbell, in nanoseconds; before `begin`. Nil without a host stream.
  public let hostSubmit: UInt64?
  /// Without a host stream: the doorbell was written at most this long before `begin`, in nanoseconds.
  public let undetectedMax: UInt64?
  public let bytesFromHost: UInt64
  public let bytesToHost: UInt64
  /// Its completion has a status that is no success.
  public let hasFailed: Bool
  /// Of commands of the kernel's PCI endpoint driver.
  public let hops: Hops?

  public var total: UInt64 { end - begin }
}
