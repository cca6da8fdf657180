import Analysis
import Text

/// What bounds throughput, and how busy each side is.
extension Findings {
  /// A resource that is busy for this share of the time bounds throughput.
  static let saturated = 0.8
  /// With fewer commands nothing is said of throughput.
  static let boundMin = 20

  /// One thread or device, how much of the time it is busy, and how many commands a second it could do if it always were.
  struct Resource {
    let name: String
    let busy: Double
    let ceiling: Double
  }

  var bound: String? {
    guard let server = summary.server, server.totalNs > 0 else { return nil }
    // Work that was interrupted counts as long as it took: the ceilings would be too low.
    return engineIsAway ? engineStalls : saturation(server)
  }

  /// Which resource is busy all the time that it runs.
  private func saturation(_ server: ServerUse) -> String? {
    guard io.commands >= Findings.boundMin else { return nil }
    let engine = engine(server)
    let host = summary.hosts.flatMap(host)
    if let backend = backend { return backend + " " + busy([engine, host]) }
    if engine.busy >= Findings.saturated { return engineBound(server, engine, host) }
    if let host, host.busy >= Findings.saturated {
      return "The host bounds throughput: it is busy \(Quantity.roughly(host.busy)) of the time, at most "
        + "\(rate(host.ceiling)). \(busy([engine])) The engine could do \(rate(engine.ceiling))."
    }
    let next = [engine, host].compactMap { $0 }.min { $0.ceiling < $1.ceiling }!
    return
      "Nothing is saturated. \(busy([engine, host])) Latency bounds throughput: raise the queue depth (now "
      + "\(Quantity.significant(io.queueDepth))), "
      + (summary.counts.later > io.commands / 2
        ? "as far as the backend goes." : "up to the \(rate(next.ceiling)) that \(next.name) can do.")
  }

  /// How often the engine did something, in commands.
  var batches: String? {
    let counts = summary.counts
    guard summary.subject == .endpoint, counts.fetches > 0, counts.doorbells > 0 else { return nil }
    let entries = Double(counts.entries)
    var parts = [
      "The engine sees \(Quantity.significant(entries / Double(counts.doorbells))) new commands per doorbell",
      "fetches \(Quantity.significant(entries / Double(counts.fetches))) at a time",
    ]
    if counts.interrupts > 0 {
      parts.append("raises an interrupt for \(Quantity.significant(entries / Double(counts.interrupts)))")
    }
    parts.append("moves \(Quantity.significant(Double(counts.segments) / entries)) segments per command")
    guard entries > 1.05 * Double(counts.fetches) || Double(counts.segments) > 1.05 * entries || counts.listReads > 0
    else {
      return nil
    }
    if counts.listReads > 0 {
      parts.append("reads \(Quantity.significant(Double(counts.listReads) / entries)) lists per command")
    }
    return parts.joined(separator: ", ") + "."
  }

  /// This is to be mended before anything else.
  var engineIsAway: Bool { summary.server.map { $0.share(of: $0.times[.absent]) >= 0.1 } ?? false }

  var engineStalls: String? {
    guard let server = summary.server else { return nil }
    let share = server.share(of: server.times[.absent])
    guard share >= 0.001 else { return nil }
    let stalls =
      server.stalls.count == 0
      ? "" : "; \(Quantity.count(server.stalls.count, "time")) for 100 µs or longer, \(longest(server.stalls))"
    return
      "The engine's thread did not run for \(Quantity.percent(share)) of the time\(stalls): another thread had its "
      + "core, or it slept." + (engineIsAway ? " Give the engine and the host a core each." : "")
  }

  var hostStalls: String? {
    guard let hosts = summary.hosts, hosts.totalNs > 0 else { return nil }
    let share = Double(hosts.stalls.totalNs) / Double(hosts.totalNs)
    guard share >= 0.001 else { return nil }
    return "The host did nothing for \(Quantity.percent(share)) of the time although it was its turn, in "
      + "\(Quantity.count(hosts.stalls.count, "period")), \(longest(hosts.stalls)): it had no core"
      + (isDepthConstant ? ", or it slept." : ", it slept, or it had nothing to submit.")
      + (stoppedTogether(hosts.stalls)
        ? " Its longest is the engine's longest: a thread that took both cores, one core for both, a CPU quota, or a "
          + "virtual machine that stood still." : "")
  }

