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
    /// The part of a stage in which nobody worked on the command, and the rest.
    case waiting(in: Stage)
    case service(Stage)
    /// All waiting.
    case totalWaiting
    /// Latency outside all stages.
    case unexplained
  }

  public let subject: Subject
  /// Nil for the mean.
  public let quantile: Quantile?

  public init(_ subject: Subject, _ quantile: Quantile? = nil) { (self.subject, self.quantile) = (subject, quantile) }

  /// From its name: `iops`, `mean`, `p99.9`, `execute` (its mean), `execute.p99`, `detect.waiting`, `detect.waiting.p99`,
  /// `detect.service` (no quantile of it is known).
  public init?(_ name: some StringProtocol) {
    if name == "iops" {
      self.init(.iops)
    } else if let measure = Statistic.measure(name) {
      self.init(.latency, measure.quantile)
    } else {
      // The longest first: one name may begin with another.
      let subjects = Statistic.parts.filter { name == $0.name || name.hasPrefix($0.name + ".") }
      guard let (subject, partName) = subjects.max(by: { $0.name.count < $1.name.count }),
        let measure = Statistic.measure(name == partName ? "mean" : name.dropFirst(partName.count + 1))
      else { return nil }
      if case .service = subject, measure.quantile != nil { return nil }
      self.init(subject, measure.quantile)
    }
  }

  /// What has a time of its own, with its name.
  private static let parts: [(subject: Subject, name: String)] =
    ([.totalWaiting, .unexplained]
    + Stage.allCases.flatMap { [.stage($0), .waiting(in: $0), .service($0)] }).map { ($0, Statistic.name(of: $0)) }

  private static func name(of subject: Subject) -> String {
    switch subject {
    case .iops: "iops"
    case .latency: "mean"
    case .stage(let stage): stage.name
    case .waiting(let stage): stage.name + ".waiting"
    case .service(let stage): stage.name + ".service"
    case .totalWaiting: "waiting"
    case .unexplained: "unexplained"
    }
  }

  private static func measure(_ name: some StringProtocol) -> (quantile: Quantile?, Void)? {
    if name == "mean" { return (nil, ()) }
    return Quantile.allCases.first { $0.name == name }.map { ($0, ()) }
  }

  /// As `init` reads it.
  public var name: String {
    guard let quantile else { return Statistic.name(of: subject) }
    return subject == .latency ? quantile.name : "\(Statistic.name(of: subject)).\(quantile.name)"
  }

  /// Its value; nil where too few commands support it.
  func value(in breakdown: Breakdown) -> Double? {
    if case .service(let stage) = subject { return breakdown.serviceMeanNs(stage) }
    guard let distribution = distribution(in: breakdown) else { return breakdown.iops > 0 ? breakdown.iops : nil }
    guard let quantile else { return distribution.meanNs }
    return distribution[quantile].map { Double($0) }
  }

  /// Its value with its precision in one recording; nil where that is unknown.
  func estimate(in breakdown: Breakdown) -> Estimate? {
    if case .service(let stage) = subject {
      guard let split = breakdown.splits[stage.rawValue] else { return breakdown[stage].estimates?.mean }
      return split.service
    }
    guard let distribution = distribution(in: breakdown) else { return breakdown.iopsEstimate }
    guard let quantile else { return distribution.estimates?.mean }
    return distribution.estimates?[quantile]
  }

  /// The distribution of its subject; IOPS and service have none.
  private func distribution(in breakdown: Breakdown) -> Distribution? {
    switch subject {
    case .iops, .service: nil
    case .latency: breakdown.latency
    case .totalWaiting: breakdown.waiting
    case .waiting(let stage): breakdown.waiting(in: stage)
    case .stage(let stage): breakdown[stage]
    case .unexplained: breakdown.unexplained
    }
  }
}
