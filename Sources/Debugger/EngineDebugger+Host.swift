import Endpoint
import EventWords
import Events
import NVMe
import Text
import Trace

extension EngineDebugger {
  func hostView() throws -> HostView { try hostView(until: point, time) }

  /// What the hosts wait for at the point, and what they did wrong.
  func showHosts() throws {
    guard !hosts.isEmpty else { return say("the recording has no stream of a host") }
    let view = try hostView()
    if view.outstanding.isEmpty {
      say("no command of a host is outstanding")
    } else {
      say("\(Quantity.count(view.outstanding.count, "command")) outstanding at hosts, oldest first:")
      try show(view.outstanding, at: point)
    }
    if let (commands, count, event) = view.abandoned, let record = try events.event(event) {
      tell(
        "\(Quantity.count(count, "command")) outstanding when the controller was reset or disabled, "
          + "\(number(event)), \(age(record.pointee.time)): \(EventSentence.text(record)).")
      try show(commands, at: event)
    }
    try showFaults(view)
  }

  private func showFaults(_ view: HostView) throws {
    if let first = view.strays.first {
      tell("\(Quantity.count(view.strayCount, "completion")) named no outstanding command:")
      for stray in view.strays.prefix(EngineDebugger.listed) {
        say("  \(stray.qid)/\(stray.cid) at \(Debugger.moment(stray.ns))")
      }
      try tellFault(before: first)
    }
    if !view.reused.isEmpty {
      tell("\(Quantity.count(view.reusedCount, "command")) had the identifier of one outstanding:")
      for (command, earlier) in view.reused.prefix(EngineDebugger.listed) {
        tell(
          "  ",
          "\(command.qid)/\(command.cid) at \(Debugger.moment(command.ns)): a command with that identifier had "
            + "been submitted \(Quantity.time(command.ns - min(earlier.ns, command.ns))) before")
      }
    }
  }

  private static let listed = 8

  // MARK: The whole recording

  /// What went wrong anywhere, and where to look.
  func showProblems() throws {
    let problems = try RecordingProblems(of: events)
    for kind in problems.kinds {
      tell("  ", "\(Quantity.count(kind.count)) × \(kind.what), first \(number(kind.first))")
    }
    let view = try hostView(until: end, .max)
    let abandoned = view.abandoned?.count ?? 0
    if view.outstanding.count + abandoned > 0 {
      tell(
        "  ",
        "\(Quantity.count(view.outstanding.count + abandoned, "command")) of hosts without a completion at the end "
          + "or at the last reset; goto end, then info host and why oldest")
    }
    if view.strayCount + view.reusedCount > 0 {
      tell(
        "  ",
        "\(Quantity.count(view.strayCount, "completion")) for no command, "
          + "\(Quantity.count(view.reusedCount, "identifier")) used twice; goto end, then info host")
    }
    if problems.kinds.isEmpty, view.outstanding.isEmpty, abandoned + view.strayCount + view.reusedCount == 0 {
      say("nothing went wrong that the events show by themselves; look for slow commands: break total > 1ms")
    }
  }

  /// The last fault that was injected into the queue before a completion that names no command.
  private func tellFault(before stray: HostView.Submitted) throws {
    var fault: UInt64?
    try events.forEachBackward(before: try events.end(upTo: stray.ns)) { number, record in
      guard record.pointee.is(.fault), record.pointee.qid == stray.qid else { return false }
      fault = number
      return true
    }
    if let fault, let record = try events.event(fault) {
      tell("The last fault injected before, \(number(fault)): \(EventSentence.text(record)).")
    }
  }

  private func show(_ commands: [HostView.Submitted], at point: UInt64) throws {
    for command in commands.prefix(16) {
      let opcode = NVMeName.opcode(command.opcode, isAdmin: command.qid == 0) ?? command.opcode.hex
      tell(
        "  ",
        "command \(command.qid)/\(command.cid) (\(opcode)), submitted \(age(command.ns)): "
          + (try fate(of: command, at: point)))
    }
    if commands.count > 16 { say("  and \(Quantity.count(commands.count - 16)) more") }
  }

  /// What the engine did with a host's command up to a point.
  private func fate(of command: HostView.Submitted, at point: UInt64) throws -> String {
    let history = try CommandHistory.find(command.qid, command.cid, before: point, since: command.ns, in: events)
    guard let history else { return "not fetched" }
    guard let ended = history.ended, ended < point else { return "fetched, not completed" }
    return "completed by the engine, not seen by the host"
  }

  /// Whether a host has submitted another command with this name since a time.
  func hasNewer(_ qid: UInt16, _ cid: UInt16, since ns: UInt64) throws -> Bool {
    for host in hosts {
      var isFound = false
      try host.forEachBackward(before: try host.end(upTo: time)) { _, record in
        guard record.pointee.time > ns else { return true }
        isFound = record.pointee.is(.submit) && record.pointee.qid == qid && record.pointee.cid == cid
        return isFound
      }
      if isFound { return true }
    }
    return false
  }

  /// A host's newest tail doorbell of a queue, if it is newer than the last one that the engine has seen.
  func unseenTail(of queue: EngineState.Submission) throws -> String? {
    var seen: UInt64 = 0
    try events.forEachBackward(before: point) { _, record in
      let isTail = record.pointee.is(.doorbell) && record.pointee.qid == queue.qid && !isHead(record)
      guard isTail || CommandHistory.endsCommands(record.pointee) else { return false }
      seen = record.pointee.time
      return true
    }
    var newest: (value: UInt32, ns: UInt64)?
    for host in hosts {
      try host.forEachBackward(before: try host.end(upTo: time)) { _, record in
        guard record.pointee.time > max(seen, newest?.ns ?? 0) else { return true }
        guard record.pointee.is(.doorbell), record.pointee.qid == queue.qid, !isHead(record) else { return false }
        newest = (Event.Doorbell(record.pointee).value, record.pointee.time)
        return true
      }
    }
    guard let newest, newest.value != queue.doorbell else { return nil }
    return "The host wrote \(newest.value) to the tail doorbell of SQ \(queue.qid) \(age(newest.ns)), and the "
      + "engine has not seen it."
  }

  // MARK: Injected faults

  /// The faults among these events.
  func tellFaults(_ events: [UInt64]) throws {
    for number in events {
      guard let record = try self.events.event(number), record.pointee.is(.fault) else { continue }
      tell("A fault was injected into it, \(self.number(number)): \(EventSentence.text(record)).")
    }
  }
}