  /// The host always had as many commands in flight as it wanted.
  private var isDepthConstant: Bool { io.queueDepth >= 0.95 * Double(summary.queueDepthMax) }

  /// The longest stalls of both sides overlap by most of their length.
  private func stoppedTogether(_ host: Stalls) -> Bool {
    guard let engine = summary.server?.stalls, engine.count > 0, host.count > 0 else { return false }
    let begin = max(engine.longestAtNs, host.longestAtNs)
    let end = min(engine.longestAtNs + engine.longestNs, host.longestAtNs + host.longestNs)
    return end > begin && 2 * (end - begin) > max(engine.longestNs, host.longestNs)
  }

  /// "the longest of 1.20 ms, 30.0 ms into the trace"
  private func longest(_ stalls: Stalls) -> String {
    "the longest of \(Quantity.time(stalls.longestNs)), \(Quantity.time(stalls.longestAtNs)) into the trace"
  }

  // MARK: Resources

  /// Its time without a core is not its own.
  private func engine(_ server: ServerUse) -> Resource {
    let ran = server.totalNs - server.times[.absent]
    return Resource(
      name: "the engine's thread", busy: ran == 0 ? 0 : Double(server.busyNs) / Double(ran),
      ceiling: ceiling(server.busyNs))
  }

  private func host(_ hosts: HostUse) -> Resource? {
    guard hosts.busyNs > 0 else { return nil }
    let name = hosts.threads == 1 ? "the host's thread" : "the host's \(hosts.threads) threads"
    return Resource(name: name, busy: hosts.busyShare, ceiling: ceiling(hosts.busyNs / hosts.threads))
  }

  /// The backend works on its own, and holds most commands.
  private var backend: String? {
    guard summary.counts.later > io.commands / 2, io.durationNs > 0 else { return nil }
    let held = Double(io[.execute].sumNs) / Double(io.durationNs)
    guard held >= 0.5 * io.queueDepth else { return nil }
    return
      "The backend bounds throughput: it holds \(Quantity.significant(held)) of \(Quantity.significant(io.queueDepth)) "
      + "commands at any time, \(Quantity.time(io[.execute].meanNs)) each."
  }

  private func engineBound(_ server: ServerUse, _ engine: Resource, _ host: Resource?) -> String {
    let largest = server.largest
    let part = Double(server.times[largest]) / Double(max(server.busyNs, 1))
    let without = Resource(
      name: "the engine's thread", busy: 0, ceiling: ceiling(server.busyNs &- server.times[largest]))
    let next = [without, host].compactMap { $0 }.min { $0.ceiling < $1.ceiling }!
    return
      "The engine's thread bounds throughput: it is busy \(Quantity.roughly(engine.busy)) of the time that it runs, "
      + "\(Quantity.roughly(part)) of that with \(what(largest)), and can do \(rate(engine.ceiling)). Without that, the next "
      + "bound is \(next.name) at \(rate(next.ceiling))."
  }

  private func what(_ activity: Activity) -> String {
    switch activity {
    case .fetch: "fetching"
    case .map: "mapping"
    case .dataIn: "moving data from the host"
    case .execute: "executing"
    case .dataOut: "moving data to the host"
    case .complete: "posting completions"
    case .interrupt: "raising interrupts"
    case .engine: "work between stages"
    case .recording: "the recording"
    case .poll, .absent: activity.name
    }
  }

  /// "The engine's thread is busy 40% of the time, the host's thread 55%."
  func busy(_ resources: [Resource?]) -> String {
    let known = resources.compactMap { $0 }
    let texts = known.enumerated().map { place, resource in
      let name = place == 0 ? resource.name.capitalizedFirst : resource.name
      let verb = place > 0 ? "" : " is busy"
      return "\(name)\(verb) \(Quantity.roughly(resource.busy))\(place == 0 ? " of the time" : "")"
    }
    return texts.joined(separator: ", ") + "."
  }

  func ceiling(_ busyNs: UInt64) -> Double {
    busyNs == 0 ? .infinity : Double(io.commands) * 1e9 / Double(busyNs)
  }

  func rate(_ perSecond: Double) -> String {
    switch perSecond {
    case .infinity: "any number of commands a second"
    case 1e6...: "\(Quantity.significant(perSecond / 1e6)) M commands a second"
    case 1e4...: "\(Quantity.significant(perSecond / 1e3)) k commands a second"
    default: "\(Quantity.significant(perSecond)) commands a second"
    }
  }
}
