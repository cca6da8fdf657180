import Testing

@testable import Analysis
@testable import Intervals

/// The commands named in comments print the expected numbers, with numpy and scipy.
@Suite("Intervals")
struct IntervalTests {
  private func isNear(_ value: Double, _ expected: Double, within share: Double = 1e-9) -> Bool {
    (value - expected).magnitude <= share * max(1, expected.magnitude)
  }

  // from scipy import stats; stats.t.ppf(probability, degrees)
  @Test(
    "the quantiles of Student's t are scipy's",
    arguments: [
      (0.975, 1, 12.706204736174694), (0.975, 2.5, 3.5746548420036817), (0.975, 19, 2.0930240544083087),
      (0.95, 28, 1.7011309342659313), (0.9975, 24, 3.090513548717001), (0.975, 1000, 1.9623390808264083),
    ] as [(Double, Double, Double)])
  func student(probability: Double, degrees: Double, expected: Double) {
    #expect(isNear(StudentT.quantile(probability, degrees: degrees), expected))
  }

  // v = numpy.array([k*k % 23 + 3*k for k in range(24)]); d = v - v.mean()
  // stats.sem(v) * numpy.sqrt(1 + 2 * max(0, (d[1:] * d[:-1]).sum() / (d * d).sum()))
  @Test("the error of a mean of batches grows by the correlation of neighbours")
  func correlated() {
    #expect(isNear(Batches.error((0..<24).map { Double($0 * $0 % 23 + $0 * 3) }), 7.269768705883086))
  }

  /// numpy.array([1000 + k*7919 % 1009 + (200 if k//100 % 3 == 0 else 0) for k in range(4000)]), called x below: 20
  /// batches of 192.
  private var distribution: Distribution {
    var recorder = DistributionRecorder()
    for k in 0..<4000 { recorder.record(UInt64(1000 + k * 7919 % 1009 + (k / 100 % 3 == 0 ? 200 : 0))) }
    return recorder.distribution
  }

  // stats.t.interval(0.95, 19, loc=x.mean(), scale=stats.sem(x[:3840].reshape(20, 192).mean(axis=1)))
  @Test("the interval of a mean is that of the means of its batches")
  func mean() throws {
    let mean = try #require(distribution.estimates).mean
    #expect(isNear(mean.value, 1574.2505))
    #expect(isNear(mean.interval().lowerBound, 1557.745609056945))
    #expect(isNear(mean.interval().upperBound, 1590.755390943055))
  }

  // q = numpy.quantile(x, p, method="inverted_cdf"); f = (x[:3840].reshape(20, 192) <= q).mean(axis=1)
  // e = max(stats.sem(f), numpy.sqrt(p * (1 - p) / 3840)); t = stats.t.ppf(0.975, 19)
  // [numpy.quantile(x, p + s * t * e, method="inverted_cdf") for s in (-1, 1)]
  @Test(
    "the interval of a quantile comes from the shares below it in the batches",
    arguments: [(.p50, 1575, 1557, 1592), (.p90, 1977, 1959, 1994), (.p99, 2180, 2170, 2191)]
      as [(Quantile, Double, Double, Double)])
  func quantile(quantile: Quantile, value: Double, low: Double, high: Double) throws {
    let estimate = try #require(distribution.estimates?[quantile])
    // The histogram keeps three digits, and times within a batch's bucket of 1/128 are spread evenly.
    #expect(isNear(estimate.value, value, within: 0.001))
    #expect(isNear(estimate.interval().lowerBound, low, within: 0.002))
    #expect(isNear(estimate.interval().upperBound, high, within: 0.002))
  }

  // stats.ttest_ind([107, 105, 111], [101, 103, 99, 104], equal_var=False).confidence_interval(0.95)
  @Test("the difference of several runs is Welch's")
  func welch() {
    let difference = Difference(from: Estimate(runs: [101, 103, 99, 104]), to: Estimate(runs: [107, 105, 111]))
    #expect(isNear(difference.interval().lowerBound, -0.1878222920319308))
    #expect(isNear(difference.interval().upperBound, 12.021155625365274))
  }

  @Test("few commands have no interval, and no quantile that fewer than ten lie beyond")
  func few() {
    var recorder = DistributionRecorder()
    for k in 0..<999 { recorder.record(1 + UInt64(k * 7919 % 1009)) }
    #expect(recorder.distribution.estimates == nil)
    #expect(recorder.distribution[.p90] != nil && recorder.distribution[.p99] == nil)
    recorder.record(1)
    #expect(recorder.distribution.estimates?[.p90] != nil && recorder.distribution[.p99] != nil)
    #expect(recorder.distribution.estimates?[.p999] == nil && recorder.distribution[.p999] == nil)
  }

  @Test("memory does not grow with the number of commands, and batches stay 20 to 29")
  func bounded() throws {
    var recorder = BatchRecorder()
    var counts: Set<Int> = []
    for k in 1...100_000 as ClosedRange<UInt64> {
      recorder.record(k % 7)
      if k % 997 == 0, let batches = recorder.batches { counts.insert(batches.count) }
    }
    #expect(counts.min()! >= 20 && counts.max()! <= 29)
  }

  @Test("times of any size are recorded", arguments: [0, 1, StageAnalyzer.timeMax] as [UInt64])
  func extremes(time: UInt64) throws {
    var recorder = DistributionRecorder()
    for _ in 0..<2000 { recorder.record(time) }
    let estimates = try #require(recorder.distribution.estimates)
    #expect(estimates.mean.interval() == Double(time)...Double(time))
    // Of a time that no command has there is no median.
    #expect(estimates[.p50]?.interval().upperBound.isFinite == (time == 0 ? nil : true))
  }
}
