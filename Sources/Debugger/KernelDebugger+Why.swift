import EventWords
import Events
import KernelStreams
import KernelTimeline
import NVMe
import Report
import Text
import Trace

extension KernelDebugger {
  // MARK: Lives

  func showBacktrace(_ words: inout TypedWords) throws {
    let (qid, cid) = try command(&words)
    try words.end()
    guard let history = try history(qid, cid) else {
      throw DebuggerError("there is no command \(qid)/\(cid) up to here")
    }
    let begin = history.isCut ? "began before the recording, seen since" : history.isFromHost ? "submitted" : "begun"
    tell("\(name(qid, cid, history.opcode)), \(begin) \(age(history.beginNs)):")
    for event in history.events where event < point {
      guard let record = try events.event(event) else { continue }
      let offset = "+" + Quantity.time(record.pointee.time - min(history.beginNs, record.pointee.time))
      tell("  \(offset.padded(to: 9)) \(number(event).padded(to: 8)) ", origin(of: event) + EventSentence.text(record))
    }
    for wait in try waits(of: history) {
      tell(wait.heading)
      for row in wait.rows(of: qid, cid) { tell("  \(row.time)  ", row.what) }
    }
    if let difference = try difference(of: history) { tell(difference) }
    if let command = try state().commands[history.key], command.begun.event == history.begin {
      try tellState(command, history)
    }
  }

  /// What it waited behind for its fetch, a worker, and its completion queue's work, as far as that is over at the point.
  private func waits(of history: KernelCommand) throws -> [WaitReasons] {
    guard subject.isEndpoint else { return [] }
    let since = try kernel.state(at: history.begin)
    var finder = WaitFinder(of: subject.number, KernelStreams(owners: subject.owners), since.timeline)
    var waits: [WaitReasons] = []
    let upTo = min(history.ended ?? .max, current)
    try events.visit(from: history.begin) { event in
      guard event.number <= upTo else { return true }
      guard event.id.source == .kernel, !event.record.pointee.is(.origin) else { return false }
      finder.ingest(event.record.pointee, tail: event.record.tail, stream: event.id.stream)
      let isOwn = subject.command(of: event) == history.key && subject.isTarget(event.id)
      if isOwn,
        let found = finder.reasons(
          event.record.pointee, stream: event.id.stream, durations(of: history, at: event.record.pointee))
      {
        waits.append(found)
      }
      return false
    }
    return waits
  }

  /// How long it waited for what an event of it ended.
  private func durations(of history: KernelCommand, at record: Record) -> (
    detect: UInt64, dispatch: UInt64, completion: UInt64
  ) {
    switch record.event {
    case .fetch where history.isFromHost:
      let begin = record.time - min(UInt64(Event.Fetch(record).span), record.time)
      let since = history.rungNs ?? history.beginNs
      return (begin - min(since, begin), 0, 0)
    case .work: return (0, UInt64(Event.Work(record).queued), 0)
    case .completion:
      guard let ready = history.readyNs, let began = history.completionWorkNs else { return (0, 0, 0) }
      return (0, 0, began - min(ready, began))
    default: return (0, 0, 0)
    }
  }

  // MARK: Why

  func whyOldest() throws {
    let state = try state()
    if let oldest = state.oldest { return try whyCommand(oldest.key.qid, oldest.key.cid) }
    guard let oldest = state.oldestAbandoned, let at = state.abandoned?.at else {
      throw DebuggerError("no command is in flight, other than requests for events")
    }
    say("before the controller was reset or disabled at \(number(at.event)):")
    let (point, time) = (point, time)
    defer { (self.point, self.time) = (point, time) }
    (self.point, self.time) = (at.event, at.ns)
    try whyCommand(oldest.key.qid, oldest.key.cid)
  }

  func whyCommand(_ qid: UInt16, _ cid: UInt16) throws {
    guard let history = try history(qid, cid) else {
      return tell("The trace has no command \(qid)/\(cid) up to here.")
    }
    if let command = try state().commands[history.key] { return try tellState(command, history) }
    let subject = name(qid, cid, history.opcode)
    guard let ended = history.ended, let end = history.end else { return tell("\(subject) is not in flight any more.") }
    let status = history.status.map { Status(rawValue: $0) }.map { " with status \($0.name ?? $0.code.hex)" } ?? ""
    let how =
      switch end {
      case .completed: "was completed\(status)"
      case .dropped: "was abandoned by the driver without a completion"
      case .reset: "was abandoned by a reset"
      case .queueDeleted: "ended with its queue"
      case .replaced: "was replaced by another one with its name; its own end is lost"
      }
    tell("\(subject) \(how), \(number(ended)), \(age(history.endedNs)).")
    if let difference = try difference(of: history) { tell(difference) }
  }

  /// What a command in flight waits for, since when, and what will come of it.
  private func tellState(_ command: KernelState.Command, _ history: KernelCommand) throws {
    let state = try state()
    let shown = try transferUnderWay(of: command.key)?.event ?? command.last.event
    let text = try events.event(shown).map(EventSentence.text) ?? ""
    tell(
      "\(name(command)) \(try stage(of: command)), \(try since(command)): \(text)"
        + "\(doubt(of: command, state))\(command.isCut ? "; it began before the recording, or in a gap" : "").")
    if state.isLinkUp == false { tell("The link is down.") }
    switch command.stage {
    case .submitted: try tellFetching(command, state)
    case .fetched, .executed, .ready: tellRunning(state)
    default: break
    }
    guard let ended = history.ended, let end = history.end else {
      return tell("The trace ends without its completion.")
    }
    let how =
      switch end {
      case .completed: "It completes"
      case .dropped: "The driver abandons it"
      case .reset: "A reset ends it"
      case .queueDeleted: "The deletion of its queue ends it"
      case .replaced: "Another one with its name begins"
      }
    tell(
      "\(how) at \(number(ended)), \(Quantity.time(history.endedNs - min(history.beginNs, history.endedNs))) after its "
        + "\(history.isFromHost ? "submission" : "first event").")
  }

