import Intervals
import KernelStreams
import KernelTimeline
import NVMe

/// The result of an analysis: how the commands' time was spent.
public struct Summary: Sendable {
  /// I/O commands that are in the trace from beginning to end.
  public let io: Breakdown
  /// Admin commands that are in the trace from beginning to end; asynchronous event requests never count.
  public let adminCommands: UInt64

  /// Events processed, and events that the trace counts as lost.
  public let events: UInt64
  public let lost: UInt64
  /// Number of gaps.
  public let gaps: UInt64
  /// Faults that were injected into the recorded endpoint, by the number of their kind in `fault` events.
  public let faults: [UInt8: UInt64]
  /// Controller resets of any kind.
  public let resets: UInt64
  /// Those with commands before and after them: a host also resets the controller before it begins and when it ends.
  public let resetsBetween: UInt64
  /// Nil if the controller never stopped.
  public let stops: Stops?
  /// I/O commands with lost events, those that a reset or the deletion of their queue ended, and those in flight when
  /// the trace ended. The statistics contain none of them.
  public let partial: UInt64
  public let drops: [(drop: Drop, commands: UInt64)]
  /// I/O commands whose identifier the host used again before they completed.
  public let reused: UInt64
  public let unfinished: UInt64
  /// The oldest commands in flight when the trace ended, admin commands among them.
  public let oldestUnfinished: [UnfinishedCommand]
  /// What the host did that a controller cannot work with, in the order of the first occurrences, and how often beyond
  /// the kinds and queues that are kept apart.
  public let hostBehaviour: [HostBehaviour]
  public let otherHostBehaviour: UInt64
  /// Failed completions by opcode and status, in the order of the first, and those of further kinds. They include the
  /// completions of admin commands and of commands left out of the statistics.
  public let failures: [CommandFailure]
  public let otherFailures: UInt64
  /// Events that their clock put before their cause; their times were moved to it.
  public let inversions: UInt64

  /// Mean commands in flight over the trace, including unfinished ones; 0 if unknown.
  public let queueDepthTimeWeighted: Double
  /// Largest number of fetched commands in flight at once.
  public let queueDepthMax: UInt64

  /// Parts of stages: of detect, the time after the engine saw the doorbell; of complete, the time in which the
  /// completion queue had no room.
  public let turn: Distribution
  public let queueFull: Distribution
  /// Of reap, the time after the host saw the entry; nil without a host stream.
  public let handling: Distribution?
  /// Before the latency begins: from the host's submission to its doorbell. Nil without a host stream.
  public let hostSubmit: Distribution?
  /// Commands that begin when the engine saw the doorbell: the time since the previous poll, during which it was
  /// written. Nil if the host's stream gave every beginning.
  public let undetected: Distribution?

  /// Nil without commands.
  public let bands: Bands?
  /// How often a recorded thread waited for room in its ring.
  public let ringWaits: UInt64
  /// Total duration of these waits.
  public let ringWaitNs: UInt64
  /// What the engine's thread and the host's threads did; nil if the trace does not show it.
  public let server: ServerUse?
  public let hosts: HostUse?
  /// How often the engine did what.
  public let counts: EngineCounts
  /// Events of kernel probes; only counted if our endpoint is the subject.
  public let kernelEvents: UInt64
  /// What the report describes.
  public let subject: Subject
  /// Commands of the kernel's PCI endpoint driver: how long they waited for the next thread or actor.
  public let handoffs: HandoffDistributions?
  /// What that driver did; nil without its commands.
  public let driver: DriverUse?
  /// Commands for which the kernel's PCI endpoint driver posted a second completion.
  public let completedTwice: UInt64
  /// Commands of that driver completed without a following interrupt, though others had one.
  public let unannounced: UInt64
  /// Cost of recording the kernel; nil if the trace does not contain it.
  public let probes: ProbeCosts?
  /// Largest error of the host's times in a merged trace, in nanoseconds; set by the caller from the trace's header.
  public var hostClockBoundNs: Double?

  /// The commands by window of time; nil unless asked for.
  public let windows: TimeWindows?
  /// Among how many complete I/O commands the filter selected those of `io`; nil without a filter.
  public let among: UInt64?
  /// I/O commands that a reset or the deletion of their queue ended.
  public var interrupted: UInt64 { drops.reduce(0) { $0 &+ $1.commands } }

  /// How `groups` divides the commands; nil without groups.
  public let grouping: Grouping?
  /// The commands of each group.
  public let groups: [Group]

  /// The trace was closed; set by the caller.
  public var isComplete = true

  /// Number of commands whose beginning came from the host's stream.
  public var commandsFromHost: UInt64 { hostSubmit?.count ?? 0 }
}

/// Distributions over a set of commands.
public struct Breakdown: Sendable {
  public let commands: UInt64
  /// Number of commands with an error status.
  public let failed: UInt64
  /// From the first beginning to the last end, in nanoseconds.
  public let durationNs: UInt64
  /// Bytes transferred from the host.
  public let bytesFromHost: UInt64
  /// Bytes transferred to the host.
  public let bytesToHost: UInt64
  /// From the beginning of the first stage to the end of the last.
  public let latency: Distribution
  /// In the order of `Stage`.
  public let stages: [Distribution]
  /// Latency between stages.
  public let unexplained: Distribution
  /// `iops` with its interval; nil for groups, and with too few commands to tell.
  public let iopsEstimate: Estimate?
  /// The part of a command's latency in which nobody worked on it.
  public let waiting: Distribution
  /// In the order of `Stage`; nil for those in which no command waited.
  public let splits: [Split?]
  /// What the engine's thread did while commands waited: mean per command, in nanoseconds, in the order of `Activity`.
  public let behindMeansNs: [Double]
  /// What the host's thread did while commands waited for it: means in nanoseconds, in the order of `HostState`.
  public let behindHostMeansNs: [Double]

  public subscript(stage: Stage) -> Distribution { stages[stage.rawValue] }

  /// Waiting in a stage.
  public func waiting(in stage: Stage) -> Distribution { splits[stage.rawValue]?.waiting ?? .zero(commands) }

  /// Means, in nanoseconds.
  public func waitingMeanNs(_ stage: Stage) -> Double { splits[stage.rawValue]?.waiting.meanNs ?? 0 }
  public func serviceMeanNs(_ stage: Stage) -> Double { splits[stage.rawValue]?.serviceMeanNs ?? self[stage].meanNs }

  /// Commands per second; 0 where no time passed.
  public var iops: Double { durationNs == 0 ? 0 : Double(commands) * 1e9 / Double(durationNs) }

  /// Mean number of commands in flight, by Little's law: the sum of their times divided by the elapsed time.
  public var queueDepth: Double { durationNs == 0 ? 0 : Double(latency.sumNs) / Double(durationNs) }
}

/// How much of a stage was waiting, and the rest.
public struct Split: Sendable {
  public let waiting: Distribution
  /// Nanoseconds.
  public let serviceMeanNs: Double
  /// The same with its precision, where that is known.
  public let service: Estimate?
}

/// The commands of one queue or opcode.
public struct Group: Sendable {
  public let key: GroupKey
  public let breakdown: Breakdown
}

/// How long commands of the kernel's target waited for the host's doorbell and for threads.
public struct HandoffDistributions: Sendable {
  public let doorbell: Distribution
  public let dispatch: Distribution
  public let wakeUp: Distribution
  public let completion: Distribution
}
