import Histogram

/// Distribution of a time over commands, in nanoseconds.
public struct Distribution: Sendable {
  /// Number of commands.
  public let count: UInt64
  /// Number of those that have this time: it is not 0. The percentiles are over these.
  public let having: UInt64
  /// Exact.
  public let sumNs: UInt128
  /// Nearest rank, to three significant digits; for groups, to two.
  public let p50Ns: UInt64
  public let p90Ns: UInt64
  public let p99Ns: UInt64
  public let p999Ns: UInt64
  /// Exact.
  public let maxNs: UInt64
  /// How precise mean and quantiles are; nil for groups, and with too few commands to tell.
  public let estimates: Estimates?

  /// The same statistics with their intervals.
  public struct Estimates: Sendable {
    public let mean: Estimate
    /// In the order of `Quantile`; nil where fewer than ten commands lie beyond, the interval has no upper end, or some
    /// commands lack this time.
    let quantiles: [Estimate?]

    public subscript(quantile: Quantile) -> Estimate? { quantiles[quantile.rawValue] }
  }

  /// Over all commands; 0 if there are none.
  public var meanNs: Double { count == 0 ? 0 : Double(sumNs) / Double(count) }

  /// This time as a share of `whole`, 0...1.
  public func share(of whole: Distribution) -> Double {
    whole.sumNs == 0 ? 0 : Double(sumNs) / Double(whole.sumNs)
  }
}

extension Distribution {
  /// No command has this time.
  public static func zero(_ commands: UInt64) -> Distribution {
    let mean = Estimate(value: 0, error: 0, degrees: 1)
    let estimates = Estimates(mean: mean, quantiles: [Estimate?](repeating: nil, count: Quantile.allCases.count))
    return Distribution(
      count: commands, having: 0, sumNs: 0, p50Ns: 0, p90Ns: 0, p99Ns: 0, p999Ns: 0, maxNs: 0,
      estimates: commands < BatchRecorder.commandsMin ? nil : estimates)
  }
}

/// Collects times in memory that depends on their magnitude, not their number.
public struct DistributionRecorder: Sendable {
  private var sum: UInt128 = 0
  private var zeros: UInt64 = 0
  private var histogram: Histogram<UInt64>
  private var batches: BatchRecorder?

  /// - Parameter isCoarse: two significant digits and no intervals, in an eighth of the memory, for large numbers of
  ///   distributions.
  public init(isCoarse: Bool = false) {
    histogram = Histogram(numberOfSignificantValueDigits: isCoarse ? .two : .three)
    batches = isCoarse ? nil : BatchRecorder()
  }

  /// - Parameter time: nanoseconds, at most 2^62.
  @inline(__always)
  public mutating func record(_ time: UInt64) {
    sum += UInt128(time)
    if time == 0 { zeros += 1 } else { histogram.record(time) }
    batches?.record(time)
  }

  /// So many commands without this time.
  public mutating func record(zeros count: UInt64) {
    zeros += count
    batches?.record(zeros: count)
  }

  /// The mean of this time without a part of it, of the same commands; nil with too few to tell.
  public func mean(without part: DistributionRecorder) -> Estimate? {
    guard let all = batches?.batches, let parts = part.batches?.batches else { return nil }
    return all.mean((Double(sum) - Double(part.sum)) / Double(histogram.totalCount + zeros), without: parts)
  }

  public var distribution: Distribution {
    Distribution(
      count: histogram.totalCount + zeros, having: histogram.totalCount, sumNs: sum,
      p50Ns: histogram.valueAtPercentile(50),
      p90Ns: histogram.valueAtPercentile(90), p99Ns: histogram.valueAtPercentile(99),
      p999Ns: histogram.valueAtPercentile(99.9), maxNs: histogram.maxRecorded, estimates: estimates)
  }

  private var estimates: Distribution.Estimates? {
    guard let batches = batches?.batches else { return nil }
    let quantiles = Quantile.allCases.map { quantile in
      zeros == 0 && quantile.isSupported(by: histogram.totalCount)
        ? batches.quantile(quantile.probability) { histogram.valueAtPercentile($0 * 100) } : nil
    }
    return Distribution.Estimates(
      mean: batches.mean(Double(sum) / Double(histogram.totalCount + zeros)), quantiles: quantiles)
  }
}

/// The quantiles that can be compared.
public enum Quantile: Int, CaseIterable, Sendable {
  case p50, p90, p99, p999

  /// As in options and tables.
  public var name: String { self == .p999 ? "p99.9" : "\(self)" }

  public var probability: Double { [0.5, 0.9, 0.99, 0.999][rawValue] }

  /// At least ten commands lie beyond it.
  public func isSupported(by count: UInt64) -> Bool { Double(count) * (1 - probability) >= 10 - 1e-6 }
}

extension Distribution {
  /// Nil if too few commands support it.
  public subscript(quantile: Quantile) -> UInt64? {
    guard quantile.isSupported(by: having) else { return nil }
    return [p50Ns, p90Ns, p99Ns, p999Ns][quantile.rawValue]
  }
}
