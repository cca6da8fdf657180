import NVMe
import Trace

/// The commands of a host's driver and those of the target that it drove, recorded apart and found again in each other.
public struct HostMatch {
  public let fit: ClockFit
  /// The controller of the target, and the host's instance that drives it.
  public let controller: UInt16
  public let instance: UInt16
  /// The streams of the host's trace that are about that instance.
  let hostStreams: Set<UInt16>

  /// Owners that are looked at on either side, the busiest.
  private static let ownersMax = 64
  private static let shiftMax = 1 << 14
  /// Commands may overtake each other by as many on their way into the target core.
  private static let reach = 32
  /// Comparisons in all, so that a search among commands that are all alike ends.
  private static let comparisonsMax = 1 << 30

  /// - Returns: nil where the two have no commands in common.
  public init?(host: TraceReader, target: TraceReader) throws(TraceError) {
    let hosts = try Sights(host, isHost: true)
    let targets = try Sights(target, isHost: false)
    var best: (fit: ClockFit, controller: UInt16, instance: UInt16)?
    var budget = HostMatch.comparisonsMax
    let served = targets.byOwner.prefix(HostMatch.ownersMax)
    for (instance, driven) in hosts.byOwner.prefix(HostMatch.ownersMax) {
      for (controller, taken) in served {
        var bounds = ClockFit.Bounds()
        for (qid, submitted) in driven {
          if let taken = taken[qid] { HostMatch.match(submitted, taken, &bounds, &budget) }
        }
        let commands = bounds.upper.count
        guard commands >= 4, commands > best?.fit.commands ?? 0, let fit = ClockFit(bounds, commands: commands) else {
          continue
        }
        best = (fit, controller, instance)
      }
    }
    guard let best else { return nil }
    (fit, controller, instance) = best
    hostStreams = hosts.streams[instance] ?? []
  }

  /// Find where the one list lies in the other, and take the bounds of the commands that they share.
  private static func match(
    _ submitted: [Sight], _ taken: [Sight], _ bounds: inout ClockFit.Bounds, _ budget: inout Int
  ) {
    guard let shift = anchoredShift(submitted, taken) ?? alignedShift(submitted, taken, &budget) else { return }
    for (index, host) in submitted.enumerated() {
      guard let target = nearest(to: index + shift, in: taken, where: { host.isSame($0) }) else { continue }
      bounds.upper.append(
        ClockFit.Bound(time: Double(host.begin), difference: Double(target.begin) - Double(host.begin)))
      if host.end != 0, target.end != 0 {
        bounds.lower.append(
          ClockFit.Bound(time: Double(host.end), difference: Double(target.end) - Double(host.end)))
      }
    }
  }

  private static func nearest(to place: Int, in taken: [Sight], where isSame: (Sight) -> Bool) -> Sight? {
    for distance in 0...reach {
      for index in [place + distance, place - distance] where taken.indices.contains(index) && isSame(taken[index]) {
        return taken[index]
      }
    }
    return nil
  }

  /// How far the one list is shifted in the other, by the commands that are unmistakable.
  /// - Returns: nil where there are too few.
  private static func anchoredShift(_ submitted: [Sight], _ taken: [Sight]) -> Int? {
    let places = uniquePlaces(taken)
    let shifts = uniquePlaces(submitted).compactMap { name, place in places[name].map { $0 - place } }.sorted()
    guard shifts.count >= 4 else { return nil }
    // The densest stretch of shifts: commands that overtake each other spread it.
    var (best, from) = (0..<0, 0)
    for index in shifts.indices {
      while shifts[index] - shifts[from] > reach { from += 1 }
      if index + 1 - from > best.count { best = from..<index + 1 }
    }
    return best.count >= 4 ? shifts[(best.lowerBound + best.upperBound) / 2] : nil
  }

  /// Where the commands are whose name comes once only.
  private static func uniquePlaces(_ sights: [Sight]) -> [Sight.Name: Int] {
    var places: [Sight.Name: Int] = [:]
    for (place, sight) in sights.enumerated() {
      places[sight.name] = places[sight.name] == nil ? place : -1
    }
    return places.filter { $0.value >= 0 }
  }

  /// The shift with which the most commands lie side by side.
  private static func alignedShift(_ submitted: [Sight], _ taken: [Sight], _ budget: inout Int) -> Int? {
    var best: (shift: Int, count: Int) = (0, 0)
    let reach = min(max(submitted.count, taken.count), shiftMax)
    for shift in -reach...reach where budget > 0 {
      // A few are enough to see that it is not this one.
      var (count, misses) = (0, 0)
      var index = max(0, -shift)
      while index < submitted.count, index + shift < taken.count, misses <= 8 + count / 8 {
        if submitted[index].isSame(taken[index + shift]) { count += 1 } else { misses += 1 }
        index += 1
      }
      budget -= count + misses
      if count > best.count { best = (shift, count) }
    }
    return best.count > 0 ? best.shift : nil
  }
}
