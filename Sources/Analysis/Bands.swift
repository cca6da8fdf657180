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
  /// Mean time in which nobody worked on the command, in nanoseconds.
  public let waitingMeanNs: Double

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

  /// A percentile says little that is supported by fewer commands beyond it.
  public static let commandsMin = 10.0
  static let limits = [0.5, 0.9, 0.99, 0.999]
}

/// Sums of stage times by total time. They separate the commands between two percentiles from the others afterwards, in
/// memory independent of their number.
struct BandTable {
  private struct Bucket {
    var count: UInt64 = 0
    var total: UInt128 = 0
    var unexplained: UInt128 = 0
    var waiting: UInt128 = 0
    var stages = InlineArray<11, UInt128>(repeating: 0)
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
    buckets[index].waiting += UInt128(times.waiting.sum)
    for stage in 0..<Stage.count { buckets[index].stages[stage] += UInt128(times.stages[stage]) }
  }

  /// - Parameter median: of all latencies, in nanoseconds.
  /// - Returns: nil without commands.
  func bands(median: UInt64) -> Bands? {
    guard let typical = band(from: 0.45, upTo: 0.55) else { return nil }
    let commands = buckets.reduce(0) { $0 + Double($1.count) }
    let limits = [0] + Bands.limits.filter { commands * (1 - $0) >= Bands.commandsMin } + [1]
    let all = zip(limits, limits.dropFirst()).compactMap(band)
    let tail = band(from: 0.99, upTo: 1)
    let (count, total) = sums(above: 0)
    let slow = sums(above: min(median, .max / 10) * 10)
    return Bands(
      typical: typical, all: all,
      tail: tail.flatMap { $0.commands >= Bands.commandsMin ? $0 : nil },
      slowShare: count > 0 ? slow.count / count : 0, slowTimeShare: total > 0 ? slow.total / total : 0)
  }

  /// Commands that take longer, as far as whole buckets tell, and their total time.
  private func sums(above time: UInt64) -> (count: Double, total: Double) {
    var (count, total) = (0.0, 0.0)
    for index in buckets.indices where time == 0 || TimeBuckets.lowerBound(index) > time {
      count += Double(buckets[index].count)
      total += Double(buckets[index].total)
    }
    return (count, total)
  }

  /// Of a bucket that a limit divides, each side gets its share of the commands, at the bucket's mean.
  private func band(from: Double, upTo: Double) -> Band? {
    let count = buckets.reduce(0) { $0 + Double($1.count) }
    let (first, last) = (from * count, upTo * count)
    var (rank, commands, total, unexplained, waiting) = (0.0, 0.0, 0.0, 0.0, 0.0)
    var stages = [Double](repeating: 0, count: Stage.count)
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
      waiting += Double(bucket.waiting) * share
      for stage in 0..<Stage.count { stages[stage] += Double(bucket.stages[stage]) * share }
      fromNs = fromNs ?? TimeBuckets.lowerBound(index)
    }
    guard commands > 0, let fromNs else { return nil }
    return Band(
      from: from, upTo: upTo, commands: commands, fromNs: fromNs, latencyMeanNs: total / commands,
      stageMeansNs: stages.map { $0 / commands }, unexplainedMeanNs: unexplained / commands,
      waitingMeanNs: waiting / commands)
  }
}
