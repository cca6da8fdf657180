import Analysis
import Text

/// Where the time of a typical command goes, and that of the slowest ones.
extension Findings {
  /// Stages and time between them, largest mean first.
  private func parts(_ meanNs: (Stage) -> Double, unexplainedNs: Double) -> [(name: String, meanNs: Double)] {
    let stages = Stage.allCases.map { (name: name(of: $0), meanNs: meanNs($0)) }
    return (stages + [(name: "time between stages", meanNs: unexplainedNs)]).sorted { $0.meanNs > $1.meanNs }
  }

  /// What the stage is for most of these commands.
  private func name(of stage: Stage) -> String {
    let isWaiting = io.waitingMeanNs(stage) >= 0.8 * io[stage].meanNs
    return summary.subject != .endpoint && stage == .dispatch && isWaiting
      ? "waiting for a worker (dispatch)" : stage.name
  }

  /// Where a command around the median spends its time.
  var typical: String? {
    guard meanNs > 0, let typical = summary.bands?.typical else {
      return "The commands took less time than the resolution of the trace's clock."
    }
    let total = typical.latencyMeanNs
    guard total > 0 else {
      return
        "A typical command took less time than the resolution of the trace's clock; the mean is \(Quantity.time(meanNs))."
    }
    return (isQueueing(typical) ? queueing(typical) : largest(typical)) + " " + typicalAndMean
  }

  /// "Execute dominates: 700 ns of the 1.54 µs of a typical command (45%), then map with 200 ns (13%)."
  private func largest(_ typical: Band) -> String {
    let total = typical.latencyMeanNs
    let parts = parts(typical.meanNs, unexplainedNs: typical.unexplainedMeanNs)
    let first = parts[0]
    let verb = first.meanNs >= 0.5 * total ? "dominates" : "is the largest part"
    return
      "\(first.name.capitalizedFirst) \(verb): \(Quantity.time(first.meanNs)) of the \(Quantity.time(total)) of a typical command "
      + "(\(Quantity.roughly(first.meanNs / total)))" + then(parts.dropFirst(), of: total) + "."
  }

  private func then(_ parts: some Sequence<(name: String, meanNs: Double)>, of total: Double) -> String {
    let others = parts.prefix(2).filter { $0.meanNs >= 0.05 * total }
    guard !others.isEmpty else { return "" }
    let list = others.map { "\($0.name) with \(Quantity.time($0.meanNs)) (\(Quantity.roughly($0.meanNs / total)))" }
    return ", then " + list.joined(separator: " and ")
  }

  /// The commands wait for more than the next poll: for each other, or for a thread that does not run.
  private func isQueueing(_ band: Band) -> Bool {
    guard summary.subject == .endpoint, band.waitingMeanNs >= 0.5 * band.latencyMeanNs else { return false }
    let polled = band.behindMeansNs[Activity.poll.rawValue] + band.behindHostMeansNs[HostState.polled.rawValue]
    return band.waitingMeanNs - polled >= 0.5 * band.waitingMeanNs
  }

  /// "Waiting dominates: 33.1 µs of the 39.5 µs of a typical command (84%), mostly while the engine's thread moved data to
  /// the host for others (19.0 µs). Its own service takes 6.40 µs, the largest part in data-out (2.10 µs)."
  private func queueing(_ typical: Band) -> String {
    let (total, waiting) = (typical.latencyMeanNs, typical.waitingMeanNs)
    let service = parts(
      { typical.meanNs($0) - typical.waitingMeansNs[$0.rawValue] }, unexplainedNs: typical.unexplainedMeanNs)[0]
    let part = service.meanNs >= 0.5 * (total - waiting) ? "most of it" : "the largest part"
    return "Waiting dominates: \(Quantity.time(waiting)) of the \(Quantity.time(total)) of a typical command"
      + (waiting < 0.995 * total ? " (\(Quantity.roughly(waiting / total)))" : "") + "\(meanwhile(typical)). Its own "
      + "service takes \(Quantity.time(total - waiting)), \(part) in \(service.name) (\(Quantity.time(service.meanNs)))."
  }

  /// ", mostly while the engine's thread polled (20.0 µs), and the host's thread had yielded its core (15.0 µs)"
  private func meanwhile(_ band: Band) -> String {
    let least = 0.1 * band.waitingMeanNs
    func list(_ reasons: [(name: String, ns: Double)]) -> String? {
      let named = reasons.sorted { $0.ns > $1.ns }.prefix(3).filter { $0.ns >= least && $0.ns > 0 }
      return named.isEmpty ? nil : named.map { "\($0.name) (\(Quantity.time($0.ns)))" }.joined(separator: ", ")
    }
    let engine = list(Activity.allCases.map { (Findings.reason($0), band.behindMeansNs[$0.rawValue]) })
    let host = list(HostState.allCases.map { (Findings.reason($0), band.behindHostMeansNs[$0.rawValue]) })
    let threads = [engine.map { "the engine's thread \($0)" }, host.map { "the host's thread \($0)" }].compactMap { $0 }
    return threads.isEmpty ? "" : ", mostly while " + threads.joined(separator: ", and ")
  }

