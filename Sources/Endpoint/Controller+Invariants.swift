import NVMe
import Target

/// Invariants of the engine's state between two polls, whatever host and backends do.
extension Controller {
  /// - Returns: the first violated invariant, in words; nil if all hold.
  public func brokenInvariant() -> String? {
    var census = Census(queuesMax)
    let ofCommands = brokenBounds() ?? brokenSlots(&census) ?? brokenExecutions(census) ?? brokenAwaited(census)
    return ofCommands ?? brokenQueues() ?? brokenWaiting(census) ?? brokenHolders() ?? brokenHeld(census)
      ?? brokenTimers()
  }

  /// What the slots hold: counted in one walk over them, since tests check after every pass.
  private struct Census {
    var (fetched, held, executing, finished) = (0, 0, 0, 0)
    /// Segments of requests at backends, and requests marked as awaited.
    var segments = 0
    var (bySetFeatures, byFusion): (UInt32, UInt32) = (0, 0)
    /// By queue: slots, and requests at backends.
    var ofQueue: [UInt32]
    var executingOfQueue: [UInt32]

    init(_ queuesMax: Int) {
      ofQueue = [UInt32](repeating: 0, count: queuesMax)
      executingOfQueue = ofQueue
    }

    mutating func count(_ command: Command, _ execution: UnsafeMutablePointer<Execution>) {
      switch command.state {
      case .free: return
      case .fetched: fetched += 1
      case .held: held += 1
      case .executing: count(execution)
      case .finished: finished += 1
      }
      ofQueue[Int(command.qid.rawValue)] += 1
    }

    private mutating func count(_ execution: UnsafeMutablePointer<Execution>) {
      executing += 1
      segments += execution.pointee.segments
      executingOfQueue[Int(execution.pointee.request.qid.rawValue)] += 1
      if execution.pointee.awaitedBy.contains(.setFeatures) { bySetFeatures += 1 }
      if execution.pointee.awaitedBy.contains(.fusion) { byFusion += 1 }
    }

    var all: Int { fetched + held + executing + finished }
  }

  /// Stop the process if an invariant is violated. No host can cause that (hostile hosts run against it in tests), so
  /// it is a fault of the engine itself: continuing would corrupt data and overwrite the recording that shows it.
  public func checkInvariants() { stop(brokenInvariant()) }

  /// The same for the invariants that examine no command.
  public func checkBounds() { stop(brokenBounds()) }

  private func stop(_ broken: String?) {
    if let broken { fatalError("the engine's state is inconsistent: \(broken)") }
  }

  private func state(_ slot: Int) -> Command.State { commands[slot].state }

  /// The invariants that examine no command, which debug builds check after each poll: counts and positions are within
  /// their bounds, and an interrupt will follow every entry not announced.
  package func brokenBounds() -> String? {
    guard (0...Controller.commandsMax).contains(slots.freeCount), (0...Controller.commandsMax).contains(reserved),
      (0...Controller.slots).contains(executing), (0...Controller.segmentsInFlightMax).contains(segmentsInFlight),
      (0...liveCompletion.count + 2).contains(timers)
    else {
      return
        "\(slots.freeCount) slots are free, \(reserved) reserved, \(executing) executing, \(segmentsInFlight) segments in flight, \(timers) timers armed"
    }
    let isFailed = csts.fatal
    guard isFailed || (awaitedWrites > 0) == (heldSetFeatures != Command.none) else {
      return "slot \(heldSetFeatures) waits for \(awaitedWrites) writes"
    }
    for place in 0..<liveSubmission.count {
      let (qid, queue) = (liveSubmission[place].rawValue, submissionQueues[Int(liveSubmission[place].rawValue)])
      guard queue.head < queue.size, queue.tail < queue.size else {
        return "submission queue \(qid) of \(queue.size) entries has head \(queue.head) and tail \(queue.tail)"
      }
    }
    for place in 0..<liveCompletion.count {
      let (qid, queue) = (liveCompletion[place].rawValue, completionQueues[Int(liveCompletion[place].rawValue)])
      guard queue.head < queue.size, queue.tail < queue.size, queue.unannounced <= queue.size else {
        return
          "completion queue \(qid) of \(queue.size) entries has head \(queue.head), tail \(queue.tail) and \(queue.unannounced) unannounced"
      }
      let isMasked = queue.vector < 32 && intms & 1 << UInt32(queue.vector) != 0
      if queue.unannounced > 0, queue.interruptsEnabled, !isMasked, !queue.isAggregating, !isFailed {
        return "no interrupt will follow \(queue.unannounced) entries of completion queue \(qid)"
      }
    }
    return nil
  }

