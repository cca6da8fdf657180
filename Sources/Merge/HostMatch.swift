import NVMe
import Trace

/// Matches the commands of a host's driver with those of its target, from two separate recordings.
public struct HostMatch {
  /// The line between the two clocks.
  public let fit: ClockFit
  /// The target's controller, and the host's instance that drives it.
  public let controller: UInt16
  public let instance: UInt16
  /// The target's time at which the comparison of the commands ended, because there are more than it takes; the line
  /// continues behind it. Nil if it took all.
  public let comparedUntilNs: UInt64?
  /// The streams of the host's trace that belong to that instance.
  let hostStreams: Set<UInt16>

  private static let shiftMax = 1 << 14
  /// Commands may overtake this many others on their way into the target core.
  private static let reach = 32
  /// Limit for all comparisons, so that a search among identical commands ends.
  private static let comparisonsMax = 1 << 30
  /// A lookup of a name costs as much as this many comparisons.
  private static let lookupCost = 32

  /// - Returns: nil if the two have no commands in common.
  init?(host: TraceReader, target: TraceReader, commandsMax: Int) throws(TraceError) {
    let hosts = try Observations(host, of: .host, commandsMax: commandsMax)
    let targets = try Observations(target, of: .target, commandsMax: commandsMax)
    var best: (fit: ClockFit, controller: UInt16, instance: UInt16)?
    var budget = HostMatch.comparisonsMax
    for (instance, driven) in hosts.busiest {
      for (controller, fetched) in targets.busiest {
        var bounds = ClockFit.Bounds()
        for (qid, submitted) in driven {
          if let fetched = fetched[qid] { HostMatch.match(submitted, fetched, &bounds, &budget) }
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
    comparedUntilNs = [hosts.end.map(best.fit.targetTime), targets.end].compactMap { $0 }.min()
    hostStreams = Set(hosts.streams.owners.filter { $0.value.isHost(best.instance) }.keys)
  }

  /// Find the offset of one list in the other, and add the bounds of their common commands.
  private static func match(
    _ submitted: Observations.Queue, _ fetched: Observations.Queue, _ bounds: inout ClockFit.Bounds, _ budget: inout Int
  ) {
    guard budget > 0,
      let shift = anchoredShift(submitted, fetched, &budget)
        ?? alignedShift(submitted.observations, fetched.observations, &budget)
    else { return }
    for (index, host) in submitted.observations.enumerated() {
      guard budget > 0 else { return }
      guard let target = nearest(to: index + shift, in: fetched.observations, sameAs: host, &budget) else { continue }
      bounds.upper.append(
        ClockFit.Bound(time: Double(host.begin), difference: Double(target.begin) - Double(host.begin)))
      if host.end != 0, target.end != 0 {
        bounds.lower.append(
          ClockFit.Bound(time: Double(host.end), difference: Double(target.end) - Double(host.end)))
      }
    }
  }

  private static func nearest(to place: Int, in fetched: [Observation], sameAs host: Observation, _ budget: inout Int)
    -> Observation?
  {
    func isSame(_ index: Int) -> Bool { fetched.indices.contains(index) && host.isSame(fetched[index]) }
    for distance in 0...reach {
      budget -= 2
      if isSame(place + distance) { return fetched[place + distance] }
      if isSame(place - distance) { return fetched[place - distance] }
    }
    return nil
  }

  /// The offset of one list in the other, from commands with unique names.
  /// - Returns: nil if there are too few.
  private static func anchoredShift(
    _ submitted: Observations.Queue, _ fetched: Observations.Queue, _ budget: inout Int
  ) -> Int? {
    budget -= submitted.places.count * lookupCost
    var shifts: [Int] = []
    for (name, place) in submitted.places where place >= 0 {
      if let other = fetched.places[name], other >= 0 { shifts.append(other - place) }
    }
    shifts.sort()
    guard shifts.count >= 4 else { return nil }
    // The densest range of offsets: commands that overtake each other spread them.
    var (best, from) = (0..<0, 0)
    for index in shifts.indices {
      while shifts[index] - shifts[from] > reach { from += 1 }
      if index + 1 - from > best.count { best = from..<index + 1 }
    }
    return best.count >= 4 ? shifts[(best.lowerBound + best.upperBound) / 2] : nil
  }

  /// The offset at which most commands match.
  private static func alignedShift(_ submitted: [Observation], _ fetched: [Observation], _ budget: inout Int) -> Int? {
    var best: (shift: Int, count: Int) = (0, 0)
    let reach = min(max(submitted.count, fetched.count), shiftMax)
    for shift in -reach...reach where budget > 0 {
      // A few mismatches suffice to reject an offset.
      var (count, misses) = (0, 0)
      var index = max(0, -shift)
      while index < submitted.count, index + shift < fetched.count, misses <= 8 + count / 8 {
        if submitted[index].isSame(fetched[index + shift]) { count += 1 } else { misses += 1 }
        index += 1
      }
      budget -= count + misses
      if count > best.count { best = (shift, count) }
    }
    return best.count > 0 ? best.shift : nil
  }
}
