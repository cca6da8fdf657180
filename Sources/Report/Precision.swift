import Analysis
import Intervals
import Text

/// How precisely a recording shows its own statistics.
enum Precision {
  /// Nil with too few commands to tell.
  static func sentence(_ io: Breakdown) -> String? {
    guard let estimates = io.latency.estimates, io.latency.meanNs > 0 else { return nil }
    let mean = estimates.mean.interval()
    let half = (mean.upperBound - mean.lowerBound) / 2
    var text = "With 95% confidence the mean latency is \(Quantity.time(io.latency.meanNs)) ± \(Quantity.time(half))"
    if let median = estimates[.p50]?.interval() {
      text +=
        ", and the median lies between \(Quantity.time(median.lowerBound)) and \(Quantity.time(median.upperBound))"
    }
    return text + (rivals(io).map { "; whether \($0) takes longer cannot be separated from noise." } ?? ".")
  }

  /// The two stages with the largest means, if it is not certain which is larger.
  private static func rivals(_ io: Breakdown) -> String? {
    let stages = Stage.allCases.sorted { io[$0].meanNs > io[$1].meanNs }
    guard let first = io[stages[0]].estimates?.mean, let second = io[stages[1]].estimates?.mean, second.value > 0,
      Difference(from: second, to: first).interval().contains(0)
    else { return nil }
    return "\(stages[0].name) or \(stages[1].name)"
  }
}

extension Distribution {
  /// The 95% intervals of its mean and its median, as members of a JSON object; none with too few commands to tell.
  var intervals: [(String, JSON)] {
    func range(_ name: String, _ estimate: Estimate?) -> [(String, JSON)] {
      guard let range = estimate?.interval() else { return [] }
      return [("\(name)_low_ns", .number(range.lowerBound)), ("\(name)_high_ns", .number(range.upperBound))]
    }
    return range("mean", estimates?.mean) + range("p50", estimates?[.p50])
  }
}
