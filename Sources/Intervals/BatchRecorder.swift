/// Collects times in batches of consecutive commands. Commands that follow each other resemble each other, so their
/// number alone does not tell how precise a statistic is; batches that are long enough are nearly independent.
///
/// Memory depends on the magnitude of the times, not on their number.
public struct BatchRecorder: Sendable {
  /// With fewer commands there is no interval: batches would be too short.
  static let commandsMin: UInt64 = 1000
  /// When so many are full, each two become one.
  private static let batchesMax = 90
  /// Commands in each full batch.
  private var size: UInt64 = 16
  private var full: [Batch] = []
  private var current = Batch()
  private var filled: UInt64 = 0
  /// Of those in the current batch, the commands without this time: many stages have few others.
  private var zeros: UInt32 = 0
  private var count: UInt64 = 0

  public init() {}

  /// - Parameter time: of the next command.
  @inline(__always)
  public mutating func record(_ time: UInt64) {
    if time == 0 { zeros &+= 1 } else { current.add(time, count: 1) }
    filled += 1
    count += 1
    if filled == size { finish() }
  }

  /// So many commands without this time are next.
  public mutating func record(zeros: UInt64) {
    var left = zeros
    while left > 0 {
      let part = min(left, size - filled)
      self.zeros &+= UInt32(truncatingIfNeeded: part)
      (left, filled, count) = (left - part, filled + part, count + part)
      if filled == size { finish() }
    }
  }

  private mutating func finish() {
    if zeros > 0 { current.add(0, count: zeros) }
    full.append(current.trimmed)
    current.clear()
    (filled, zeros) = (0, 0)
    guard full.count == BatchRecorder.batchesMax else { return }
    full = stride(from: 0, to: full.count, by: 2).map { full[$0].joined(with: full[$0 + 1]) }
    size *= 2
  }

  /// 20 to 29 equal batches; nil with too few commands. The last commands, less than a batch, are in none.
  public var batches: Batches? {
    guard count >= BatchRecorder.commandsMin else { return nil }
    let group = full.count >= 60 ? 3 : 2
    let joined = (0..<full.count / group).map { batch in
      full[batch * group..<(batch + 1) * group].reduce(Batch()) { $0.joined(with: $1) }
    }
    return Batches(all: joined, size: Double(size) * Double(group))
  }
}

/// Times of some commands: their sum, and how many fell into which bucket.
struct Batch: Sendable {
  fileprivate(set) var sum: UInt128 = 0
  /// By `TimeBuckets.index`, from `first`.
  private var counts: [UInt32] = []
  private(set) var first = 0
  /// The buckets of `counts` in use.
  private var lowest = Int.max
  private var highest = -1

  @inline(__always)
  fileprivate mutating func add(_ time: UInt64, count: UInt32) {
    sum += UInt128(time) * UInt128(count)
    let index = TimeBuckets.index(of: time)
    if index >= counts.count { counts.append(contentsOf: repeatElement(0, count: index + 1 - counts.count)) }
    counts[index] &+= count
    lowest = min(lowest, index)
    highest = max(highest, index)
  }

  fileprivate mutating func clear() {
    if lowest <= highest { for index in lowest...highest { counts[index] = 0 } }
    (sum, lowest, highest) = (0, .max, -1)
  }

  /// Without the empty buckets at either end.
  fileprivate var trimmed: Batch {
    var batch = Batch()
    batch.sum = sum
    guard lowest <= highest else { return batch }
    batch.first = lowest
    batch.counts = Array(counts[lowest...highest])
    return batch
  }

  fileprivate func joined(with other: Batch) -> Batch {
    guard !counts.isEmpty else { return other.adding(sum) }
    guard !other.counts.isEmpty else { return adding(other.sum) }
    var both = Batch()
    both.sum = sum + other.sum
    both.first = min(first, other.first)
    both.counts = Array(repeating: 0, count: max(end, other.end) - both.first)
    for batch in [self, other] {
      for (index, count) in batch.counts.enumerated() { both.counts[batch.first + index - both.first] &+= count }
    }
    return both
  }

