import NVMe
import Target

extension Controller {
  /// A command is done: queue its completion for posting.
  mutating func finish(_ index: Int32, _ status: Status, dw0: UInt32 = 0) {
    let command = commands + Int(index)
    command.pointee.state = .finished
    command.pointee.status = status
    command.pointee.dw0 = dw0
    if !status.isSuccess {
      if !Mutant.moreMissing.isPlanted { command.pointee.status.rawValue |= Status.more }
      target.noteError(command.pointee.sqe, qid: command.pointee.qid, status: command.pointee.status)
    }
    append(index, to: completionQueues + Int(submissionQueues[Int(command.pointee.qid.rawValue)].cqid.rawValue))
  }

  /// Append it to the completions waiting for this queue.
  func append(_ index: Int32, to queue: UnsafeMutablePointer<CompletionQueue>) {
    if queue.pointee.lastWaiting == Command.none {
      queue.pointee.firstWaiting = index
    } else {
      commands[Int(queue.pointee.lastWaiting)].next = index
    }
    queue.pointee.lastWaiting = index
    commands[Int(index)].next = Command.none
  }

  /// Post the waiting completions of this queue as far as there is room, and raise its interrupts.
  mutating func postWaiting<P: Port & ~Copyable>(_ cqid: QueueID, _ port: inout P) {
    let queue = completionQueues + Int(cqid.rawValue)
    guard !queue.pointee.isBlocked else { return }
    while queue.pointee.firstWaiting != Command.none {
      if queue.pointee.isFull {
        queue.pointee.isBlocked = true
        port.completionQueueFull(cqid)
        port.observe(self)
        break
      }
      let index = queue.pointee.firstWaiting
      guard post(commands[Int(index)], to: queue, cqid, &port) else { return fail() }
      if Mutant.abortedTwice.isPlanted, commands[Int(index)].status.code == Status.abortRequested.code,
        !queue.pointee.isFull
      {
        _ = post(commands[Int(index)], to: queue, cqid, &port)
      }
      queue.pointee.firstWaiting = commands[Int(index)].next
      if queue.pointee.firstWaiting == Command.none { queue.pointee.lastWaiting = Command.none }
      releaseCommand(index)
      port.observe(self)
      if queue.pointee.unannounced >= queue.pointee.threshold || Mutant.thresholdIgnored.isPlanted {
        raiseInterrupt(queue, cqid, &port)
      }
    }
    // Fewer entries than the aggregation threshold are announced when no more follow, or later.
    guard queue.pointee.unannounced > 0 else { return }
    if queue.pointee.aggregationUs == 0 {
      raiseInterrupt(queue, cqid, &port)
    } else if !queue.pointee.isAggregating, queue.pointee.interruptsEnabled {
      queue.pointee.isAggregating = true
      timers += 1
      port.arm(.aggregation(cqid), afterUs: UInt64(queue.pointee.aggregationUs))
    }
  }

  @inline(__always)
  private func post<P: Port & ~Copyable>(
    _ command: Command, to queue: UnsafeMutablePointer<CompletionQueue>, _ cqid: QueueID, _ port: inout P
  ) -> Bool {
    let submission = submissionQueues + Int(command.qid.rawValue)
    var sqhd = submission.pointee.exists ? UInt16(truncatingIfNeeded: submission.pointee.head) : command.sqhd
    if Mutant.wrongHead.isPlanted { sqhd &+= 1 }
    let cqe = CompletionEntry(
      dw0: command.dw0, sqhd: sqhd, sqid: command.qid, cid: command.sqe.cid, phase: queue.pointee.phase,
      status: command.status)
    let tail = queue.pointee.tail
    let address = PCIAddress(queue.pointee.base &+ UInt64(tail) * UInt64(CompletionEntry.size))
    guard port.post(cqe, at: address, cqid: cqid) else { return false }
    if tail + 1 == queue.pointee.size {
      queue.pointee.tail = 0
      if !Mutant.phaseFlip.isPlanted { queue.pointee.phase.toggle() }
    } else {
      queue.pointee.tail = tail + 1
    }
    // Without limit while the vector is masked.
    queue.pointee.unannounced = min(queue.pointee.unannounced + 1, queue.pointee.size)
    return true
  }

  /// Announce posted entries, unless interrupts are disabled, masked or delayed.
  mutating func raiseInterrupt<P: Port & ~Copyable>(
    _ queue: UnsafeMutablePointer<CompletionQueue>, _ cqid: QueueID, _ port: inout P
  ) {
    guard queue.pointee.interruptsEnabled || Mutant.interruptUnasked.isPlanted else {
      queue.pointee.unannounced = 0
      return
    }
    let vector = queue.pointee.vector
    // Interrupt Mask Set: bits for the first 32 vectors (Base 2.1, 3.1.4.3).
    guard vector >= 32 || intms & 1 << UInt32(vector) == 0 else { return }
    port.interrupt(
      vector: Mutant.wrongVector.isPlanted ? vector ^ 1 : vector, cqid: cqid,
      entries: Mutant.wrongCount.isPlanted ? 77 : queue.pointee.unannounced)
    queue.pointee.unannounced = 0
    stopAggregating(queue, cqid, &port)
    port.observe(self)
  }

  mutating func stopAggregating<P: Port & ~Copyable>(
    _ queue: UnsafeMutablePointer<CompletionQueue>, _ cqid: QueueID, _ port: inout P
  ) {
    guard queue.pointee.isAggregating else { return }
    queue.pointee.isAggregating = false
    timers -= 1
    port.disarm(.aggregation(cqid))
  }

  // MARK: Asynchronous events

  /// An event occurred: a waiting request carries it to the host.
  mutating func report<P: Port & ~Copyable>(_ event: AsynchronousEvent, _ port: inout P) {
    target.add(event)
    deliverEvents(&port)
  }

  mutating func deliverEvents<P: Port & ~Copyable>(_ port: inout P) {
    var delivered = false
    while !eventRequests.isEmpty, let event = target.nextEvent() {
      finish(eventRequests.removeFirst(), .success, dw0: event.dw0)
      delivered = true
    }
    if delivered { postWaiting(.admin, &port) }
  }
}
