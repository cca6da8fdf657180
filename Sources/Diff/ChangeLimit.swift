import Analysis
import Intervals

/// A change that must not happen, such as `p99 > +5%`.
public struct ChangeLimit: Sendable {
  /// Whether the change happened.
  public enum Verdict: String, Sendable {
    /// It did, with confidence.
    case exceeded
    /// It did not.
    case notExceeded = "not exceeded"
    /// The recordings cannot tell.
    case unknown
  }

  public let statistic: Statistic
  /// The limit is exceeded above the change, else below it.
  public let isAbove: Bool
  /// Relative to A: 0.05 is +5%.
  public let share: Double
  /// As it was given.
  public let text: String

  /// - Parameter text: `STATISTIC > PERCENT%` or `STATISTIC < PERCENT%`, with or without spaces; nil if it is not.
  public init?(_ text: String) {
    guard let sign = text.firstIndex(where: { $0 == ">" || $0 == "<" }) else { return nil }
    let name = text[..<sign].filter { $0 != " " }
    let limit = text[text.index(after: sign)...].filter { $0 != " " }
    guard limit.last == "%", let statistic = Statistic(name), let percent = Double(limit.dropLast()),
      percent > -100, percent <= 1_000_000
    else { return nil }
    (self.statistic, isAbove, share, self.text) = (statistic, text[sign] == ">", percent / 100, text)
  }

  /// - Parameter count: how many limits are judged together; each alone is judged more strictly, so that a comparison of
  ///   equals exceeds any of them in at most one case of forty.
  public func verdict(_ comparison: Comparison, amongst count: Int) -> Verdict {
    let change = comparison.change(of: statistic)
    guard let a = change.estimateA, let b = change.estimateB else { return .unknown }
    let confidence = 1 - (1 - Estimate.confidence) / Double(max(1, count))
    let excess = Difference(from: a.scaled(by: 1 + share), to: b).interval(confidence: confidence)
    if isAbove ? excess.lowerBound > 0 : excess.upperBound < 0 { return .exceeded }
    return (isAbove ? excess.upperBound <= 0 : excess.lowerBound >= 0) ? .notExceeded : .unknown
  }
}