  private static func reason(_ state: HostState) -> String {
    switch state {
    case .busy: "was busy with others"
    case .rested: "had yielded its core"
    case .polled: "polled"
    }
  }

  /// How the others differ from it.
  private var typicalAndMean: String {
    let median = Double(io.latency.p50Ns)
    var text = "The median is \(Quantity.time(median)), the mean \(Quantity.time(meanNs))"
    if let bands = summary.bands, meanNs >= 1.25 * median, io.commands >= 20, bands.slowShare > 0 {
      text += ": \(Quantity.percent(bands.slowShare)) of the commands take more than ten times the median and hold "
      text += "\(Quantity.percent(bands.slowTimeShare)) of the time"
    }
    text += "."
    if let interval = io.latency.estimates?[.p50]?.interval(), interval.upperBound >= 2 * interval.lowerBound {
      text +=
        " The median is uncertain, \(Quantity.time(interval.lowerBound)) to \(Quantity.time(interval.upperBound)) "
      text += "with 95% confidence: the recording holds times of different speed."
    }
    return text
  }

  /// Instead of statistics.
  var few: String? {
    let parts = parts({ io[$0].meanNs }, unexplainedNs: io.unexplained.meanNs)
    return
      "The statistics are of \(Quantity.count(io.commands, "command")) only: the mean is \(Quantity.time(meanNs)), of which "
      + "\(parts[0].name) is \(Quantity.time(parts[0].meanNs))."
  }

  /// Why a typical command waits, where the first sentence does not say it.
  var waiting: String? {
    guard summary.subject == .endpoint, let typical = summary.bands?.typical, !isQueueing(typical),
      typical.waitingMeanNs >= 0.05 * typical.latencyMeanNs
    else { return nil }
    let waiting = typical.waitingMeanNs
    return
      "A typical command waits for \(Quantity.time(waiting)) (\(Quantity.roughly(waiting / typical.latencyMeanNs)))"
      + meanwhile(typical) + "."
  }

  private static func reason(_ activity: Activity) -> String {
    switch activity {
    case .fetch: "fetched commands"
    case .map: "mapped others"
    case .dataIn: "moved data from the host for others"
    case .execute: "executed others"
    case .dataOut: "moved data to the host for others"
    case .complete: "completed others"
    case .interrupt: "raised interrupts"
    case .engine: "worked between stages"
    case .recording: "recorded"
    case .poll: "polled"
    case .absent: "did not run"
    }
  }

  var tail: String? {
    guard let tail = summary.bands?.tail, meanNs > 0 else { return nil }
    let share = Double(tail.commands) / Double(io.commands)
    let excess = tail.latencyMeanNs - meanNs
    let who = "the slowest \(Quantity.percent(share)) of the commands"
    guard excess > 0.05 * meanNs else {
      return "There is no significant tail: \(who) take \(Quantity.time(tail.latencyMeanNs)), the mean is "
        + "\(Quantity.time(meanNs))."
    }
    // By how much slow commands exceed the mean.
    let parts = parts(
      { tail.meanNs($0) - io[$0].meanNs }, unexplainedNs: tail.unexplainedMeanNs - io.unexplained.meanNs)
    let isClose = parts[1].meanNs >= 0.8 * parts[0].meanNs
    let what = isClose ? "\(parts[0].name) and \(parts[1].name) make" : "\(parts[0].name) makes"
    var text =
      "In the tail, \(what) commands slow: \(who) (\(Quantity.time(tail.fromNs)) or more) take "
    text += Quantity.time(tail.latencyMeanNs)
    guard parts[0].meanNs <= excess else {
      return text + ", \(Quantity.time(excess)) above the mean: \(parts[0].name) takes "
        + "\(Quantity.time(parts[0].meanNs)) longer, everything else \(Quantity.time(parts[0].meanNs - excess)) less."
    }
    text += ", and \(Quantity.time(parts[0].meanNs)) of the "
    text +=
      "\(Quantity.time(excess)) above the mean (\(Quantity.roughly(parts[0].meanNs / excess))) is \(parts[0].name)"
    if parts[1].meanNs >= 0.1 * excess {
      text += ", \(Quantity.time(parts[1].meanNs)) (\(Quantity.roughly(parts[1].meanNs / excess))) \(parts[1].name)"
    }
    return text + "." + tailWaiting(tail)
  }

  /// " They wait for 1.20 ms, mostly while the engine's thread did not run (1.10 ms)."
  private func tailWaiting(_ tail: Band) -> String {
    guard summary.subject == .endpoint, tail.waitingMeanNs - io.waiting.meanNs >= 0.25 * (tail.latencyMeanNs - meanNs)
    else { return "" }
    let meanwhile = meanwhile(tail)
    return meanwhile.isEmpty ? "" : " They wait for \(Quantity.time(tail.waitingMeanNs))\(meanwhile)."
  }
}
