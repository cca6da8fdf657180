/// What the driver did for one controller, from its first I/O command to the end of the last one.
public struct DriverUse: Sendable {
  /// What CPUs did while the finished I/O commands waited.
  public let waits: DriverWaits
  /// By number.
  public let cpus: [CPUUse]
  /// In the order of `Channel`.
  public let channels: [ChannelUse]
  /// Workers of the controller with an open work item: at a time, and at most.
  public let workersMean: Double
  public let workersMax: UInt64
  /// Nanoseconds.
  public let durationNs: UInt64

  /// As a share of the time.
  public func share(of ns: UInt64) -> Double { durationNs == 0 ? 0 : Double(ns) / Double(durationNs) }
}

/// What a CPU did.
public struct CPUUse: Sendable {
  public let cpu: UInt16
  /// Of all controllers.
  public let times: DriverTimes

  /// It certainly worked: where a worker waits for the backend, or to be scheduled, the CPU may do anything.
  public var busyNs: UInt64 { times.work &- times[.execute] &- times[.wakeUp] }
  /// The activity other than those that keeps it busy longest.
  public var largest: DriverActivity {
    DriverActivity.allCases.filter { $0.isWork && $0 != .execute && $0 != .wakeUp }.max { times[$0] < times[$1] }!
  }
}

/// What one transfer at a time can use, because the driver holds a lock meanwhile.
public enum Channel: Int, CaseIterable, Sendable {
  /// A DMA channel of each direction.
  case fromHost, toHost
  /// The outbound window of transfers without DMA.
  case window

  static let count = 3
}

/// Transfers through a channel.
public struct ChannelUse: Sendable {
  public private(set) var transfers: UInt64 = 0
  /// Nanoseconds in which one of them had the channel.
  public private(set) var busyNs: UInt64 = 0
  /// How many found the channel occupied, and for how many nanoseconds together.
  public private(set) var waits: UInt64 = 0
  public private(set) var waitNs: UInt64 = 0
  /// Nanoseconds before this time do not count.
  private var since: UInt64 = 0
  /// When the latest one began to have the channel, after how much of a wait, and when it ended.
  private var latest: (from: UInt64, wait: UInt64) = (0, 0)
  private var until: UInt64 = 0

  /// A transfer ended at `time`; it began `span` before, or waited since then.
  /// - Returns: how long it waited.
  mutating func add(until time: UInt64, span: UInt32) -> UInt64 {
    let begin = time - min(UInt64(span), time)
    let wait = min(until, time) - min(begin, until, time)
    latest = (begin + wait, wait)
    until = max(until, time)
    countLatest()
    return wait
  }

  private mutating func countLatest() {
    transfers &+= 1
    busyNs &+= until - min(max(latest.from, since), until)
    waits &+= latest.wait > 0 ? 1 : 0
    waitNs &+= latest.wait
  }

  /// Count anew from `begin` on. Of the transfers so far, the latest counts if it ended since then.
  mutating func restart(since begin: UInt64) {
    let (latest, until) = (latest, until)
    self = ChannelUse()
    (since, self.latest, self.until) = (begin, latest, until)
    if until > begin { countLatest() }
  }

  /// The next transfer waits for none that are known.
  mutating func forget() { until = 0 }
}