  /// The requests that a Set Features or a fused operation waits for are as many as the requests marked as awaited.
  private func brokenAwaited(_ census: Census) -> String? {
    guard csts.ready, !csts.fatal else { return nil }
    guard census.bySetFeatures == awaitedWrites else {
      return "a Set Features waits for \(awaitedWrites) requests, \(census.bySetFeatures) are awaited"
    }
    let awaited = fusion.phase == .waiting ? fusion.awaited : fusion.isActive ? 1 : 0
    guard census.byFusion == awaited else {
      return "a fused operation waits for \(awaited) requests, \(census.byFusion) are awaited"
    }
    return nil
  }

  /// A slot is free if no command holds it, and each queue counts its own slots.
  private func brokenSlots(_ census: inout Census) -> String? {
    for slot in 0..<Controller.commandsMax {
      let isFree = state(slot) == .free
      if slots.isFree(Int32(slot)) != isFree {
        return "slot \(slot) is \(state(slot)), but the map of free slots disagrees"
      }
      if !isFree { census.count(commands[slot], executions + slot) }
    }
    let free = Controller.commandsMax - census.all
    guard free == slots.freeCount else { return "\(free) slots are free, \(slots.freeCount) are counted" }
    for qid in 0..<queuesMax where submissionQueues[qid].held != census.ofQueue[qid] {
      return "submission queue \(qid) holds \(census.ofQueue[qid]) slots, \(submissionQueues[qid].held) are counted"
    }
    guard reserved == slotsToReserve else { return "\(slotsToReserve) slots are to be reserved, \(reserved) are" }
    return nil
  }

  /// Requests at backends are counted, in total and per queue.
  private func brokenExecutions(_ census: Census) -> String? {
    // The slot of a shutdown follows those of commands; its flush has no segments and belongs to no queue.
    let inShutdown = state(Int(Controller.shutdownSlot)) == .executing ? 1 : 0
    let executing = census.executing + inShutdown + (isSettling ? 1 : 0)
    guard executing == self.executing else {
      return "backends have \(executing) requests, \(self.executing) are counted"
    }
    guard census.segments == segmentsInFlight else {
      return "\(census.segments) segments are in flight, \(segmentsInFlight) are counted"
    }
    for qid in 0..<queuesMax where submissionQueues[qid].executing != census.executingOfQueue[qid] {
      return
        "backends have \(census.executingOfQueue[qid]) requests of submission queue \(qid), \(submissionQueues[qid].executing) are counted"
    }
    return nil
  }

  /// Existing queues are listed, and a completion queue counts its users.
  private func brokenQueues() -> String? {
    var users = [UInt32](repeating: 0, count: queuesMax)
    var (submission, completion) = (0, 0)
    for qid in 0..<queuesMax where submissionQueues[qid].exists {
      let queue = submissionQueues[qid]
      submission += 1
      users[Int(queue.cqid.rawValue)] += 1
      guard completionQueues[Int(queue.cqid.rawValue)].exists else {
        return "submission queue \(qid) completes into a queue that does not exist"
      }
    }
    for qid in 0..<queuesMax where completionQueues[qid].exists {
      let queue = completionQueues[qid]
      completion += 1
      guard queue.users == users[qid] else {
        return "\(users[qid]) submission queues complete into queue \(qid), \(queue.users) are counted"
      }
    }
    guard submission == liveSubmission.count, completion == liveCompletion.count else {
      return
        "\(submission) submission and \(completion) completion queues exist, \(liveSubmission.count) and \(liveCompletion.count) are listed"
    }
    if !csts.ready, submission + completion > 0 { return "queues exist while the controller is not ready" }
    if csts.ready, !cc.enable || isSettling { return "the controller is ready while it is disabled or settling" }
    if csts.ready, !submissionQueues[0].exists || !completionQueues[0].exists {
      return "the controller is ready without admin queues"
    }
    return nil
  }

