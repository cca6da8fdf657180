import Chance
import Foundation
import Testing

@testable import Analysis
@testable import Diff
@testable import Intervals

/// Commands whose times resemble those of their neighbours, as on a busy machine: execution wanders, and now and then a
/// burst of commands waits.
private struct Series {
  var random: SeededGenerator
  /// Mean time of execution in nanoseconds.
  var executeNs = 50_000.0
  private var wander = 0.0
  private var burst = 0

  init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  private mutating func normal() -> Double {
    let (u, v) = (Double.random(in: Double.ulpOfOne...1, using: &random), Double.random(in: 0..<1, using: &random))
    return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
  }

  static let count = 2000

  /// Statistics of commands that follow each other.
  mutating func breakdown() -> Breakdown {
    var (latency, detect, execute) = (Times(), Times(), Times())
    var spacing = BatchRecorder()
    for _ in 0..<Series.count {
      wander = 0.8 * wander + 0.6 * normal()
      burst = burst > 0 ? burst - 1 : Double.random(in: 0..<1, using: &random) < 0.002 ? 5 : 0
      let wait: UInt64 = burst > 0 ? .random(in: 100_000...300_000, using: &random) : 500
      let work = UInt64(max(0, executeNs * (1 + 0.07 * wander)))
      detect.record(wait)
      execute.record(work)
      latency.record(wait + work)
      spacing.record(wait + work + 200)
    }
    var stages = [Distribution](repeating: Times.zero, count: Stage.count)
    stages[Stage.detect.rawValue] = detect.distribution
    stages[Stage.execute.rawValue] = execute.distribution
    let all = latency.distribution
    let durationNs = UInt64(all.sumNs) + 200 * UInt64(Series.count)
    return Breakdown(
      commands: UInt64(Series.count), failed: 0, durationNs: durationNs, bytesFromHost: 0, bytesToHost: 0, latency: all,
      stages: stages, unexplained: Times.zero,
      iopsEstimate: spacing.batches?.mean(Double(durationNs) / Double(Series.count)).inverse(of: 1e9),
      waiting: Times.zero, splits: [Split?](repeating: nil, count: Stage.count),
      behindMeansNs: [Double](repeating: 0, count: Activity.count), behindHostMeansNs: [0, 0, 0])
  }
}

/// A `DistributionRecorder` whose quantiles are exact; without optimisation its histogram takes minutes for this test.
private struct Times {
  private var values: [UInt64] = []
  private var batches = BatchRecorder()

  static let zero: Distribution = {
    var times = Times()
    for _ in 0..<Series.count { times.record(0) }
    return times.distribution
  }()

  mutating func record(_ time: UInt64) {
    values.append(time)
    batches.record(time)
  }

  var distribution: Distribution {
    let sorted = values.sorted()
    let sum = values.reduce(0, +)
    func at(_ probability: Double) -> UInt64 {
      sorted[max(0, Int((probability * Double(sorted.count)).rounded(.up)) - 1)]
    }
    let all = batches.batches!
    return Distribution(
      count: UInt64(values.count), having: UInt64(values.count), sumNs: UInt128(sum), p50Ns: at(0.5), p90Ns: at(0.9),
      p99Ns: at(0.99),
      p999Ns: at(0.999), maxNs: sorted.last!,
      estimates: Distribution.Estimates(
        mean: all.mean(Double(sum) / Double(values.count)),
        quantiles: Quantile.allCases.map {
          $0.isSupported(by: UInt64(values.count)) ? all.quantile($0.probability, of: at) : nil
        }))
  }
}

@Suite("Comparisons")
struct ComparisonTests {
  private static let limits = [
    "mean > +0%", "p50 > +0%", "p99 > +0%", "iops < -0%", "execute > +0%", "execute.p90 > +0%",
  ]

