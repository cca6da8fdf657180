import Endpoint
import EventWords
import Events
import Replay
import Report
import Text
import Trace

extension EngineDebugger {
  // MARK: Lives

  func showBacktrace(_ words: inout TypedWords) throws {
    let (qid, cid) = try command(&words)
    try words.end()
    guard let history = try history(qid, cid) else {
      throw DebuggerError("there is no command \(qid)/\(cid) up to here")
    }
    let line = try lifeline(of: history)
    guard let first = line.moments.first else { return }
    if let ended = history.ended, ended < point, try hasNewer(qid, cid, since: history.endedNs) {
      tell("The host has submitted another command \(qid)/\(cid) since, which has not been fetched; the one before:")
    }
    let begun = first.source == .host ? "submitted" : "since"
    tell("\(name(qid, cid, history.entry?.opcode)), \(begun) \(age(first.ns)):")
    for moment in line.moments {
      guard let record = try moment.events.event(moment.event) else { continue }
      let place = moment.source == .engine ? number(moment.event) : "host/\(moment.stream)"
      let offset = "+" + Quantity.time(moment.ns - min(first.ns, moment.ns))
      tell("  \(offset.padded(to: 9)) \(place.padded(to: 8)) ", EventSentence.text(record))
    }
    try tellLongestWait(line, qid, cid)
    try tellReuse(of: history)
    if history.ended.map({ $0 >= point }) ?? true { try tellState(of: history) }
  }

  /// The longest time between two events of the command, and what the engine did meanwhile.
  private func tellLongestWait(_ line: CommandLifeline, _ qid: UInt16, _ cid: UInt16) throws {
    let pairs = zip(line.moments, line.moments.dropFirst())
    guard let (from, to) = pairs.max(by: { $0.1.ns - $0.0.ns < $1.1.ns - $1.0.ns }), to.ns > from.ns else { return }
    var (completed, ofQueue) = (0, 0)
    try events.forEach(from: try events.end(upTo: from.ns)) { _, record in
      guard record.pointee.time < to.ns else { return true }
      if record.pointee.is(.completion) {
        completed += 1
        if Event.Completion(record.pointee).sqid == qid { ofQueue += 1 }
      }
      return false
    }
    let (before, after) = (try kind(of: from), try kind(of: to))
    tell(
      "The longest time, \(Quantity.time(to.ns - from.ns)), lies between \(before) and \(after); meanwhile the engine "
        + "completed \(Quantity.count(completed, "other command")), \(Quantity.count(ofQueue)) of its queue.")
  }

  private func kind(of moment: CommandLifeline.Moment) throws -> String {
    let name = try moment.events.event(moment.event)?.pointee.event?.description.name ?? "an event"
    return moment.source == .host ? "the host's \(name)" : name
  }

  private func lifeline(of history: CommandHistory) throws -> CommandLifeline {
    var queue: EngineState.Completion?
    if let ended = history.ended, !history.wasReset, let cqid = try events.event(ended)?.pointee.qid {
      queue = try engine.state(at: ended + 1)?.completionQueue(cqid)
    }
    return try CommandLifeline(history, events, hosts, completed: queue, until: time)
  }

  /// Two commands with one name in flight: which of them an event belongs to is not certain.
  func tellReuse(of history: CommandHistory) throws {
    let isReused = try engine.state(at: history.fetched)?.command(history.qid, history.cid) != nil
    if history.fetched > begin, isReused {
      tell("When it was fetched, another command with this name was in flight: what follows may be either's.")
    } else if let again = history.fetchedAgain, again < point {
      tell("Another command with this name was fetched meanwhile, \(number(again)): what follows may be either's.")
    }
  }

  // MARK: Why

  /// The command that a host has waited for longest; of an abandoned one, what it waited for before that.
  func whyOldest() throws {
    guard let (command, abandonedBy) = try hostView().oldest else {
      throw DebuggerError("no command of a host is outstanding")
    }
    let (point, time) = (point, time)
    defer { (self.point, self.time) = (point, time) }
    if let abandonedBy {
      say("before the controller was reset or disabled at \(number(abandonedBy)):")
      self.point = abandonedBy
      self.time = try events.event(abandonedBy)?.pointee.time ?? time
    }
    try whyCommand(command.qid, command.cid)
  }

