/// From one machine's clock to another's: a line through what must have come before what.
///
/// A command is submitted by the host before the target fetches it, and completed by the host after the target began to
/// post its completion. Each is a bound for the difference of the clocks at its time; the line runs in the middle of
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
  /// Bounds that contradicted all others and were left out.
  public let outliers: Int

  /// The difference of the clocks (target less host) at a time of the host, at most or at least.
  struct Bound {
    let time: Double
    let difference: Double
  }

  /// What the commands say.
  struct Bounds {
    var upper: [Bound] = []
    var lower: [Bound] = []
  }

  /// Clocks of computers differ by less, in parts.
  private static let driftMax = 1e-3
  private static let outliersMax = 64
  /// Either clock's times are whole nanoseconds, rounded down.
  private static let roundingNs = 2.0

  /// The time of the target when it was `time` at the host.
  public func targetTime(_ time: UInt64) -> UInt64 {
    let moved = Double(time) + offsetNs + drift * Double(time)
    guard moved > 0 else { return 0 }
    return moved < 0x1p63 ? UInt64(moved) : 1 << 63
  }

  /// - Returns: nil where no line fits: these are not recordings of the same commands.
  init?(_ bounds: Bounds, commands: Int) {
    var bounds = bounds
    var left = 0
    var room = Room(bounds)
    // A few commands may have been taken for others.
    while let tried = room, tried.width(tried.bestDrift) < 0, left < min(ClockFit.outliersMax, commands / 16) {
      bounds.removeTightest(at: tried.bestDrift)
      left += 1
      room = Room(bounds)
    }
    guard let room, room.width(room.bestDrift) >= 0 else { return nil }
    let drift = room.bestDrift
    let range = room.offsets(drift)
    offsetNs = (range.low + range.high) / 2
    self.drift = drift
    boundNs = room.distance(offsetNs, drift) + ClockFit.roundingNs
    self.commands = commands
    outliers = left
  }

  /// The lines that bounds leave open: for each drift, a range of offsets.
  private struct Room {
    let upper: [Bound]
    let lower: [Bound]
    private(set) var bestDrift = 0.0

    init?(_ bounds: Bounds) {
      upper = Room.thinned(bounds.upper, keeping: <)
      lower = Room.thinned(bounds.lower, keeping: >)
      guard !upper.isEmpty, !lower.isEmpty else { return nil }
      bestDrift = Room.maximum(-ClockFit.driftMax, ClockFit.driftMax, of: width)
    }

    /// Offsets that are possible with a drift. The upper end is a concave function of it, the lower a convex one.
    func offsets(_ drift: Double) -> (low: Double, high: Double) {
      let high = upper.reduce(Double.infinity) { min($0, $1.difference - drift * $1.time) }
      let low = lower.reduce(-Double.infinity) { max($0, $1.difference - drift * $1.time) }
      return (low, high)
    }

    func width(_ drift: Double) -> Double {
      let range = offsets(drift)
      return range.high - range.low
    }

    /// How far the possible lines are from this one at most; that is at one end of the recording.
    func distance(_ offset: Double, _ drift: Double) -> Double {
      let times = (upper + lower).map(\.time)
      let (first, last) = (edge(-ClockFit.driftMax), edge(ClockFit.driftMax))
      return [times.min() ?? 0, times.max() ?? 0].reduce(0) { distance, time in
        func above(_ other: Double) -> Double { offsets(other).high + (other - drift) * time - offset }
        func below(_ other: Double) -> Double { offset - offsets(other).low - (other - drift) * time }
        return max(
          distance, above(Room.maximum(first, last, of: above)), below(Room.maximum(first, last, of: below)))
      }
    }

    /// The last drift that is possible on the way to `outer`.
    private func edge(_ outer: Double) -> Double {
      var (inside, outside) = (bestDrift, outer)
      if width(outside) >= 0 { return outside }
      for _ in 0..<100 {
        let middle = (inside + outside) / 2
        if width(middle) >= 0 { inside = middle } else { outside = middle }
      }
      // What is just not possible, so that nothing possible is left out.
      return outside
    }

    /// Where a concave function has its largest value.
    private static func maximum(_ low: Double, _ high: Double, of value: (Double) -> Double) -> Double {
      var (low, high) = (low, high)
      for _ in 0..<120 {
        let (a, b) = (low + (high - low) / 3, high - (high - low) / 3)
        if value(a) < value(b) { low = a } else { high = b }
      }
      return (low + high) / 2
    }

    /// The tightest of each stretch of time: nearly as good as all, and few. What is left out only leaves more room.
    private static func thinned(_ bounds: [Bound], keeping isTighter: (Double, Double) -> Bool) -> [Bound] {
      guard let first = bounds.map(\.time).min(), let last = bounds.map(\.time).max() else { return [] }
      let stretches = 512
      let width = max(last - first, 1) / Double(stretches)
      var best = [Bound?](repeating: nil, count: stretches + 1)
      for bound in bounds {
        let stretch = min(Int((bound.time - first) / width), stretches)
        if let known = best[stretch], !isTighter(bound.difference, known.difference) { continue }
        best[stretch] = bound
      }
      return best.compactMap { $0 }
    }
  }
}

extension ClockFit.Bounds {
  /// Of the upper and the lower bound that leave the least room, remove the one that is further from its neighbours.
  fileprivate mutating func removeTightest(at drift: Double) {
    func tightest(_ bounds: [ClockFit.Bound], _ sign: Double) -> (index: Int, ahead: Double) {
      var (first, second, index) = (Double.infinity, Double.infinity, 0)
      for (place, bound) in bounds.enumerated() {
        let value = sign * (bound.difference - drift * bound.time)
        if value < first { (second, first, index) = (first, value, place) } else { second = min(second, value) }
      }
      return (index, second - first)
    }
    let (above, below) = (tightest(upper, 1), tightest(lower, -1))
    if above.ahead >= below.ahead { upper.remove(at: above.index) } else { lower.remove(at: below.index) }
  }
}
