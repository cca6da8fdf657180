import Analysis
import Intervals

/// Compares recordings of two sides, A and B. With one recording of each, the spread between its batches of commands
/// says how precise a statistic is; with several of each, only the spread between recordings counts.
public struct Comparison: Sendable {
  /// One statistic of both sides.
  public struct Change: Sendable {
    public let statistic: Statistic
    /// Means over a side's recordings; nil where a recording has too few commands.
    public let a: Double?
    public let b: Double?
    /// The same with their precision, where that is known.
    public let estimateA: Estimate?
    public let estimateB: Estimate?
    /// From A to B; nil where a side's precision is unknown.
    public let difference: Difference?
    /// Two-sided, of `interval`.
    let confidence: Double

    /// Where the difference lies: the intervals of all rows together hold with 95% confidence.
    public var interval: ClosedRange<Double>? { difference?.interval(confidence: confidence) }

    /// The difference is not only noise.
    public var isSeparated: Bool { interval.map { !$0.contains(0) } ?? false }

    /// The difference as a share of A.
    public var share: Double? {
      guard let a, let b, a != 0 else { return nil }
      return (b - a) / a
    }

    /// B is worse than A, if the difference is not only noise.
    public var isWorse: Bool {
      guard let a, let b, isSeparated else { return false }
      return statistic.subject == .iops ? b < a : b > a
    }
  }

  private let a: [Breakdown]
  private let b: [Breakdown]
  /// The rate, the latency and its quantiles; then the mean of each stage that takes time, followed by those of its service
  /// and its waiting if commands waited in it. Their intervals hold together.
  public private(set) var totals: [Change] = []
  public private(set) var parts: [Change] = []

  /// Those of `parts` that add up to the latency: no stage beside its service and waiting.
  public var summands: [Change] {
    let split = Set(parts.compactMap { if case .service(let stage) = $0.statistic.subject { stage } else { nil } })
    return parts.filter { part in
      if case .stage(let stage) = part.statistic.subject { !split.contains(stage) } else { true }
    }
  }

  /// - Parameters:
  ///   - a: recordings of the first side.
  ///   - b: recordings of the second side; one of each, or at least two of each.
  public init(_ a: [Breakdown], _ b: [Breakdown]) {
    precondition(!a.isEmpty && !b.isEmpty && (a.count > 1) == (b.count > 1))
    (self.a, self.b) = (a, b)
    let totals = [Statistic(.iops), Statistic(.latency)] + Quantile.allCases.map { Statistic(.latency, $0) }
    let candidates = Stage.allCases.flatMap { stage in
      let waits = (a + b).contains { $0.waitingMeanNs(stage) > 0 }
      return (waits ? [.stage(stage), .service(stage), .waiting(in: stage)] : [.stage(stage)]).map { Statistic($0) }
    }
    let parts = (candidates + [Statistic(.unexplained)]).filter { part in
      // All of a stage may be waiting.
      if case .service = part.subject { return true }
      return (a + b).contains { part.value(in: $0) != 0 }
    }
    let compared = (totals + parts).filter { change(of: $0).difference != nil }.count
    let confidence = 1 - (1 - Estimate.confidence) / Double(max(1, compared))
    self.totals = totals.map { change(of: $0, confidence: confidence) }
    self.parts = parts.map { change(of: $0, confidence: confidence) }
  }

  /// Each side has several recordings, so the spread between them counts.
  public var hasRuns: Bool { a.count > 1 }

  /// - Parameter confidence: two-sided, of its interval.
  public func change(of statistic: Statistic, confidence: Double = Estimate.confidence) -> Change {
    let (estimateA, estimateB) = (estimate(of: statistic, in: a), estimate(of: statistic, in: b))
    var difference: Difference?
    if let estimateA, let estimateB { difference = Difference(from: estimateA, to: estimateB) }
    return Change(
      statistic: statistic, a: value(of: statistic, in: a), b: value(of: statistic, in: b), estimateA: estimateA,
      estimateB: estimateB, difference: difference, confidence: confidence)
  }

  private func values(of statistic: Statistic, in side: [Breakdown]) -> [Double]? {
    let values = side.compactMap(statistic.value)
    return values.count == side.count ? values : nil
  }

  private func value(of statistic: Statistic, in side: [Breakdown]) -> Double? {
    values(of: statistic, in: side).map { $0.reduce(0, +) / Double($0.count) }
  }

  private func estimate(of statistic: Statistic, in side: [Breakdown]) -> Estimate? {
    guard side.count > 1 else { return statistic.estimate(in: side[0]) }
    return values(of: statistic, in: side).map(Estimate.init(runs:))
  }
}
