import Histogram

/// Distribution of a time over commands, in nanoseconds.
public struct Distribution: Sendable {
  /// Number of values.
  public let count: UInt64
  /// Exact.
  public let sumNs: UInt128
  /// Nearest rank, to three significant digits; for groups, to two.
  public let p50Ns: UInt64
  public let p99Ns: UInt64
  public let p999Ns: UInt64
  /// Exact.
  public let maxNs: UInt64

  /// 0 if there are no commands.
  public var meanNs: Double { count == 0 ? 0 : Double(sumNs) / Double(count) }

  /// This time as a share of `whole`, 0...1.
  public func share(of whole: Distribution) -> Double {
    whole.sumNs == 0 ? 0 : Double(sumNs) / Double(whole.sumNs)
  }
}

/// Collects times in memory that depends on their magnitude, not their number.
struct DistributionRecorder {
  private var sum: UInt128 = 0
  private var histogram: Histogram<UInt64>

  /// - Parameter isCoarse: two significant digits in an eighth of the memory, for large numbers of distributions.
  init(isCoarse: Bool = false) { histogram = Histogram(numberOfSignificantValueDigits: isCoarse ? .two : .three) }

  /// - Parameter time: nanoseconds, at most `StageAnalyzer.timeMax`.
  @inline(__always)
  mutating func record(_ time: UInt64) {
    sum += UInt128(time)
    histogram.record(time)
  }

  var distribution: Distribution {
    Distribution(
      count: histogram.totalCount, sumNs: sum, p50Ns: histogram.valueAtPercentile(50),
      p99Ns: histogram.valueAtPercentile(99), p999Ns: histogram.valueAtPercentile(99.9), maxNs: histogram.maxRecorded)
  }
}
