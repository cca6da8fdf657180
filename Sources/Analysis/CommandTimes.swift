import KernelTimeline
import NVMe

/// How the time of one finished command was spent. `stages` and `unexplained` add up to `total`, to the nanosecond.
public struct CommandTimes: Sendable {
  public let qid: QueueID
  public let cid: CommandID
  /// Nil if no event contains it.
  public let opcode: UInt8?
  /// Nanoseconds since the trace began: the host's doorbell or, without it, when the engine saw the doorbell.
  public let begin: UInt64
  /// Nanoseconds since the trace began: the completion queue head doorbell that covers the command.
  public let end: UInt64
  /// Nanoseconds.
  public let stages: StageTimes
  /// Time between stages, nanoseconds: the engine's work for no command in particular.
  public let unexplained: UInt64
  /// The part of each stage in which nobody worked on the command, nanoseconds.
  public let waiting: StageTimes
  /// What the engine's thread did while the command waited for it; adds up to the sum of `waiting` without reap, if the
  /// command has not been in flight for tens of thousands of activities.
  public let behind: ActivityTimes
  /// What the host's thread did while the command waited for it; adds up to `waiting` in reap.
  public let behindHost: HostWaits
  /// The part of detect after the engine saw the doorbell, in nanoseconds.
  public let turn: UInt64
  /// The part of complete spent waiting for room in the completion queue, in nanoseconds.
  public let queueFull: UInt64
  /// The part of reap after the host saw the entry, in nanoseconds; nil without a host stream.
  public let handling: UInt64?
  /// Host: from submission to the driver's queue until the doorbell, in nanoseconds; before `begin`. Nil without a host
  /// stream.
  public let hostSubmit: UInt64?
  /// Without a host stream: the doorbell was written at most this long before `begin`, in nanoseconds.
  public let undetectedMax: UInt64?
  /// Bytes transferred from the host.
  public let bytesFromHost: UInt64
  /// Bytes transferred to the host.
  public let bytesToHost: UInt64
  /// What it asked for, its status, and which of the trace's events are its own.
  public let facts: CommandFacts
  /// Only for commands of the kernel's PCI endpoint driver.
  public let handoffs: Handoffs?

  /// The status of its completion is an error.
  public var hasFailed: Bool { facts.hasFailed }
  /// Latency in nanoseconds.
  public var total: UInt64 { end - begin }
}
