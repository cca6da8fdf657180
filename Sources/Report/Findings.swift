import Analysis
import EventWords
import Events
import Text

/// The findings of a summary as sentences, most important first.
struct Findings {
  let summary: Summary
  var io: Breakdown { summary.io }
  var meanNs: Double { summary.io.latency.meanNs }

  init(_ summary: Summary) { self.summary = summary }

  var sentences: [String] {
    let what =
      io.commands == 0
      ? [nothing]
      : [isTooFew ? few : typical, areProbesDear ? probes : nil, handoffs] + driverWaits + [
        channelWaits, waiting, bound, driverBound, hostStalls, tail, throughput, Precision.sentence(io), data,
      ]
    let parts =
      io.commands == 0 ? [] : [turn, batches, queueFull, unexplained, undetected, hiddenStages, hostSubmit]
    return
      ([injected, stopped, Findings.selection(summary), hung, leavesOutMany ? completeness : nil, failures] + what
      + parts + [
        leavesOutMany ? nil : completeness, recorder, engineIsAway ? nil : engineStalls, areProbesDear ? nil : probes,
        hostClock, inversions, resets, completedTwice, unannounced, kernel,
      ])
      .compactMap { $0 }
  }

  /// Fewer commands than this are told one by one rather than by statistics.
  private var isTooFew: Bool { io.commands < 10 }

  // MARK: What is so

  private var injected: String? {
    guard !summary.faults.isEmpty else { return nil }
    let all = summary.faults.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let kinds = all.map { "\(Quantity.count($0.value)) \(EventMeaning.fault($0.key))" }.joined(separator: ", ")
    let total = all.reduce(0) { $0 &+ $1.value }
    return "\(Quantity.count(total, "fault")) \(total == 1 ? "was" : "were") injected on purpose: \(kinds); "
      + "nvmepf dump --event fault shows them."
  }

  private var stopped: String? {
    guard let stops = summary.stops else { return nil }
    let times = stops.count == 1 ? "" : ", the first of \(Quantity.count(stops.count, "time"))"
    var text = "The controller stopped (CSTS.CFS) \(Quantity.time(stops.firstNs)) into the trace\(times): "
    if summary.faults[Event.Fault.Choice.controllerFatal.rawValue] != nil {
      return text + "a fault was injected." + (stops.hasRecovered ? " It recovered after a reset." : "")
    }
    func unreached(_ what: String, _ qid: UInt16, _ address: UInt64?) -> String {
      let place = address.map { " at host address \($0.hex)" } ?? ""
      return "it could not \(what) queue \(qid)\(place); the client did not share that memory "
        + "(QEMU: memory-backend-memfd,share=on), or removed it."
    }
    switch stops.firstCause {
    case .submissionQueue(let qid, let address): text += unreached("fetch from submission", qid, address)
    case .completionQueue(let qid, let address): text += unreached("write to completion", qid, address)
    case .unknown:
      text +=
        "the keep alive timer expired, a flush failed at shutdown, or the host enabled it with unsupported values."
    }
    return text + (stops.hasRecovered ? " It recovered after a reset." : " No command was fetched after that.")
  }

  private var nothing: String? {
    if summary.among ?? 0 > 0 { return nil }
    return "The trace contains no complete I/O command"
      + (summary.adminCommands > 0 ? ", only \(Quantity.count(summary.adminCommands, "admin command"))." : ".")
  }

  private var throughput: String? {
    guard summary.among == nil else { return Findings.throughput(of: io) }
    let (finished, all) = (io.queueDepth, summary.queueDepthTimeWeighted)
    // The two agree unless commands are left out.
    let depth =
      abs(all - finished) <= 0.02 * finished
      ? Quantity.significant(finished)
      : "\(Quantity.significant(finished)), \(Quantity.significant(all)) with the commands that did not complete"
    return Findings.throughput(of: io)
      + " The mean queue depth is \(depth); the maximum is \(Quantity.count(summary.queueDepthMax))."
  }

  private var failures: String? {
    guard io.failed > 0 else { return nil }
    let share = Double(io.failed) / Double(max(io.commands, 1))
    return "\(Quantity.count(io.failed, "command")) (\(Quantity.percent(share))) failed; the statuses are below."
  }

