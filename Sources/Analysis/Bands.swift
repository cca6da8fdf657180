import Intervals

/// The commands between two percentiles of their latency, and how they spent it.
public struct Band: Sendable {
  /// Fractions of the commands, 0...1, from the fastest.
  public let from: Double
  public let upTo: Double
  /// Their number; a fraction where a percentile falls between commands of about the same latency.
  public let commands: Double
  /// Latency of the fastest of them, in nanoseconds, accurate to one part in 128.
  public let fromNs: UInt64
  /// Mean latency, in nanoseconds.
  public let latencyMeanNs: Double
  /// Mean stage times, in nanoseconds, in the order of `Stage`, and the time between stages.
  public let stageMeansNs: [Double]
  public let unexplainedMeanNs: Double
  /// Mean waiting in each stage, in nanoseconds, in the order of `Stage`.
  public let waitingMeansNs: [Double]
  /// What the engine's thread did meanwhile: means in nanoseconds, in the order of `Activity`.
  public let behindMeansNs: [Double]

  /// What the host's thread did while they waited for it: means in nanoseconds, in the order of `HostState`.
  public let behindHostMeansNs: [Double]

  /// Mean time in which nobody worked on the command, in nanoseconds.
  public var waitingMeanNs: Double { waitingMeansNs.reduce(0, +) }

  public func meanNs(_ stage: Stage) -> Double { stageMeansNs[stage.rawValue] }
}

/// How latency is distributed over the commands, fastest first.
public struct Bands: Sendable {
  /// The commands around the median: from the 45th percentile to the 55th.
  public let typical: Band
  /// Up to the 50th, 90th, 99th, 99.9th percentile, as far as ten commands or more are beyond it, and the rest.
  public let all: [Band]
  /// The slowest hundredth; nil with fewer than ten commands.
  public let tail: Band?
  /// Commands that took more than ten times the median, as a share of all, and their share of the time.
  public let slowShare: Double
  public let slowTimeShare: Double
}

/// Sums of stage times by total time. They separate the commands between two percentiles from the others afterwards, in
/// memory independent of their number.
struct BandTable {
  private struct Bucket {
    var count: UInt64 = 0
    var total: UInt128 = 0
    var unexplained: UInt128 = 0
    var stages = InlineArray<11, UInt128>(repeating: 0)
    var waiting = InlineArray<11, UInt128>(repeating: 0)
    var behind = InlineArray<11, UInt128>(repeating: 0)
    var behindHost = InlineArray<3, UInt128>(repeating: 0)
  }

  /// By `TimeBuckets.index`.
  private var buckets: [Bucket] = []

  mutating func record(_ times: borrowing CommandTimes) {
    let index = TimeBuckets.index(of: times.total)
    if index >= buckets.count {
      buckets.append(contentsOf: repeatElement(Bucket(), count: index + 1 - buckets.count))
    }
    buckets[index].count += 1
    buckets[index].total += UInt128(times.total)
    buckets[index].unexplained += UInt128(times.unexplained)
    for stage in Stage.allCases {
      buckets[index].stages[stage.rawValue] += UInt128(times.stages[stage])
      buckets[index].waiting[stage.rawValue] += UInt128(times.waiting[stage])
    }
    for activity in Activity.allCases { buckets[index].behind[activity.rawValue] += UInt128(times.behind[activity]) }
    for state in HostState.allCases { buckets[index].behindHost[state.rawValue] += UInt128(times.behindHost[state]) }
  }

  /// - Parameter median: of all latencies, in nanoseconds.
  /// - Returns: nil without commands.
  func bands(median: UInt64) -> Bands? {
    guard let typical = band(from: 0.45, upTo: 0.55) else { return nil }
    let limits = [0] + Quantile.allCases.filter { $0.isSupported(by: count) }.map(\.probability) + [1]
    // Slow are those beyond ten times the median, as far as whole buckets tell.
    let slow = buckets.indices.filter { TimeBuckets.lowerBound($0) > min(median, .max / 10) * 10 }.map { buckets[$0] }
    let total = Double(buckets.reduce(0) { $0 + $1.total })
    return Bands(
      typical: typical, all: zip(limits, limits.dropFirst()).compactMap(band),
      tail: Quantile.p99.isSupported(by: count) ? band(from: Quantile.p99.probability, upTo: 1) : nil,
      slowShare: Double(slow.reduce(0) { $0 + $1.count }) / Double(count),
      slowTimeShare: total == 0 ? 0 : Double(slow.reduce(0) { $0 + $1.total }) / total)
  }

  private var count: UInt64 { buckets.reduce(0) { $0 + $1.count } }

  /// Of a bucket that a limit divides, each side gets its share of the commands, at the bucket's mean.
  private func band(from: Double, upTo: Double) -> Band? {
    let (first, last) = (from * Double(count), upTo * Double(count))
    var (rank, commands, total, unexplained) = (0.0, 0.0, 0.0, 0.0)
    var (stages, waiting, behind, behindHost) = (MeanTimes(), MeanTimes(), MeanTimes(), MeanTimes())
    var fromNs: UInt64?
    for index in buckets.indices where buckets[index].count > 0 {
      let bucket = buckets[index]
      let here = Double(bucket.count)
      let inside = min(rank + here, last) - max(rank, first)
      rank += here
      guard inside > 0 else { continue }
      let share = inside / here
      commands += inside
      total += Double(bucket.total) * share
      unexplained += Double(bucket.unexplained) * share
      stages.add(bucket.stages, share)
      waiting.add(bucket.waiting, share)
      behind.add(bucket.behind, share)
      behindHost.add(bucket.behindHost, share)
      fromNs = fromNs ?? TimeBuckets.lowerBound(index)
    }
    guard commands > 0, let fromNs else { return nil }
    return Band(
      from: from, upTo: upTo, commands: commands, fromNs: fromNs, latencyMeanNs: total / commands,
      stageMeansNs: stages.over(commands), unexplainedMeanNs: unexplained / commands,
      waitingMeansNs: waiting.over(commands), behindMeansNs: behind.over(commands),
      behindHostMeansNs: behindHost.over(commands))
  }
}

/// Sums of the times of commands, one per stage, activity or state.
private struct MeanTimes {
  private var sums: [Double] = []

  mutating func add<let count: Int>(_ times: borrowing InlineArray<count, UInt128>, _ share: Double) {
    if sums.isEmpty { sums = [Double](repeating: 0, count: count) }
    for index in sums.indices { sums[index] += Double(times[index]) * share }
  }

  func over(_ commands: Double) -> [Double] { sums.map { $0 / commands } }
}
