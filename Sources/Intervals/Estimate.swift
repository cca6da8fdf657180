/// A statistic of one side of a comparison, and how precisely it is known.
public struct Estimate: Sendable {
  /// Two-sided confidence of intervals, unless said otherwise.
  public static let confidence = 0.95

  public let value: Double
  /// Standard errors towards smaller and larger values: a quantile's differ.
  let below: Double
  let above: Double
  /// Degrees of freedom.
  let degrees: Double

  /// The interval that holds the true value with this confidence, by Student's t.
  public func interval(confidence: Double = Estimate.confidence) -> ClosedRange<Double> {
    let t = StudentT.quantile((1 + confidence) / 2, degrees: degrees)
    return (value - t * below)...(value + t * above)
  }

  /// The mean of independent runs, at least two.
  public init(runs: [Double]) {
    precondition(runs.count >= 2)
    let count = Double(runs.count)
    let mean = runs.reduce(0, +) / count
    let squares = runs.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    self.init(value: mean, error: (squares / (count - 1) / count).squareRoot(), degrees: count - 1)
  }

  init(value: Double, error: Double, degrees: Double) {
    self.init(value: value, below: error, above: error, degrees: degrees)
  }

  private init(value: Double, below: Double, above: Double, degrees: Double) {
    (self.value, self.below, self.above, self.degrees) = (value, below, above, degrees)
  }

  /// The value, known to lie in `interval` with the usual confidence.
  init(value: Double, interval: ClosedRange<Double>, degrees: Double) {
    let t = StudentT.quantile((1 + Estimate.confidence) / 2, degrees: degrees)
    self.init(
      value: value, below: max(0, value - interval.lowerBound) / t, above: max(0, interval.upperBound - value) / t,
      degrees: degrees)
  }

  /// A rate, from an interval of time; nil if that may be 0.
  public func inverse(of numerator: Double) -> Estimate? {
    let range = interval()
    guard range.lowerBound > 0, (numerator / range.lowerBound).isFinite else { return nil }
    return Estimate(
      value: numerator / value, interval: (numerator / range.upperBound)...(numerator / range.lowerBound),
      degrees: degrees)
  }

  /// The same statistic in another unit, or a share of it.
  public func scaled(by factor: Double) -> Estimate {
    Estimate(value: value * factor, below: below * factor, above: above * factor, degrees: degrees)
  }
}

/// The difference of two independent estimates, by Welch's t; where their errors differ towards smaller and larger
/// values, each end of the interval combines the errors that can move it there.
public struct Difference: Sendable {
  private let a: Estimate
  private let b: Estimate

  /// From `a` to `b`.
  public init(from a: Estimate, to b: Estimate) { (self.a, self.b) = (a, b) }

  public var value: Double { b.value - a.value }

  /// - Parameter confidence: two-sided; each end alone holds with half of the remaining doubt.
  public func interval(confidence: Double = Estimate.confidence) -> ClosedRange<Double> {
    let low = value - reach(b.below, a.above, confidence)
    let high = value + reach(b.above, a.below, confidence)
    return low...high
  }

  /// Welch and Satterthwaite.
  private func reach(_ errorB: Double, _ errorA: Double, _ confidence: Double) -> Double {
    let (varianceA, varianceB) = (errorA * errorA, errorB * errorB)
    let sum = varianceA + varianceB
    guard sum > 0 else { return 0 }
    let degrees = sum * sum / (varianceA * varianceA / a.degrees + varianceB * varianceB / b.degrees)
    return StudentT.quantile((1 + confidence) / 2, degrees: degrees.isFinite ? degrees : 1) * sum.squareRoot()
  }
}