  func whyCommand(_ qid: UInt16, _ cid: UInt16) throws {
    guard let history = try history(qid, cid) else {
      return try whyNotFetched(qid, cid)
    }
    if let ended = history.ended, ended < point, try state().command(qid, cid) == nil {
      // The host may have submitted another command of that name since.
      if try hasNewer(qid, cid, since: history.endedNs) { return try whyNotFetched(qid, cid) }
      return try whyEnded(history, ended)
    }
    try tellState(of: history)
  }

  /// What a command in flight waits for, since when, and what will come of it.
  private func tellState(of history: CommandHistory) throws {
    let state = try state()
    let subject = name(history.qid, history.cid, history.entry?.opcode)
    let lastEvent = try history.events.last { try $0 < point && events.event($0)?.pointee.is(.fault) == false }.flatMap
    { number in
      try events.event(number).map { (number, $0.pointee.time, EventSentence.text($0)) }
    }
    let since = lastEvent.map { ", since \(number($0.0)), \(age($0.1)): \($0.2)" } ?? ""
    guard let command = state.command(history.qid, history.cid) else {
      return tell("\(subject) is not in flight any more" + since)
    }
    let waits =
      state.registers.isFatal
      ? "will not complete: the controller has failed (CSTS.CFS)" : command.awaits.text
    tell("\(subject) \(waits)\(since).")
    try tellReuse(of: history)
    try tellFaults(history.events.filter { $0 < point })
    if case .room(let cqid) = command.awaits { try tellFullQueue(cqid) }
    tellFuture(of: history)
  }

  private func tellFuture(of history: CommandHistory) {
    guard let ended = history.ended else {
      return tell("The recording ends without its completion.")
    }
    let what = history.wasReset ? "A reset ends it" : "It completes"
    tell(
      "\(what) at \(number(ended)), \(Quantity.time(history.endedNs - min(history.fetchedNs, history.endedNs))) after its fetch."
    )
  }

  private func whyEnded(_ history: CommandHistory, _ ended: UInt64) throws {
    let subject = name(history.qid, history.cid, history.entry?.opcode)
    guard !history.wasReset else {
      return tell("\(subject) was abandoned by the reset at \(number(ended)), \(age(history.endedNs)).")
    }
    let text = try events.event(ended).map(EventSentence.text) ?? ""
    tell("\(subject) is done: \(number(ended)), \(age(history.endedNs)): \(text).")
    try tellReuse(of: history)
    try tellFaults(history.events)
    let line = try lifeline(of: history)
    let queue = try events.event(ended).flatMap { record in try state().completionQueue(record.pointee.qid) }
    let isAnnounced = try line.moments.contains { try $0.events.event($0.event)?.pointee.is(.interrupt) == true }
    if let queue, queue.interruptsEnabled, !isAnnounced {
      tell("No interrupt has announced it; see why interrupt \(queue.vector).")
    }
    if line.hasHost, !line.isSeen { tell("The host has not seen its completion.") }
    if !line.isFreed { tell("The host has not freed its entry.") }
  }

  private func whyNotFetched(_ qid: UInt16, _ cid: UInt16) throws {
    let state = try state()
    guard let queue = state.submissionQueue(qid) else {
      return tell("Command \(qid)/\(cid) has not been fetched, and there is no SQ \(qid) here.")
    }
    guard try hosts.isEmpty || qid == 0 || hasNewer(qid, cid, since: 0) else {
      return tell("No host has submitted a command \(qid)/\(cid) up to here.")
    }
    tell("Command \(qid)/\(cid) has not been fetched up to here.")
    try tellNotFetching(queue, state)
  }

  private func tellNotFetching(_ queue: EngineState.Submission, _ state: EngineState) throws {
    tell(state.whyNotFetching(queue))
    guard queue.announced == 0, let unseen = try unseenTail(of: queue) else { return }
    tell(unseen)
    let fault = try last { $0.pointee.is(.fault) && $0.pointee.qid == queue.qid }
    if let fault { tell("The last fault injected into queue \(queue.qid), \(number(fault.event)): \(fault.text).") }
  }

