import Analysis
import Intervals

/// A number that recordings can be compared by.
public struct Statistic: Hashable, Sendable {
  /// What it is about.
  public enum Subject: Hashable, Sendable {
    /// Commands per second.
    case iops
    case latency
    case stage(Stage)
    /// Latency outside all stages.
    case unexplained
  }

  public let subject: Subject
  /// Nil for the mean.
  public let quantile: Quantile?

  public init(_ subject: Subject, _ quantile: Quantile? = nil) { (self.subject, self.quantile) = (subject, quantile) }

  /// From its name: `iops`, `mean`, `p99.9`, `execute` (its mean), `execute.p99`.
  public init?(_ name: some StringProtocol) {
    if name == "iops" {
      self.init(.iops)
    } else if let measure = Statistic.measure(name) {
      self.init(.latency, measure.quantile)
    } else {
      let dot = name.firstIndex(of: ".")
      guard let subject = Statistic.part(name[..<(dot ?? name.endIndex)]),
        let measure = Statistic.measure(dot.map { name[name.index(after: $0)...] } ?? "mean")
      else { return nil }
      self.init(subject, measure.quantile)
    }
  }

  private static func measure(_ name: some StringProtocol) -> (quantile: Quantile?, Void)? {
    if name == "mean" { return (nil, ()) }
    return Quantile.allCases.first { $0.name == name }.map { ($0, ()) }
  }

  private static func part(_ name: some StringProtocol) -> Subject? {
    if name == "unexplained" { return .unexplained }
    return Stage.allCases.first { $0.name == name }.map(Subject.stage)
  }

  /// As `init` reads it.
  public var name: String {
    let measure = quantile?.name
    switch subject {
    case .iops: return "iops"
    case .latency: return measure ?? "mean"
    case .stage(let stage): return stage.name + (measure.map { ".\($0)" } ?? "")
    case .unexplained: return "unexplained" + (measure.map { ".\($0)" } ?? "")
    }
  }

  /// Its value; nil where too few commands support it.
  func value(in breakdown: Breakdown) -> Double? {
    guard let distribution = distribution(in: breakdown) else { return breakdown.iops > 0 ? breakdown.iops : nil }
    guard let quantile else { return distribution.meanNs }
    return distribution[quantile].map { Double($0) }
  }

  /// Its value with its precision in one recording; nil where that is unknown.
  func estimate(in breakdown: Breakdown) -> Estimate? {
    guard let distribution = distribution(in: breakdown) else { return breakdown.iopsEstimate }
    guard let quantile else { return distribution.estimates?.mean }
    return distribution.estimates?[quantile]
  }

  /// Nil for `iops`.
  private func distribution(in breakdown: Breakdown) -> Distribution? {
    switch subject {
    case .iops: nil
    case .latency: breakdown.latency
    case .stage(let stage): breakdown[stage]
    case .unexplained: breakdown.unexplained
    }
  }
}
