import NVMe

/// What a trace says of where its commands' time went.
public struct Summary: Sendable {
  /// Of the I/O commands that the trace holds from begin to end.
  public let io: Breakdown
  /// Admin commands that the trace holds from begin to end; asynchronous event requests never count.
  public let adminCommands: UInt64

  /// Events that were taken, and events that the trace says are missing from it.
  public let events: UInt64
  public let lost: UInt64
  public let gaps: UInt64
  public let resets: UInt64
  /// Nil where the controller never stopped.
  public let stops: Stops?
  /// I/O commands of which events are missing, those in flight when the controller was reset or their queue deleted, and those
  /// in flight when the trace ended. None is in the statistics.
  public let partial: UInt64
  public let interrupted: UInt64
  public let unfinished: UInt64
  /// The oldest of those in flight when the trace ended, of which the controller had taken notice.
  public let oldestUnfinished: [UnfinishedCommand]
  /// Events that a clock put before what must have come first; their times were moved to it.
  public let inversions: UInt64

  /// Commands in flight, over the time of the trace and including those that did not finish; 0 where nothing is known.
  public let queueDepthTimeWeighted: Double
  /// The most commands in flight at once, of those that the engine had fetched.
  public let queueDepthMax: UInt64

  /// Parts of a stage, kept apart: of detect, the time after the engine saw the doorbell; of complete, the time in which
  /// the completion queue had no room.
  public let turn: Distribution
  public let queueFull: Distribution
  /// Before the latency begins: the host hands over the command → writes the doorbell. Nil without a host stream.
  public let hostSubmit: Distribution?
  /// Commands that began with the engine's sight of the doorbell: the time since the poll before, in which it was
  /// written. Nil where the host's stream gave every begin.
  public let undetected: Distribution?

  /// Nil without commands.
  public let tail: Tail?
  public let ringWaits: UInt64
  public let ringWaitNs: UInt64
  /// Times that the engine polled nothing for long though it had nothing else to do: it had no core, or it napped.
  public let absences: UInt64
  public let absentNs: UInt64
  /// Events of kernel probes; not looked at where our endpoint is the subject.
  public let kernelEvents: UInt64
  public let subject: Subject
  /// Of commands of the kernel's PCI endpoint driver: how long they waited for a thread to run.
  public let hops: HopDistributions?
  /// Commands of the kernel's PCI endpoint driver for which it posted a second completion.
  public let completedTwice: UInt64
  /// Commands of it that were completed with no interrupt behind them, though others had one.
  public let unannounced: UInt64
  /// What recording the kernel cost; nil where the trace does not say.
  public let probes: ProbeCosts?
  /// The host's times in a merged trace are off by at most this, in nanoseconds; whoever read the trace's header says so.
  public var hostClockBoundNs: Double?

  public let grouping: Grouping?
  public let groups: [Group]

  /// Of the commands, those of which the host's stream gave the begin.
  public var commandsFromHost: UInt64 { hostSubmit?.count ?? 0 }
}

/// Distributions over a set of commands.
public struct Breakdown: Sendable {
  public let commands: UInt64
  /// Commands among them whose status is no success.
  public let failed: UInt64
  /// From the first begin to the last end, in nanoseconds.
  public let durationNs: UInt64
  public let bytesFromHost: UInt64
  public let bytesToHost: UInt64
  public let latency: Distribution
  /// In the order of `Stage`.
  public let stages: [Distribution]
  public let unexplained: Distribution

  public subscript(stage: Stage) -> Distribution { stages[stage.rawValue] }

  /// Commands per second; 0 where no time passed.
  public var iops: Double { durationNs == 0 ? 0 : Double(commands) * 1e9 / Double(durationNs) }

  /// Mean number of commands in flight, by Little's law: the sum of their times over the time they took together.
  public var queueDepth: Double { durationNs == 0 ? 0 : Double(latency.sumNs) / Double(durationNs) }
}

/// The commands of one queue or opcode.
public struct Group: Sendable {
  public let key: GroupKey
  public let breakdown: Breakdown
}

/// How long commands of the kernel's target waited for their host's doorbell and for threads to run.
public struct HopDistributions: Sendable {
  public let doorbell: Distribution
  public let dispatch: Distribution
  public let wakeUp: Distribution
  public let completion: Distribution
}

/// What probes cost while they recorded, by the kernel's own count.
public struct ProbeCosts: Sendable {
  public internal(set) var runs: UInt64 = 0
  /// In all, nanoseconds.
  public internal(set) var ns: UInt64 = 0
  /// The probe that cost the most in all.
  public internal(set) var dearest = ""
  public internal(set) var dearestNs: UInt64 = 0

  mutating func add(_ name: String, runs: UInt64, meanNs: UInt32) {
    let cost = runs.multipliedReportingOverflow(by: UInt64(meanNs))
    let ns = cost.overflow ? .max : cost.partialValue
    self.runs = self.runs.addingReportingOverflow(runs).overflow ? .max : self.runs + runs
    self.ns = self.ns.addingReportingOverflow(ns).overflow ? .max : self.ns + ns
    if ns > dearestNs { (dearest, dearestNs) = (name, ns) }
  }
}
