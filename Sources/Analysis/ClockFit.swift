/// From one machine's clock to another's: a line through what must have come before what.
///
/// A command is submitted by the host before the target fetches it, and completed by the host after the target has
/// posted its completion. Each is a bound for the difference of the clocks at its time; the line runs in the middle of
/// what they leave open.
public struct ClockFit: Sendable {
  /// Add to the host's time 0, in nanoseconds, to have the target's.
  public let offsetNs: Double
  /// How much faster the target's clock runs, in parts.
  public let drift: Double
  /// No line that the bounds allow is further away from this one, anywhere between the first command and the last,
  /// nanoseconds.
  public let boundNs: Double
  public let commands: Int

  /// What a command says: the host's time, and the difference (target less host) that is at most, or at least, there.
  struct Bounds {
    var upper: [(time: Double, difference: Double)] = []
    var lower: [(time: Double, difference: Double)] = []
  }

  /// Clocks of computers differ by less, in parts.
  private static let driftMax = 1e-3

  /// The time of the target when it was `time` at the host.
  public func targetTime(_ time: UInt64) -> UInt64 {
    let moved = Double(time) + offsetNs + drift * Double(time)
    return moved <= 0 ? 0 : UInt64(moved)
  }

  /// - Returns: nil where no line fits: these are not recordings of the same commands.
  init?(_ bounds: Bounds, commands: Int) {
    let upper = ClockFit.thinned(bounds.upper, keeping: <)
    let lower = ClockFit.thinned(bounds.lower, keeping: >)
    guard !upper.isEmpty, !lower.isEmpty else { return nil }

    /// Offsets that are possible with a drift.
    func offsets(_ drift: Double) -> (low: Double, high: Double) {
      let high = upper.reduce(Double.infinity) { min($0, $1.difference - drift * $1.time) }
      let low = lower.reduce(-Double.infinity) { max($0, $1.difference - drift * $1.time) }
      return (low, high)
    }
    func room(_ drift: Double) -> Double {
      let range = offsets(drift)
      return range.high - range.low
    }

    // The room is a concave function of the drift.
    var (low, high) = (-ClockFit.driftMax, ClockFit.driftMax)
    for _ in 0..<200 {
      let (a, b) = (low + (high - low) / 3, high - (high - low) / 3)
      if room(a) < room(b) { low = a } else { high = b }
    }
    let best = (low + high) / 2
    guard room(best) >= 0 else { return nil }
    let range = offsets(best)
    drift = best
    offsetNs = (range.low + range.high) / 2
    self.commands = commands

    // Where the room ends on either side.
    func edge(_ outer: Double) -> Double {
      var (inside, outside) = (best, outer)
      if room(outside) >= 0 { return outside }
      for _ in 0..<100 {
        let middle = (inside + outside) / 2
        if room(middle) >= 0 { inside = middle } else { outside = middle }
      }
      return inside
    }
    let times = (upper + lower).map(\.time)
    let ends = [times.min()!, times.max()!]
    let (first, last) = (edge(-ClockFit.driftMax), edge(ClockFit.driftMax))
    var bound = 0.0
    for step in 0...256 {
      let other = first + (last - first) * Double(step) / 256
      let range = offsets(other)
      for time in ends {
        for offset in [range.low, range.high] where range.low <= range.high {
          bound = max(bound, abs(offset + other * time - (offsetNs + drift * time)))
        }
      }
    }
    boundNs = bound
  }

  /// The tightest of each stretch of time: as good as all, and few.
  private static func thinned(
    _ bounds: [(time: Double, difference: Double)], keeping isTighter: (Double, Double) -> Bool
  ) -> [(time: Double, difference: Double)] {
    guard let first = bounds.map(\.time).min(), let last = bounds.map(\.time).max() else { return [] }
    let width = max(last - first, 1) / 512
    var best: [Int: (time: Double, difference: Double)] = [:]
    for bound in bounds {
      let stretch = Int((bound.time - first) / width)
      if let known = best[stretch], !isTighter(bound.difference, known.difference) { continue }
      best[stretch] = bound
    }
    return Array(best.values)
  }
}
