/// The slowest commands, and where they spend more time than the mean command.
public struct Tail: Sendable {
  /// Commands in the tail.
  public let commands: UInt64
  /// Time of the fastest of them, in nanoseconds, accurate to one part in 128.
  public let fromNs: UInt64
  /// Mean time of the slowest commands, in nanoseconds.
  public let latencyMeanNs: Double
  /// Mean stage times of the slowest commands, in nanoseconds, in the order of `Stage`.
  public let stageMeansNs: [Double]
  /// Mean latency of the tail outside all stages.
  public let unexplainedMeanNs: Double
}

/// Sums of stage times by total time. They separate the commands beyond a percentile from the others afterwards, in
/// memory independent of their number.
struct TailTable {
  private struct Bucket {
    var count: UInt64 = 0
    var total: UInt128 = 0
    var unexplained: UInt128 = 0
    var stages = InlineArray<11, UInt128>(repeating: 0)

    mutating func add(_ other: Bucket) {
      count += other.count
      total += other.total
      unexplained += other.unexplained
      for index in 0..<Stage.count { stages[index] += other.stages[index] }
    }
  }

  /// 128 buckets per octave.
  private static let bits = 7
  private var buckets: [Bucket] = []

  /// The bucket of a time.
  static func index(of time: UInt64) -> Int {
    let magnitude = max(0, 63 - time.leadingZeroBitCount - bits)
    return magnitude << bits + Int(time >> UInt64(magnitude))
  }

  private static func lowerBound(_ index: Int) -> UInt64 {
    let magnitude = max(0, index >> bits - 1)
    return UInt64(index - magnitude << bits) << UInt64(magnitude)
  }

  mutating func record(_ times: borrowing CommandTimes) {
    let index = TailTable.index(of: times.total)
    if index >= buckets.count {
      buckets.append(contentsOf: repeatElement(Bucket(), count: index + 1 - buckets.count))
    }
    buckets[index].count += 1
    buckets[index].total += UInt128(times.total)
    buckets[index].unexplained += UInt128(times.unexplained)
    for stage in 0..<Stage.count { buckets[index].stages[stage] += UInt128(times.stages[stage]) }
  }

  /// The slowest hundredth of `count` commands, as near as whole buckets allow.
  func slowest(of count: UInt64) -> Tail? {
    let wanted = max(1, count / 100)
    var tail = Bucket()
    var from = 0
    for index in buckets.indices.reversed() where buckets[index].count > 0 {
      let excess = tail.count + buckets[index].count > wanted ? tail.count + buckets[index].count - wanted : 0
      if tail.count > 0, excess > wanted - tail.count { break }
      tail.add(buckets[index])
      from = index
      if tail.count >= wanted { break }
    }
    guard tail.count > 0 else { return nil }
    let n = Double(tail.count)
    return Tail(
      commands: tail.count, fromNs: TailTable.lowerBound(from), latencyMeanNs: Double(tail.total) / n,
      stageMeansNs: (0..<Stage.count).map { Double(tail.stages[$0]) / n },
      unexplainedMeanNs: Double(tail.unexplained) / n)
  }
}