  /// "2,000 commands in 1.20 s, 1,667 a second."
  static func throughput(of breakdown: Breakdown) -> String {
    let commands = Quantity.count(breakdown.commands, "command")
    guard breakdown.durationNs > 0 else { return "\(commands)." }
    return "\(commands) in \(Quantity.time(breakdown.durationNs)), \(Quantity.significant(breakdown.iops)) a second."
  }

  private var data: String? {
    let seconds = Double(io.durationNs) / 1e9
    func moved(_ bytes: UInt64, _ way: String) -> String? {
      guard bytes > 0 else { return nil }
      let rate = seconds > 0 ? " (\(Quantity.bytes(Double(bytes) / seconds))/s)" : ""
      return "\(Quantity.bytes(bytes))\(rate) \(way) the host"
    }
    let ways = [moved(io.bytesToHost, "to"), moved(io.bytesFromHost, "from")].compactMap { $0 }
    guard !ways.isEmpty else { return "No data moved in these commands." }
    let isReal = summary.subject != .endpoint || io[.dataIn].maxNs > 0 || io[.dataOut].maxNs > 0
    return isReal
      ? "Data moved: \(ways.joined(separator: ", "))."
      : "Data asked for: \(ways.joined(separator: ", ")); the null backend moves none."
  }

  // MARK: What is worth knowing of a stage

  private var turn: String? {
    let detect = io[.detect].meanNs
    guard summary.commandsFromHost > 0, detect >= 0.1 * meanNs, summary.turn.meanNs >= 0.5 * detect else { return nil }
    return
      "Most of detect is waiting for a turn: \(Quantity.time(summary.turn.meanNs)) of \(Quantity.time(detect)) pass "
      + "after the engine saw the doorbell."
  }

  private var queueFull: String? {
    guard summary.queueFull.maxNs > 0 else { return nil }
    return "The completion queue was full: commands waited \(Quantity.time(summary.queueFull.meanNs)) on average and "
      + "\(Quantity.time(summary.queueFull.maxNs)) at most for the host to free entries."
  }

  private var unexplained: String? {
    let time = io.unexplained
    guard time.meanNs >= 0.02 * meanNs else { return nil }
    return
      "\(Quantity.time(time.meanNs)) of the mean (\(Quantity.percent(time.share(of: io.latency)))) is between the stages: "
      + (summary.subject == .endpoint
        ? "the engine's work for no command in particular, and the recording of events."
        : "the driver's work that no probe bounds.")
  }

  private var undetected: String? {
    guard let bound = summary.undetected else { return nil }
    let whose =
      summary.commandsFromHost == 0
      ? "" : " of \(Quantity.count(bound.count)) of \(Quantity.count(io.commands, "command"))"
    return
      "Detect is only bounded: without a host stream, the time\(whose) begins when the engine saw the doorbell, at most "
      + "\(Quantity.time(bound.meanNs)) after the write on average and \(Quantity.time(bound.maxNs)) in the worst case."
  }

  private var hiddenStages: String? {
    guard summary.subject != .endpoint, summary.commandsFromHost == 0, io[.detect].maxNs == 0 else { return nil }
    return
      "Detect and reap are missing: a target does not see when the host writes a doorbell. Merge it with a trace of the host."
  }

  private var hostSubmit: String? {
    guard let submit = summary.hostSubmit, submit.meanNs >= 0.01 * meanNs else { return nil }
    return
      "Before its doorbell a command spends \(Quantity.time(submit.meanNs)) in the host's submission (slat), which fio's "
      + "clat leaves out too."
  }

  // MARK: Data quality

  private var hung: String? {
    guard let oldest = summary.hung else { return nil }
    let count = max(summary.unfinished, 1)
    return "\(Quantity.count(count, "command")) had not completed when the trace ended, the oldest after "
      + "\(Quantity.time(oldest.ageNs)): \(oldest.name); \(oldest.next)."
  }

  /// What follows is about few of the commands.
  private var leavesOutMany: Bool {
    let unfinished = hung == nil ? summary.unfinished : 0
    return summary.partial + summary.interrupted + summary.reused + unfinished >= max(io.commands / 10, 1)
  }