  private func tellFullQueue(_ cqid: UInt16) throws {
    let head = try last { $0.pointee.is(.doorbell) && $0.pointee.qid == cqid && self.isHead($0) }
    if let head {
      tell("The host last freed entries of CQ \(cqid) at \(number(head.event)), \(head.age).")
    } else {
      tell("The host has never freed an entry of CQ \(cqid).")
    }
  }

  func whyNoInterrupt(_ vector: UInt16) throws {
    let state = try state()
    let queues = state.completionQueues.filter { $0.interruptsEnabled && $0.vector == vector }
    guard !queues.isEmpty else {
      let vectors = Set(state.completionQueues.filter(\.interruptsEnabled).map { "\($0.vector)" }).sorted()
      let polled = state.completionQueues.filter { !$0.interruptsEnabled }.map { "CQ \($0.cqid)" }
      return tell(
        "No completion queue uses vector \(vector); used are: \(vectors.isEmpty ? "none" : vectors.joined(separator: ", "))."
          + (polled.isEmpty ? "" : " Polled, without interrupts: \(polled.joined(separator: ", "))."))
    }
    for queue in queues {
      tell("CQ \(queue.cqid): \(queue.interruptText).")
      let lastInterrupt = try last { $0.pointee.is(.interrupt) && $0.pointee.qid == queue.cqid }
      if let lastInterrupt {
        tell("  ", "The last one: \(number(lastInterrupt.event)), \(lastInterrupt.age): \(lastInterrupt.text).")
        // A fault precedes the event that it changes.
        if lastInterrupt.event > events.first { try tellFaults([lastInterrupt.event - 1]) }
      } else {
        tell("  ", "None has been raised so far.")
      }
      tell("  ", EngineDebugger.interruptReason(queue))
    }
  }

  private static func interruptReason(_ queue: EngineState.Completion) -> String {
    if !queue.interruptsEnabled { return "The host created the queue without interrupts, so it must poll." }
    if queue.unannounced == 0 {
      return queue.outstanding == 0
        ? "The host has freed all entries: there is nothing to announce."
        : "The \(Quantity.count(queue.outstanding, "entry", "entries")) that the host has not freed "
          + "\(queue.outstanding == 1 ? "was" : "were") announced."
    }
    if queue.isMasked { return "The entries are announced when the host unmasks the vector (INTMC)." }
    if queue.isAggregating {
      return "An interrupt follows when \(queue.threshold) entries are there, or the aggregation time has passed."
    }
    return "The engine announces them in this pass."
  }

  /// Why the engine has nothing to do at the point. Doorbells that it has not seen come first.
  func tellIdleReasons() throws {
    let state = try state()
    for queue in state.submissionQueues where state.registers.isReady {
      if let unseen = try unseenTail(of: queue) { tell(unseen) }
    }
    for reason in state.idleReasons { tell(reason) }
  }

  // MARK: Events

  func listAllEvents(_ words: inout TypedWords) throws {
    let count = words.number() ?? 10
    try words.end()
    guard (1...1000).contains(count) else { throw DebuggerError("the number must be 1 to 1000") }
    var numbers: [UInt64] = []
    try events.forEachBackward(before: point) { number, _ in
      numbers.append(number)
      return numbers.count >= Int(count)
    }
    var before = try numbers.last.flatMap { try events.event($0)?.pointee.time } ?? 0
    for number in numbers.reversed() {
      guard let time = try events.event(number)?.pointee.time else { continue }
      try listHosts(from: before, to: time)
      before = max(before, time)
      if let record = try events.event(number) { show(number, record) }
    }
  }

  /// The hosts' events in a time, up to its end.
  private func listHosts(from begin: UInt64, to end: UInt64) throws {
    for host in hosts {
      var left = 100
      try host.forEach(from: try host.end(upTo: begin)) { _, record in
        left -= 1
        guard record.pointee.time < end, left > 0 else { return true }
        tell("host/\(host.id.stream) \(Debugger.moment(record.pointee.time)) ", EventSentence.text(record))
        return false
      }
    }
  }
}