  private func tellFetching(_ command: KernelState.Command, _ state: KernelState) throws {
    guard let queue = state.submissionQueues[command.key.qid] else { return }
    if let tail = queue.tail, let head = queue.head {
      tell(
        tail == head
          ? "The driver has fetched all up to the host's doorbell, \(tail)."
          : "The host's doorbell is at \(tail); the driver has fetched up to entry \(head).")
    }
    if let failed = queue.failedFetch {
      tell("The driver's last fetch from this queue failed, \(number(failed.event)), \(age(failed.ns)).")
    }
    tellRunning(state)
  }

  /// What the CPUs of the target run.
  private func tellRunning(_ state: KernelState) {
    for cpu in state.timeline.openWorks {
      guard let running = cpu.works.last else {
        if cpu.isPolling { tell("CPU \(cpu.cpu) polls the submission queues, or runs nothing that is traced.") }
        continue
      }
      tell("CPU \(cpu.cpu) runs \(running.item.name(for: subject.number)): \(running.activity.phrase).")
    }
  }

  func whyNoInterrupt(_ vector: UInt16) throws {
    let all = try state().completionQueues
    let queues = all.filter { $0.value.vector == vector }.sorted { $0.key < $1.key }
    guard !queues.isEmpty else {
      let vectors = Set(all.values.map(\.vector)).sorted().map { "\($0)" }.joined(separator: ", ")
      return tell("No completion queue uses vector \(vector); used are: \(vectors.isEmpty ? "none" : vectors).")
    }
    for (cqid, queue) in queues {
      tell("CQ \(cqid): \(interruptText(queue))")
      if queue.unannounced ?? 0 > 0 {
        tell("  ", "The driver raises one when the work of the queue ends, or the host's threshold is reached.")
      }
    }
  }

  func tellIdleReasons() throws {
    let state = try state()
    if state.isLinkUp == false { tell("The link is down.") }
    if let cc = state.registers[Register.cc], cc & 1 == 0 { tell("The host has disabled the controller (CC.EN 0).") }
    let waiting = state.commands.values.filter { !$0.isEventRequest }
    guard !waiting.isEmpty else {
      tell("No command is in flight" + (state.commands.isEmpty ? "." : ", other than requests for events."))
      for (qid, queue) in state.submissionQueues.sorted(by: { $0.key < $1.key }) {
        guard let tail = queue.tail, let head = queue.head, tail != head else { continue }
        tell("The host's doorbell of SQ \(qid) is at \(tail); the driver has fetched up to entry \(head).")
      }
      return
    }
    let sorted = waiting.sorted { $0.begun.event < $1.begun.event }
    let groups = Dictionary(grouping: sorted, by: \.stage).values.sorted { $0[0].begun.event < $1[0].begun.event }
    for commands in groups {
      let oldest = commands[0]
      let text = try stage(of: oldest)
      tell(
        commands.count == 1
          ? "\(name(oldest)) \(text)." : "\(commands.count) commands: each \(text); the oldest is \(name(oldest)).")
    }
    tellRunning(state)
  }

  // MARK: The twin

  /// Our engine, if this is a trace of nvmet-pci-epf.
  func twin() throws -> DriverTwin {
    guard subject.isEndpoint else {
      throw DebuggerError(
        "there is no twin: only nvmet-pci-epf receives registers and entries that our engine could replay")
    }
    let twin = try knownTwin ?? DriverTwin(reader, controller: subject.number)
    knownTwin = twin
    return twin
  }

  func showTwin() throws {
    let twin = try twin()
    let (state, compared) = twin.state(at: time)
    guard twin.isFollowing else {
      return say("there is no twin: the recording begins after the host enabled the controller")
    }
    let performed =
      "performed \(Quantity.count(compared.commands, "command")), each when the driver fetched it; "
      + "\(Quantity.count(compared.compared)) were compared."
    let stop = twin.stop.flatMap { $0.ns <= time ? $0 : nil }
    if let stop {
      let last = try events.end(upTo: stop.ns - min(stop.ns, 1))
      tell(
        "\(stop.isLoss ? "Events were lost" : "A replay takes no more"): nothing after "
          + "\(number(last - min(last, 1))) was replayed. Until then our engine \(performed)")
    } else {
      let condition =
        state.registers.isFatal
        ? "has failed (CSTS.CFS)" : state.registers.isReady ? "is ready" : "is disabled"
      tell("Our engine got what the driver received up to here: it \(condition), and \(performed)")
    }
    if compared.uncompared > 0 {
      tell("\(Quantity.count(compared.uncompared, "command")) could not be compared; see nvmepf replay.")
    }
    if compared.differences.isEmpty, compared.compared > 0 { say("it agrees with the driver") }
    for difference in compared.differences.suffix(8) {
      let known = if case .knownDeparture(let why) = difference.kind { " Known: \(why)." } else { "" }
      tell("  ", "\(Debugger.moment(difference.timeNs)) \(difference.command): \(difference.what).\(known)")
    }
    guard stop == nil else { return }
    showQueues(state)
    showRegisters(state.registers)
  }

  /// How the twin differs in a command.
  private func difference(of history: KernelCommand) throws -> String? {
    guard subject.isEndpoint, let fetch = history.fetchedNs else { return nil }
    let differences = try twin().state(at: max(time, fetch)).compared.differences.filter { $0.timeNs == fetch }
    return differences.isEmpty ? nil : "Our engine differs: " + differences.map(\.what).joined(separator: "; ") + "."
  }
}
