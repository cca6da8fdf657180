import Endpoint
import EventWords
import Events
import NVMe
import Replay
import Report
import Text
import Trace

extension EngineDebugger {
  func inform(_ subject: String, _ words: inout TypedWords) throws {
    switch subject {
    case "": tell(summary(of: try state()))
    case "queues":
      try words.end()
      showQueues(try state())
    case "queue":
      guard let qid = words.number().flatMap(UInt16.init(exactly:)) else {
        throw DebuggerError("info queue needs a number")
      }
      try words.end()
      try showQueue(qid, try state())
    case "commands":
      try words.end()
      showCommands(try state().commands)
    case "command":
      let (qid, cid) = try command(&words)
      try words.end()
      try showCommand(qid, cid)
    case "registers":
      try words.end()
      showRegisters(try state().registers)
    case "namespaces":
      try words.end()
      showNamespaces(try state())
    case "interrupts":
      try words.end()
      showInterrupts(try state())
    case "timers":
      try words.end()
      showTimers(try state())
    case "problems":
      try words.end()
      try showProblems()
    case "host":
      try words.end()
      try showHosts()
    case "memory": try showMemory(&words)
    default: break
    }
  }

  /// "The controller is ready; 32 commands in flight, 30 at backends; 2 announced entries are not fetched."
  private func summary(of state: EngineState) -> String {
    let registers = state.registers
    let condition =
      registers.isFatal
      ? "The controller has failed (CSTS.CFS)"
      : registers.isReady ? "The controller is ready" : "The controller is disabled"
    let executing = state.commands.filter { $0.awaits == .backend }.count
    let announced = state.submissionQueues.reduce(0) { $0 + Int($1.announced) }
    return "\(condition); \(Quantity.count(state.commands.count, "command")) in flight, \(executing) at backends; "
      + "\(Quantity.count(announced, "announced entry", "announced entries")) not fetched."
  }

  // MARK: Queues

  private func showQueue(_ qid: UInt16, _ state: EngineState) throws {
    let (submission, completion) = (state.submissionQueue(qid), state.completionQueue(qid))
    guard submission != nil || completion != nil else { throw DebuggerError("there is no queue \(qid) here") }
    if let queue = submission {
      tell(
        "SQ \(qid): \(queue.size) entries at \(queue.base.hex), completions to CQ \(queue.cqid); head \(queue.head), "
          + "tail \(queue.tail): \(Quantity.count(queue.announced)) announced and not fetched; "
          + "\(Quantity.count(queue.held)) in flight, \(Quantity.count(queue.executing)) at the backend."
          + (queue.isBeingDeleted ? " It is being deleted." : "")
          + (queue.doorbell != queue.tail ? " The doorbell reads \(queue.doorbell), which is invalid." : ""))
      try tellLast("tail doorbell") { $0.pointee.is(.doorbell) && $0.pointee.qid == qid && !self.isHead($0) }
      try tellLast("fetch") { $0.pointee.is(.fetch) && $0.pointee.qid == qid }
    }
    if let queue = completion {
      tell(
        "CQ \(qid): \(queue.size) entries at \(queue.base.hex); head \(queue.head), tail \(queue.tail), phase "
          + "\(queue.phase ? 1 : 0): \(Quantity.count(queue.outstanding)) posted and not freed, "
          + (queue.interruptsEnabled ? "\(Quantity.count(queue.unannounced)) not announced." : "polled (IEN 0).")
          + (queue.isBlocked
            ? " It is full, and \(Quantity.count(queue.waiting, "completion waits", "completions wait"))."
            : queue.isFull ? " It is full." : "")
          + (queue.doorbell != queue.head
            ? " The doorbell reads \(queue.doorbell), which is invalid: the engine ignores it." : ""))
      try tellLast("head doorbell") { $0.pointee.is(.doorbell) && $0.pointee.qid == qid && self.isHead($0) }
      try tellLast("completion") { $0.pointee.is(.completion) && $0.pointee.qid == qid }
      try tellLast("interrupt") { $0.pointee.is(.interrupt) && $0.pointee.qid == qid }
    }
    showCommands(state.commands.filter { $0.qid == qid })
  }

  func isHead(_ record: UnsafePointer<Record>) -> Bool {
    Event.Doorbell(record.pointee).flags.contains(.completionHead)
  }

  /// The latest event of a kind up to the point, with its number and age.
  private func tellLast(_ what: String, _ isMeant: (UnsafePointer<Record>) -> Bool) throws {
    guard let (number, text, age) = try last(isMeant) else { return say("  no \(what) so far") }
    tell("  ", "last \(what) \(self.number(number)), \(age): \(text)")
  }

  /// The latest such event up to the point: number, text, age.
  func last(_ isMeant: (UnsafePointer<Record>) -> Bool) throws -> (event: UInt64, text: String, age: String)? {
    var found: (event: UInt64, text: String, ns: UInt64)?
    try events.forEachBackward(before: point) { number, record in
      guard isMeant(record) else { return false }
      found = (number, EventSentence.text(record), record.pointee.time)
      return true
    }
    guard let found else { return nil }
    return (found.event, found.text, age(found.ns))
  }

  // MARK: Commands

  private func showCommands(_ commands: [EngineState.InFlight]) {
    guard !commands.isEmpty else { return say("no command is in flight") }
    for command in commands.prefix(40) {
      tell("  ", "\(name(command.qid, command.cid, command.sqe.opcode)): \(command.awaits.text)")
    }
    if commands.count > 40 { say("  and \(Quantity.count(commands.count - 40)) more") }
  }

  private func showCommand(_ qid: UInt16, _ cid: UInt16) throws {
    let state = try state()
    guard let history = try history(qid, cid) else {
      throw DebuggerError("there is no command \(qid)/\(cid) up to here")
    }
    if let fetch = try events.event(history.fetched) { show(history.fetched, fetch) }
    if let entry = history.entry {
      showEntry(entry)
    }
    if let command = state.command(qid, cid) {
      say("  in slot \(command.slot); \(command.awaits.text)")
    } else if let ended = history.ended, ended < point {
      say("  ended at \(number(ended)), \(age(history.endedNs))")
    } else {
      say("  not in flight")
    }
  }

  // MARK: Controller

  private func showNamespaces(_ state: EngineState) {
    guard !state.namespaces.isEmpty else { return say("there are no namespaces") }
    for namespace in state.namespaces {
      let notes = [
        namespace.isReadOnly ? "read-only" : nil, namespace.isWriteProtected ? "write protected" : nil,
        namespace.hasReservations ? "with reservations" : nil,
      ].compactMap { $0 }
      say(
        "namespace \(namespace.nsid): \(Quantity.count(namespace.blocks)) blocks of \(1 << namespace.blockShift) bytes"
          + notes.map { ", \($0)" }.joined())
    }
  }

  private func showInterrupts(_ state: EngineState) {
    guard !state.completionQueues.isEmpty else { return say("there are no queues") }
    for queue in state.completionQueues {
      tell("CQ \(queue.cqid): \(queue.interruptText)")
    }
  }

  private func showTimers(_ state: EngineState) {
    var lines: [String] = []
    if let ms = state.keepAliveMs { lines.append("keep alive: \(Quantity.count(ms)) ms") }
    for queue in state.completionQueues where queue.isAggregating {
      lines.append("aggregation of CQ \(queue.cqid): \(queue.aggregationUs) us")
    }
    if state.registers.pendingCC != nil { lines.append("poll of CC") }
    for line in lines.isEmpty ? ["no timer runs"] : lines { say(line) }
  }
}