  @Test("comparisons of equals alarm in at most 5% of 200 pairs, and an added 5% is found in at least 95%")
  func alarms() throws {
    let limits = try ComparisonTests.limits.map { try #require(ChangeLimit($0)) }
    var falseAlarms = [String: Int]()
    var found = [String: Int]()
    for seed in 1...200 as ClosedRange<UInt64> {
      var (a, b, c) = (Series(seed: 3 * seed), Series(seed: 3 * seed + 1), Series(seed: 3 * seed + 2))
      c.executeNs *= 1.05
      let (before, equal, slower) = (a.breakdown(), b.breakdown(), c.breakdown())
      let (equals, change) = (Comparison([before], [equal]), Comparison([before], [slower]))
      for limit in limits where equals.verdict(limit) == .exceeded { falseAlarms[limit.text, default: 0] += 1 }
      for limit in limits where change.verdict(limit) == .exceeded { found[limit.text, default: 0] += 1 }
      if (equals.totals + equals.parts).contains(where: \.isSeparated) { falseAlarms["table", default: 0] += 1 }
      let execute = change.parts.first { $0.statistic == Statistic(.stage(.execute)) }
      if execute?.isSeparated == true { found["table", default: 0] += 1 }
    }
    for (what, count) in falseAlarms { #expect(count <= 10, "\(what): \(falseAlarms)") }
    for what in ["execute > +0%", "table"] { #expect(found[what, default: 0] >= 190, "\(what): \(found)") }
  }

  @Test("a limit is exceeded, not exceeded, or unknown")
  func verdicts() throws {
    var (a, b) = (Series(seed: 1), Series(seed: 2))
    b.executeNs *= 1.2
    let comparison = Comparison([a.breakdown()], [b.breakdown()])
    func verdict(_ text: String) throws -> ChangeLimit.Verdict { comparison.verdict(try #require(ChangeLimit(text))) }
    #expect(try verdict("execute > +10%") == .exceeded)
    #expect(try verdict("execute>40%") == .notExceeded)
    #expect(try verdict("execute > 20%") == .unknown)
    #expect(try verdict("iops < -5%") == .exceeded)
    #expect(try verdict("iops < -40%") == .notExceeded)
    #expect(try verdict("detect < -90%") == .notExceeded)
    // Nothing is in this stage, before and after.
    #expect(try verdict("reap > 5%") == .notExceeded)
    // Two of 2,000 commands lie beyond.
    #expect(try verdict("p99.9 > 5%") == .unknown)
  }

  @Test("with several runs the spread between them decides")
  func runs() throws {
    func side(_ means: [Double], _ seed: UInt64) -> [Breakdown] {
      means.enumerated().map { index, mean in
        var series = Series(seed: seed + UInt64(index))
        series.executeNs = mean
        return series.breakdown()
      }
    }
    let execute = Statistic(.stage(.execute))
    // Any two of these recordings differ beyond their own noise, but runs of one side differ as much.
    let wide = Comparison(side([45_000, 50_000, 56_000], 1), side([52_000, 47_000, 58_000], 11))
    #expect(wide.hasRuns && !wide.change(of: execute).isSeparated)
    let single = Comparison(side([45_000], 1), side([52_000], 11))
    #expect(!single.hasRuns && single.change(of: execute).isSeparated)
    let narrow = Comparison(side([50_000, 50_100, 49_900], 1), side([60_000, 60_100, 59_900], 11)).change(of: execute)
    #expect(narrow.isSeparated && narrow.isWorse)
  }

  @Test("names of statistics are read as they are written")
  func names() {
    let all =
      [Statistic(.iops), Statistic(.latency), Statistic(.latency, .p999), Statistic(.unexplained, .p50)]
      + [Statistic(.totalWaiting), Statistic(.totalWaiting, .p50)]
      + Stage.allCases.flatMap { [Statistic(.stage($0)), Statistic(.stage($0), .p99), Statistic(.service($0))] }
      + Stage.allCases.flatMap { [Statistic(.waiting(in: $0)), Statistic(.waiting(in: $0), .p99)] }
    for statistic in all { #expect(Statistic(statistic.name) == statistic) }
    #expect(Statistic("data-in.p99.9") == Statistic(.stage(.dataIn), .p999))
    for name in [
      "", "p", "p98", "iops.p99", "execute.", ".p99", "execute.max", "Execute", "execute.service.p99", "service",
    ] {
      #expect(Statistic(name) == nil, "\(name)")
    }
  }

  @Test(
    "what is no limit is refused",
    arguments: [
      "", "p99", "p99 > 5", "p99 >", "p99 = 5%", "> 5%", "p99 > five%", "p99 > nan%", "p99 > -100%", "p99 > inf%",
    ])
  func refusedLimits(text: String) { #expect(ChangeLimit(text) == nil) }
}

extension Comparison {
  fileprivate func verdict(_ limit: ChangeLimit) -> ChangeLimit.Verdict { limit.verdict(self, amongst: 1) }
}
