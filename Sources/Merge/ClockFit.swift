/// Maps one machine's clock to another's: a line derived from what must precede what.
///
/// A host submits a command before the target fetches it, and completes it after the target began to post its
/// completion. Each is a bound on the difference of the clocks at its time; the line lies in the middle of the range
/// that they leave open.
public struct ClockFit: Sendable {
  /// Nanoseconds to add to the host's time 0 to get the target's time.
  public let offsetNs: Double
  /// Relative speed of the target's clock, minus 1.
  public let drift: Double
  /// Largest distance from this line to any other line within the bounds, between the first command and the last,
  /// nanoseconds.
  public let boundNs: Double
  /// Commands that both traces contain.
  public let commands: Int
  /// Number of bounds that contradicted all others and were left out.
  public let outliers: Int

  /// An upper or lower bound on the difference of the clocks (target minus host) at a time of the host.
  struct Bound {
    let time: Double
    let difference: Double
  }

  /// The bounds that the commands give.
  struct Bounds {
    var upper: [Bound] = []
    var lower: [Bound] = []
  }

  /// Largest relative speed difference between clocks of computers.
  private static let driftMax = 1e-3
  private static let outliersMax = 64
  /// Both clocks round times down to whole nanoseconds.
  private static let roundingNs = 2.0

  /// The target's time at the host's `time`.
  public func targetTime(_ time: UInt64) -> UInt64 {
    let moved = Double(time) + offsetNs + drift * Double(time)
    guard moved > 0 else { return 0 }
    return moved < 0x1p63 ? UInt64(moved) : 1 << 63
  }

  /// - Returns: nil if no line fits: the recordings are not of the same commands.
  init?(_ bounds: Bounds, commands: Int) {
    var bounds = bounds
    var left = 0
    var room = Room(bounds)
    // A few commands may be mismatched.
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

  /// The lines within the bounds: for each drift, a range of offsets.
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

    /// Possible offsets at one drift. The upper end is a concave function of the drift, the lower a convex one.
    func offsets(_ drift: Double) -> (low: Double, high: Double) {
      let high = upper.reduce(Double.infinity) { min($0, $1.difference - drift * $1.time) }
      let low = lower.reduce(-Double.infinity) { max($0, $1.difference - drift * $1.time) }
      return (low, high)
    }

    func width(_ drift: Double) -> Double {
      let range = offsets(drift)
      return range.high - range.low
    }

    /// The largest distance of a possible line from this one; it occurs at one end of the recording.
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

    /// The last possible drift on the way to `outer`.
    private func edge(_ outer: Double) -> Double {
      var (inside, outside) = (bestDrift, outer)
      if width(outside) >= 0 { return outside }
      for _ in 0..<100 {
        let middle = (inside + outside) / 2
        if width(middle) >= 0 { inside = middle } else { outside = middle }
      }
      // Just outside the possible range, so that nothing possible is excluded.
      return outside
    }

    /// The argument at which a concave function is largest.
    private static func maximum(_ low: Double, _ high: Double, of value: (Double) -> Double) -> Double {
      var (low, high) = (low, high)
      for _ in 0..<120 {
        let (a, b) = (low + (high - low) / 3, high - (high - low) / 3)
        if value(a) < value(b) { low = a } else { high = b }
      }
      return (low + high) / 2
    }

    /// The tightest bounds of each period: nearly as good as all, and few. Leaving out bounds only widens the range.
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
  /// Among the upper and lower bounds that leave the least room, remove the one that deviates more from its neighbours.
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