  private func adding(_ sum: UInt128) -> Batch {
    var batch = self
    batch.sum += sum
    return batch
  }

  /// The index after the last bucket.
  var end: Int { first + counts.count }

  /// Commands in a bucket.
  subscript(bucket: Int) -> UInt64 { bucket < first || bucket >= end ? 0 : UInt64(counts[bucket - first]) }
}

/// Equal batches of consecutive commands.
public struct Batches: Sendable {
  fileprivate let all: [Batch]
  /// Commands in each.
  fileprivate let size: Double

  fileprivate init(all: [Batch], size: Double) { (self.all, self.size) = (all, size) }

  /// Their number.
  public var count: Int { all.count }

  private var degrees: Double { Double(count - 1) }

  /// - Parameter value: the mean of all commands.
  public func mean(_ value: Double) -> Estimate {
    Estimate(value: value, error: Batches.error(all.map { Double($0.sum) / size }), degrees: degrees)
  }

  /// The mean of a time without a part of it, which was recorded for the same commands.
  /// - Parameter value: the mean of all commands.
  public func mean(_ value: Double, without part: Batches) -> Estimate? {
    guard part.all.count == all.count, part.size == size else { return nil }
    let means = zip(all, part.all).map { (Double($0.sum) - Double($1.sum)) / size }
    return Estimate(value: value, error: Batches.error(means), degrees: degrees)
  }

  /// An interval of a quantile: how much the share of commands at or below it varies between batches says which
  /// quantiles around it are possible (Woodruff's method).
  /// - Parameters:
  ///   - probability: the quantile's.
  ///   - quantile: the quantiles of all commands.
  /// - Returns: nil if the interval has no upper end among the commands.
  public func quantile(_ probability: Double, of quantile: (Double) -> UInt64) -> Estimate? {
    let count = size * Double(all.count)
    // Independent commands vary that much; a bucket may hide even this.
    let independent = (probability * (1 - probability) / count).squareRoot()
    let error = max(independent, Batches.error(shares(below: probability, count)))
    let reach = error * StudentT.quantile((1 + Estimate.confidence) / 2, degrees: degrees)
    guard probability + reach < 1 else { return nil }
    let value = Double(quantile(probability))
    let low = min(value, Double(quantile(max(0, probability - reach))))
    let high = max(value, Double(quantile(probability + reach)))
    return Estimate(value: value, interval: low...high, degrees: degrees)
  }

  /// For each batch, the share of its commands below the quantile. Within the quantile's bucket all batches are cut at
  /// the same place, so that the mean of the shares is `probability`.
  private func shares(below probability: Double, _ count: Double) -> [Double] {
    let end = all.map(\.end).max() ?? 0
    var below: UInt64 = 0
    var bucket = all.map(\.first).min() ?? 0
    var inside: UInt64 = 0
    while bucket < end {
      inside = all.reduce(0) { $0 + $1[bucket] }
      if Double(below + inside) >= probability * count { break }
      below += inside
      bucket += 1
    }
    let part = inside == 0 ? 0 : (probability * count - Double(below)) / Double(inside)
    return all.map { batch in
      let below = (batch.first..<max(batch.first, bucket)).reduce(UInt64(0)) { $0 + batch[$1] }
      return (Double(below) + part * Double(batch[bucket])) / size
    }
  }

  /// The standard error of the mean of these values, which belong to consecutive batches. If neighbours still resemble
  /// each other, it grows by their correlation.
  static func error(_ values: [Double]) -> Double {
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let deviations = values.map { $0 - mean }
    let squares = deviations.reduce(0) { $0 + $1 * $1 }
    guard squares > 0 else { return 0 }
    let products = zip(deviations, deviations.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
    return (squares / (count - 1) / count * (1 + 2 * max(0, products / squares))).squareRoot()
  }
}
