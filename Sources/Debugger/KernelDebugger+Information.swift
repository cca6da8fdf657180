import EventWords
import Events
import KernelStreams
import KernelTimeline
import NVMe
import Report
import Text
import Trace

extension KernelDebugger {
  func inform(_ subject: String, _ words: inout TypedWords) throws {
    switch subject {
    case "command":
      let (qid, cid) = try command(&words)
      try words.end()
      return try showCommand(qid, cid)
    case "transfers":
      guard !words.isEmpty else { return try showTransfersUnderWay() }
      let (qid, cid) = try command(&words)
      try words.end()
      return try showTransfers(qid, cid)
    default: break
    }
    try words.end()
    switch subject {
    case "": tell(summary(of: try state()))
    case "commands": try showCommands()
    case "works": try showWorks()
    case "queues": try showQueues()
    case "interrupts": try showInterrupts()
    case "registers": try showRegisters()
    case "twin": try showTwin()
    case "problems": try showProblems()
    default: break
    }
  }

  /// "3 commands in flight, 2 of them wait for a worker; CPU 0 runs command 5 of queue 1."
  private func summary(of state: KernelState) -> String {
    let counts = [
      (state.commands.values.filter { $0.stage == .submitted }.count, "not fetched"),
      (state.commands.values.filter { $0.stage == .fetched }.count, "without a worker"),
      (state.commands.values.filter { $0.stage == .ready }.count, "to be posted"),
    ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
    let running = state.timeline.openWorks.compactMap { cpu in
      cpu.works.last.map { "CPU \(cpu.cpu) runs \($0.item.name(for: subject.number))" }
    }
    return "Event \(number(current)) of \(Quantity.count(end)), in \(streamName); "
      + "\(Quantity.count(state.commands.count, "command")) in flight"
      + (counts.isEmpty ? "" : ": \(counts.joined(separator: ", "))")
      + running.map { "; \($0)" }.joined() + "."
  }

  /// Of the event at the point: "kernel/0".
  private var streamName: String {
    _ = try? events.event(current)
    let id = events.id(of: current)
    return "\(id.source)/\(id.stream)"
  }

  // MARK: Commands

  private func showCommands() throws {
    let state = try state()
    guard !state.commands.isEmpty else { return say("no command is in flight") }
    let sorted = state.commands.values.sorted { $0.begun.event < $1.begun.event }
    for command in sorted.prefix(40) {
      tell(
        "  ",
        "\(name(command)): \(begin(of: command, state)); \(try stage(of: command)), "
          + "\(try since(command))" + doubt(of: command, state))
    }
    if sorted.count > 40 { say("  and \(Quantity.count(sorted.count - 40)) more") }
  }

  func name(_ command: KernelState.Command) -> String { name(command.key.qid, command.key.cid, command.opcode) }

  /// "is fetched, and waits for a worker".
  func stage(of command: KernelState.Command) throws -> String {
    let underWay = try transferUnderWay(of: command.key)
    if let underWay, underWay.stage == .submitted { return "is being fetched" }
    return (underWay?.stage ?? command.stage).text(
      isEndpoint: subject.isEndpoint, isEventRequest: command.isEventRequest, opcode: command.opcode)
  }

  /// "since #19028, 309 µs ago", or of a transfer that is under way "for 9.20 ms, until #5985".
  func since(_ command: KernelState.Command) throws -> String {
    guard let underWay = try transferUnderWay(of: command.key) else {
      return "since \(number(command.last.event)), \(age(command.last.ns))"
    }
    return "for \(Quantity.time(time - min(underWay.begunNs, time))), until \(number(underWay.event))"
  }

  /// "begun 1.10 ms ago, #19026".
  private func begin(of command: KernelState.Command, _ state: KernelState) -> String {
    guard command.isCut else { return "begun \(age(command.begun.ns)), \(number(command.begun.event))" }
    return state.lost == nil ? "began before the recording" : "began before the recording, or its beginning is lost"
  }

  func doubt(of command: KernelState.Command, _ state: KernelState) -> String {
    var doubt = ""
    if state.wasReset(command), let reset = state.reset {
      doubt = "; it was in flight at the reset, \(number(reset.event))"
    }
    if command.isDoubtful, let lost = state.lost {
      doubt += "; events were lost at \(number(lost.event)), it may have ended"
    }
    return doubt
  }

  private func showCommand(_ qid: UInt16, _ cid: UInt16) throws {
    guard let history = try history(qid, cid) else {
      throw DebuggerError("there is no command \(qid)/\(cid) up to here")
    }
    if let record = try events.event(history.begin) { show(history.begin, record) }
    if let entry = history.entry { showEntry(entry) }
    if let command = try state().commands[history.key] {
      tell("  ", "it \(try stage(of: command)), \(try since(command))")
    } else if let ended = history.ended, ended < point {
      say("  ended at \(number(ended)), \(age(history.endedNs))")
    } else {
      say("  not in flight")
    }
  }

  // MARK: Works

  private func showWorks() throws {
    let state = try state()
    guard subject.isEndpoint else {
      throw DebuggerError("only nvmet-pci-epf has workers: this trace tells nothing of what CPUs run")
    }
    let cpus = state.timeline.openWorks
    if cpus.isEmpty { say("no CPU of the target has recorded an event up to here") }
    for cpu in cpus {
      let seen = state.lastOfCPU[cpu.cpu].map { "; last event \(number($0.event)), \(age($0.ns))" } ?? ""
      guard let running = cpu.works.last else {
        tell(
          "CPU \(cpu.cpu): ",
          (cpu.isPolling ? "polls the submission queues, or runs nothing traced" : "nothing traced") + seen)
        continue
      }
      tell("CPU \(cpu.cpu): ", work(running, state) + seen)
      for waiting in cpu.works.dropLast().reversed() { tell("  ", "interrupted, or asleep: " + work(waiting, state)) }
    }
    let waiting = state.commands.values.filter { $0.stage == .fetched }.sorted { $0.begun.event < $1.begun.event }
    guard let first = waiting.first else { return }
    tell(
      "\(Quantity.count(waiting.count, "command waits", "commands wait")) for a worker, \(name(first)) since "
        + "\(number(first.last.event)), \(age(first.last.ns)).")
  }

  private func work(_ work: DriverTimeline.CPUWorks.Work, _ state: KernelState) -> String {
    let item = work.item
    let begun =
      item.controller != subject.number
      ? nil
      : item.isCommand
        ? state.workBegins[CommandKey(qid: item.qid, cid: item.cid)] : state.completionWorkBegins[item.qid]
    return "\(item.name(for: subject.number)): \(work.activity.phrase)"
      + (begun.map { ", begun \(number($0.event)), \(age($0.ns))" } ?? "")
  }

  // MARK: Transfers

  private func showTransfers(_ qid: UInt16, _ cid: UInt16) throws {
    guard let history = try history(qid, cid) else {
      throw DebuggerError("there is no command \(qid)/\(cid) up to here")
    }
    let past = history.transfers.filter { $0 < point }
    let underWay = try transferUnderWay(of: history.key)
    if past.isEmpty, underWay == nil { say("nothing of command \(qid)/\(cid) was transferred up to here") }
    for event in past {
      if let record = try events.event(event) { show(event, record) }
    }
    if let underWay { try show(underWay) }
  }

  /// A transfer that has begun and not ended.
  struct Transfer {
    let event: UInt64
    let key: CommandKey?
    let stage: CommandProgress
    let begunNs: UInt64
    let endNs: UInt64
  }

  /// A transfer is recorded at its end, with its duration: those that end after the point and began before.
  func transfersUnderWay() throws -> [Transfer] {
    if let known = knownTransfers, known.point == point { return known.transfers }
    let now = time
    var found: [Transfer] = []
    var left = subject.isEndpoint ? 1 << 16 : 0
    try events.visit(from: point) { event in
      left -= 1
      let record = event.record.pointee
      guard left > 0, record.time < now + 1_000_000_000, found.count < 64 else { return true }
      if subject.isTarget(event.id), let span = KernelDebugger.span(of: record),
        span > record.time - min(now, record.time)
      {
        var stage = CommandProgress.submitted
        if case .reached(_, let reached, _) = subject.meaning(of: event), reached != .fetched { stage = reached }
        found.append(
          Transfer(
            event: event.number, key: subject.command(of: event), stage: stage,
            begunNs: record.time - min(span, record.time), endNs: record.time))
      }
      return false
    }
    knownTransfers = (point, found)
    return found
  }

  func transferUnderWay(of key: CommandKey) throws -> Transfer? { try transfersUnderWay().first { $0.key == key } }

  private func showTransfersUnderWay() throws {
    guard subject.isEndpoint else { throw DebuggerError("only nvmet-pci-epf's transfers are recorded") }
    let transfers = try transfersUnderWay()
    if transfers.isEmpty { say("no transfer is under way") }
    for transfer in transfers { try show(transfer) }
  }

  private func show(_ transfer: Transfer) throws {
    guard let record = try events.event(transfer.event) else { return }
    show(transfer.event, record)
    say("  begun \(age(transfer.begunNs)); ends in \(Quantity.time(transfer.endNs - min(time, transfer.endNs)))")
  }

  private static func span(of record: Record) -> UInt64? {
    switch record.event {
    case .fetch: UInt64(Event.Fetch(record).span)
    case .read: UInt64(Event.Read(record).span)
    case .segment: UInt64(Event.Segment(record).span)
    default: nil
    }
  }

  // MARK: Controller

  private func showQueues() throws {
    let state = try state()
    guard !state.submissionQueues.isEmpty || !state.completionQueues.isEmpty else {
      return say("the trace tells of no queues up to here")
    }
    say("  SQ    CQ  entries   head   tail  in flight  no worker")
    for (qid, queue) in state.submissionQueues.sorted(by: { $0.key < $1.key }) {
      let commands = state.commands.values.filter { $0.key.qid == qid && $0.stage != .submitted }
      say(
        row([
          ("\(qid)", 4), ("\(queue.cqid)", 6), ("\(queue.entries)", 9), (known(queue.head), 7),
          (known(queue.tail), 7), ("\(commands.count)", 11),
          ("\(commands.filter { $0.stage == .fetched }.count)", 11),
        ]))
    }
    say("  CQ  vector  entries   tail  phase  posted  unannounced  to post")
    for (cqid, queue) in state.completionQueues.sorted(by: { $0.key < $1.key }) {
      let ready = state.commands.values.filter {
        $0.stage == .ready && state.submissionQueues[$0.key.qid]?.cqid == cqid
      }
      say(
        row([
          ("\(cqid)", 4), ("\(queue.vector)", 8), ("\(queue.entries)", 9), (known(queue.tail), 7),
          (known(queue.phase.map { $0 ? 1 : 0 }), 7), (known(queue.posted), 8), (known(queue.unannounced), 13),
          ("\(ready.count)", 9),
        ]))
    }
  }

  private func known(_ value: (some BinaryInteger)?) -> String { value.map { "\($0)" } ?? "-" }

  private func showInterrupts() throws {
    let queues = try state().completionQueues
    guard !queues.isEmpty else { return say("the trace tells of no queues up to here") }
    for (cqid, queue) in queues.sorted(by: { $0.key < $1.key }) {
      tell("CQ \(cqid): ", interruptText(queue))
    }
  }

  func interruptText(_ queue: KernelState.CompletionQueue) -> String {
    let last = queue.interrupt.map { "the last interrupt \(number($0.event)), \(age($0.ns))" } ?? "no interrupt so far"
    let since =
      queue.unannounced.map { "\(Quantity.count($0, "entry", "entries")) posted since" }
      ?? "events were lost, and it is not known what was posted since"
    return "vector \(queue.vector), \(last); \(since)."
  }

  private func showRegisters() throws {
    let state = try state()
    guard !state.registers.isEmpty || state.csts != nil else {
      return say("the trace tells of no register up to here")
    }
    for register in RegisterLayout.all {
      if let value = state.registers[register.offset] { showRegister(register.name, value) }
    }
    if let csts = state.csts { showRegister("CSTS", csts) }
    if let isUp = state.isLinkUp { say("the link is \(isUp ? "up" : "down")") }
  }

  // MARK: The whole recording

  private func showProblems() throws {
    let problems = try RecordingProblems(of: events, countsExecution: subject.hasTarget && !subject.isEndpoint) {
      event in
      subject.hasTarget ? subject.isTarget(event.id) : subject.isHost(event.id)
    }
    for kind in problems.kinds {
      tell("  ", "\(Quantity.count(kind.count)) × \(kind.what), first \(number(kind.first))")
    }
    let last = try kernel.state(at: end)
    let unfinished = last.commands.values.filter { !$0.isEventRequest }.count
    if unfinished > 0 {
      tell(
        "  ",
        "\(Quantity.count(unfinished, "command")) in flight at the end; goto end, then info commands and why oldest")
    }
    if let (_, count, at) = last.abandoned, count > 0 {
      tell("  ", "\(Quantity.count(count, "command")) in flight at the last reset, \(number(at.event))")
    }
    let differences = subject.isEndpoint ? try twin().state(at: .max).compared.newDifferences : 0
    if differences > 0 {
      tell(
        "  ",
        "\(Quantity.count(differences, "difference")) between the driver and our engine; goto end, then info twin, or "
          + "nvmepf replay")
    }
    if problems.kinds.isEmpty, unfinished == 0, differences == 0 {
      tell("nothing went wrong that the events show by themselves; look for slow commands: break total > 1ms")
    }
  }
}
