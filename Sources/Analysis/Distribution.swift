import Histogram

/// How a time was distributed over commands. All times in nanoseconds.
public struct Distribution: Sendable {
  public let count: UInt64
  /// Exact.
  public let sumNs: UInt128
  /// Nearest rank, to three significant digits; of a group's commands, to two.
  public let p50Ns: UInt64
  public let p99Ns: UInt64
  public let p999Ns: UInt64
  /// Exact.
  public let maxNs: UInt64

  /// 0 where there is nothing to divide by.
  public var meanNs: Double { count == 0 ? 0 : Double(sumNs) / Double(count) }

  /// The part of `whole` that this is, 0...1.
  public func share(of whole: Distribution) -> Double {
    whole.sumNs == 0 ? 0 : Double(sumNs) / Double(whole.sumNs)
  }
}

/// Takes times one by one, in memory that follows their magnitude and not their number.
struct DistributionRecorder {
  private var sum: UInt128 = 0
  private var histogram: Histogram<UInt64>

  /// - Parameter isCoarse: to two significant digits, in an eighth of the memory: for one of very many.
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