  /// Every finished command waits exactly once, in its completion queue, and only if that queue is full.
  private func brokenWaiting(_ census: Census) -> String? {
    var waiting = 0
    for place in 0..<liveCompletion.count {
      let qid = liveCompletion[place]
      let queue = completionQueues[Int(qid.rawValue)]
      var (index, last) = (queue.firstWaiting, Command.none)
      while index != Command.none {
        guard state(Int(index)) == .finished else {
          return "slot \(index) waits to be posted, and is \(state(Int(index)))"
        }
        let own = submissionQueues[Int(commands[Int(index)].qid.rawValue)]
        guard !own.exists || own.cqid == qid || own.hasPredecessor else {
          return
            "slot \(index) waits in completion queue \(qid.rawValue), and its queue completes into \(own.cqid.rawValue)"
        }
        waiting += 1
        guard waiting <= Controller.commandsMax else { return "commands wait in a circle" }
        (last, index) = (index, commands[Int(index)].next)
      }
      guard last == queue.lastWaiting else { return "completion queue \(qid.rawValue) has lost the end of its list" }
      guard !csts.fatal, csts.ready else { continue }
      guard queue.isBlocked == (queue.firstWaiting != Command.none) else {
        return
          "completion queue \(qid.rawValue) \(queue.isBlocked ? "is blocked by nothing" : "has not posted what it could")"
      }
      if queue.isBlocked, !queue.isFull { return "completion queue \(qid.rawValue) is blocked and has room" }
    }
    guard census.finished == waiting else {
      return "\(census.finished) commands are finished, \(waiting) wait to be posted"
    }
    return nil
  }

  /// Every held command waits for something, and only a fused operation leaves fetched commands unexecuted.
  private func brokenHeld(_ census: Census) -> String? {
    guard csts.ready, !csts.fatal else { return nil }
    var reasons = eventRequests.count + (heldSetFeatures == Command.none ? 0 : 1)
    for qid in 0..<queuesMax where submissionQueues[qid].exists {
      if submissionQueues[qid].first != Command.none { reasons += 1 }
      if submissionQueues[qid].isBeingDeleted { reasons += 1 }
    }
    if fusion.phase == .waiting { reasons += 2 }
    if fusion.phase == .comparing { reasons += 1 }
    guard census.held == reasons else { return "\(census.held) commands are held, for \(reasons) reasons" }
    guard census.fetched == fusion.end - fusion.next else {
      return
        "\(census.fetched) commands are fetched but not executed, \(fusion.end - fusion.next) wait for a fused operation"
    }
    return nil
  }

  /// Every place that refers to a held command refers to a held command of its own queue.
  private func brokenHolders() -> String? {
    guard csts.ready, !csts.fatal else { return nil }
    func isHeld(_ slot: Int32, _ qid: Int) -> Bool {
      slot >= 0 && slot < Int32(Controller.commandsMax) && state(Int(slot)) == .held
        && Int(commands[Int(slot)].qid.rawValue) == qid
    }
    for request in eventRequests where !isHeld(request, 0) { return "an event request is slot \(request)" }
    if heldSetFeatures != Command.none, !isHeld(heldSetFeatures, 0) {
      return "the held Set Features is slot \(heldSetFeatures)"
    }
    for qid in 0..<queuesMax where submissionQueues[qid].exists {
      let queue = submissionQueues[qid]
      if queue.first != Command.none, !isHeld(queue.first, qid) {
        return "the first fused command of submission queue \(qid) is slot \(queue.first)"
      }
      if queue.isBeingDeleted, !isHeld(queue.deletion, 0) {
        return "the deletion of submission queue \(qid) is slot \(queue.deletion)"
      }
    }
    return nil
  }

  private func brokenTimers() -> String? {
    armedTimers == timers ? nil : "\(armedTimers) timers are armed, \(timers) are counted"
  }

  var armedTimers: Int {
    var armed = (keepAliveIsArmed ? 1 : 0) + (pendingConfiguration == nil ? 0 : 1)
    for place in 0..<liveCompletion.count where completionQueues[Int(liveCompletion[place].rawValue)].isAggregating {
      armed += 1
    }
    return armed
  }
}