  private var completeness: String? {
    var parts: [String] = []
    if summary.lost > 0 || summary.gaps > 0 {
      parts.append(
        "\(Quantity.count(summary.lost, "event")) \(summary.lost == 1 ? "was" : "were") lost, in "
          + "\(Quantity.count(summary.gaps, "gap"))")
    }
    if summary.partial > 0 {
      parts.append("\(Quantity.count(summary.partial, "command")) left out because events were lost")
    }
    parts += summary.drops.map {
      "\(Quantity.count($0.commands, "command")) did not complete because \($0.drop.reason)"
    }
    if summary.reused > 0 {
      parts.append(
        "\(Quantity.count(summary.reused, "command")) left out because the host reused the identifier too early")
    }
    if summary.unfinished > 0, hung == nil {
      parts.append("\(Quantity.count(summary.unfinished, "command")) had not completed when the trace ended")
    }
    guard parts.isEmpty else { return parts.joined(separator: "; ") + "." }
    // After a finding that explains why nothing works, this would read as if nothing were wrong.
    return summary.stops?.hasRecovered == false || hung != nil ? nil : "No event was lost, and no command is left out."
  }

  private var recorder: String? {
    guard summary.ringWaits > 0 else { return nil }
    let share =
      io.durationNs > 0 ? " (\(Quantity.percent(Double(summary.ringWaitNs) / Double(io.durationNs))) of the time)" : ""
    return
      "The recording delayed the recorded threads by \(Quantity.time(summary.ringWaitNs))\(share), in "
      + "\(Quantity.count(summary.ringWaits, "wait")) for room in a ring; the times below include that."
  }

  private var probes: String? {
    guard let probes = summary.probes, probes.runs > 0 else { return nil }
    if areProbesDear {
      return "The probes cost up to \(Quantity.time(probes.ns / io.commands)) a command: "
        + "\(Quantity.count(probes.runs)) runs took \(Quantity.time(probes.ns)). The times here include that."
    }
    return
      "The probes ran \(Quantity.count(probes.runs, "time")) and took \(Quantity.time(probes.ns)) in total, "
      + "\(Quantity.time(Double(probes.ns) / Double(probes.runs))) each; \(probes.dearest.printable(limit: 128)) took the most, "
      + "\(Quantity.time(probes.dearestNs)). The times below include this."
  }

  /// They are a part of the latency that a reader must know.
  private var areProbesDear: Bool {
    guard let probes = summary.probes, io.commands > 0 else { return false }
    return Double(probes.ns) / Double(io.commands) >= 0.02 * meanNs
  }

  private var hostClock: String? {
    guard let bound = summary.hostClockBoundNs else { return nil }
    return
      "Host times are accurate to ±\(Quantity.time(bound)); detect and reap inherit that."
  }

  private var completedTwice: String? {
    guard summary.completedTwice > 0 else { return nil }
    return
      "The driver posted a second completion for \(Quantity.count(summary.completedTwice, "command")); nvmepf replay names "
      + "them."
  }

  private var unannounced: String? {
    guard summary.unannounced > 0 else { return nil }
    return
      "\(Quantity.count(summary.unannounced, "command")) completed without an interrupt: the host polls the queue, or "
      + "the interrupt is missing."
  }

  private var inversions: String? {
    guard summary.inversions > 0 else { return nil }
    return
      "The clocks disagree: \(Quantity.count(summary.inversions, "event")) came before the cause, and count"
      + (summary.inversions == 1 ? "s" : "") + " as simultaneous."
  }

  private var resets: String? {
    guard summary.resetsBetween > 0 else { return nil }
    let times = summary.resetsBetween == 1 ? "once" : Quantity.count(summary.resetsBetween, "time")
    return "The controller was reset or disabled \(times) after the first command."
  }

  private var kernel: String? {
    guard summary.kernelEvents > 0, summary.subject == .endpoint else { return nil }
    return "\(Quantity.count(summary.kernelEvents, "kernel event")) are not analysed here; see --controller."
  }
}

extension Summary {
  /// A command that waits for longer than any other took.
  var hung: UnfinishedCommand? { oldestUnfinished.first.flatMap { $0.ageNs > io.latency.maxNs ? $0 : nil } }
}

extension Drop {
  /// What happened before the commands completed.
  fileprivate var reason: String {
    switch self {
    case .disabled: "the host reset the controller (CC.EN)"
    case .deviceReset: "the device was reset"
    case .functionReset: "the function was reset"
    case .disconnect: "the host disconnected"
    case .linkDown: "the link went down"
    case .queueDeletion: "the host deleted their queue"
    }
  }
}
