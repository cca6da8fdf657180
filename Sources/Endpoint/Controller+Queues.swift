import NVMe
import Target

extension Controller {
  // MARK: Existence

  mutating func create<P: Port & ~Copyable>(completion qid: QueueID, _ queue: CompletionQueue, _ port: inout P) {
    completionQueues[Int(qid.rawValue)] = queue
    liveCompletion.insert(qid)
    applyFeatures()
    port.clear(.completionHead(qid))
  }

  mutating func create<P: Port & ~Copyable>(submission qid: QueueID, _ queue: SubmissionQueue, _ port: inout P) {
    let held = submissionQueues[Int(qid.rawValue)].held
    submissionQueues[Int(qid.rawValue)] = queue
    submissionQueues[Int(qid.rawValue)].held = held
    submissionQueues[Int(qid.rawValue)].hasPredecessor = held > 0
    completionQueues[Int(queue.cqid.rawValue)].users += 1
    liveSubmission.insert(qid)
    shareSlots()
    if !Mutant.staleDoorbell.isPlanted { port.clear(.submissionTail(qid)) }
  }

  /// Remove a submission queue, and complete the command that requested it. All fetched commands are done; only their
  /// posting may still wait.
  mutating func delete<P: Port & ~Copyable>(submission qid: QueueID, _ port: inout P) {
    let queue = submissionQueues[Int(qid.rawValue)]
    precondition(queue.executing == 0, "its commands are completed first")
    var waiting = completionQueues[Int(queue.cqid.rawValue)].firstWaiting
    while waiting != Command.none {
      let command = commands + Int(waiting)
      if command.pointee.qid == qid { command.pointee.sqhd = UInt16(truncatingIfNeeded: queue.head) }
      waiting = command.pointee.next
    }
    completionQueues[Int(queue.cqid.rawValue)].users -= 1
    submissionQueues[Int(qid.rawValue)] = SubmissionQueue(held: queue.held)
    liveSubmission.remove(qid)
    shareSlots()
    // Otherwise its last value would count as a write to a nonexistent queue.
    port.clear(.submissionTail(qid))
    finish(queue.deletion, .success)
  }

  /// Remove a submission queue that is being deleted once all its fetched commands are done.
  mutating func deleteIfDone<P: Port & ~Copyable>(_ qid: QueueID, _ port: inout P) {
    let queue = submissionQueues + Int(qid.rawValue)
    guard queue.pointee.isBeingDeleted, queue.pointee.executing == 0, !(fusion.isActive && fusion.qid == qid) else {
      return
    }
    delete(submission: qid, &port)
  }

  mutating func delete<P: Port & ~Copyable>(completion qid: QueueID, _ port: inout P) {
    let queue = completionQueues[Int(qid.rawValue)]
    var waiting = queue.firstWaiting
    while waiting != Command.none {
      let next = commands[Int(waiting)].next
      releaseCommand(waiting)
      waiting = next
    }
    stopAggregating(completionQueues + Int(qid.rawValue), qid, &port)
    completionQueues[Int(qid.rawValue)] = CompletionQueue()
    liveCompletion.remove(qid)
    port.clear(.completionHead(qid))
  }

  mutating func deleteAllQueues<P: Port & ~Copyable>(_ port: inout P) {
    for place in 0..<liveCompletion.count {
      let qid = liveCompletion[place]
      stopAggregating(completionQueues + Int(qid.rawValue), qid, &port)
      port.clear(.completionHead(qid))
    }
    for place in 0..<liveSubmission.count where !Mutant.staleDoorbell.isPlanted {
      port.clear(.submissionTail(liveSubmission[place]))
    }
    submissionQueues.update(repeating: SubmissionQueue(), count: queuesMax)
    completionQueues.update(repeating: CompletionQueue(), count: queuesMax)
    liveSubmission.removeAll()
    liveCompletion.removeAll()
    shareSlots()
  }

  var ioQueuesExist: Bool { liveSubmission.count > 1 || liveCompletion.count > 1 }

  /// Whether a completion queue uses this vector.
  func hasQueue(vector: UInt32) -> Bool {
    for place in 0..<liveCompletion.count
    where UInt32(completionQueues[Int(liveCompletion[place].rawValue)].vector) == vector {
      return true
    }
    return false
  }

  // MARK: Doorbells

  /// Read a completion queue's head doorbell, and post completions that waited for room.
  mutating func pollHead<P: Port & ~Copyable>(of qid: QueueID, _ port: inout P) -> Bool {
    let queue = completionQueues + Int(qid.rawValue)
    let value = port.doorbell(.completionHead(qid), last: queue.pointee.doorbell)
    guard value != queue.pointee.doorbell else { return false }
    queue.pointee.doorbell = value
    let freed =
      value >= queue.pointee.head ? value &- queue.pointee.head : value + queue.pointee.size - queue.pointee.head
    guard value < queue.pointee.size, freed <= queue.pointee.outstanding || Mutant.headNotChecked.isPlanted else {
      report(.invalidDoorbellWriteValue, &port)
      return true
    }
    queue.pointee.head = value
    port.observe(self)
    if queue.pointee.isBlocked {
      queue.pointee.isBlocked = false
      postWaiting(qid, &port)
    }
    return true
  }

  /// Read a submission queue's tail doorbell.
  /// - Returns: whether it had changed.
  private mutating func pollTail<P: Port & ~Copyable>(of qid: QueueID, _ port: inout P) -> Bool {
    let queue = submissionQueues + Int(qid.rawValue)
    let value = port.doorbell(.submissionTail(qid), last: queue.pointee.doorbell)
    guard value != queue.pointee.doorbell else { return false }
    queue.pointee.doorbell = value
    if value < queue.pointee.size {
      queue.pointee.tail = value
    } else {
      report(.invalidDoorbellWriteValue, &port)
    }
    port.observe(self)
    return true
  }

  /// Find doorbells that the host wrote for queues that do not exist (Base 2.1, 5.1.2.1), or cannot. A pass does not
  /// check them: there are many, and the event only helps the host's developer.
  /// - Returns: whether there was one.
  @discardableResult
  public mutating func findStrayDoorbells<P: Port & ~Copyable>(_ port: inout P) -> Bool {
    guard csts.ready, !csts.fatal else { return false }
    var found = false
    for number in 0..<Doorbell.pairs {
      let qid = QueueID(UInt16(number))
      let canExist = number < queuesMax
      if !(canExist && submissionQueues[number].exists), findStray(.submissionTail(qid), &port) { found = true }
      if !(canExist && completionQueues[number].exists), findStray(.completionHead(qid), &port) { found = true }
    }
    return found
  }

  /// Each is a separate event: a replay may find in one poll what the live engine found in two.
  private mutating func findStray<P: Port & ~Copyable>(_ doorbell: Doorbell, _ port: inout P) -> Bool {
    guard port.doorbell(doorbell, last: 0) != 0 else { return false }
    port.clear(doorbell)
    report(.writeToInvalidDoorbell, &port)
    return true
  }

  // MARK: Arbitration

  /// A queue's turn in the round robin: fetch at most one burst of its commands, execute them, and complete them.
  mutating func serve<P: Port & ~Copyable>(_ qid: QueueID, _ port: inout P) -> Bool {
    let queue = submissionQueues + Int(qid.rawValue)
    var worked = pollTail(of: qid, &port)
    // Completions without room hold back only their own queue.
    guard queue.pointee.head != queue.pointee.tail, !queue.pointee.isBeingDeleted,
      !completionQueues[Int(queue.pointee.cqid.rawValue)].isBlocked,
      qid == .admin ? heldSetFeatures == Command.none : !fusion.isActive || Mutant.fetchedBetween.isPlanted
    else { return worked }
    let batch = batch(of: qid)
    let (fetched, areFused) = fetchBurst(qid, into: batch, &port)
    let cqid = queue.pointee.cqid
    if areFused {
      // A held first command appears in every pass: only fetched commands count as work.
      worked = worked || fetched > 0
      executeFused(qid, from: 0, to: fetched, &port)
      if csts.fatal { return true }
    } else {
      for turn in 0..<fetched {
        execute(batch[turn], &port)
        worked = true
        // The command may have failed the controller.
        if csts.fatal { return true }
      }
    }
    if fetched > 0 { postWaiting(cqid, &port) }
    return worked
  }

  /// Where in `batch` a queue's commands start: admin commands arrive while others wait for a fused operation.
  @inline(__always)
  private func batch(of qid: QueueID) -> UnsafeMutablePointer<Int32> {
    qid == .admin ? batch + Controller.batchMax : batch
  }

  /// - Returns: the number of commands in `batch`, and whether any I/O command among them, or the previous one, is
  ///   fused.
  private mutating func fetchBurst<P: Port & ~Copyable>(
    _ qid: QueueID, into batch: UnsafeMutablePointer<Int32>, _ port: inout P
  ) -> (count: Int, areFused: Bool) {
    let queue = submissionQueues + Int(qid.rawValue)
    var words: UInt32 = queue.pointee.first == Command.none ? 0 : .max
    let segmentRoom = (Controller.segmentsInFlightMax - segmentsInFlight) / Controller.segmentsMax
    // Deleting a queue must not leave later commands of the same burst behind, so admin commands are fetched one by
    // one.
    let most = min(qid == .admin ? 1 : min(burst, segmentRoom), room(qid, held: queue.pointee.held))
    var fetched = 0
    while fetched < most, queue.pointee.head != queue.pointee.tail {
      let slot = queue.pointee.head
      let run = target.subsystem.fetchesBatches ? contiguousEntries(queue.pointee, most: most - fetched) : 1
      let address = PCIAddress(queue.pointee.base &+ UInt64(slot) * UInt64(SubmissionEntry.size))
      guard port.fetch(address, qid: qid, slot: slot, count: run, into: entries) else {
        fail()
        break
      }
      queue.pointee.head = slot + UInt32(run) == queue.pointee.size ? 0 : slot + UInt32(run)
      if Mutant.doubleFetch.isPlanted, slot == 5 { queue.pointee.head = slot }
      for place in 0..<run {
        let index = allocateSlot(queue, qid)
        commands[Int(index)] = Command(sqe: entries[place], qid: qid, state: .fetched)
        words |= entries[place].cdw0
        batch[fetched + place] = index
      }
      fetched += run
      port.observe(self)
    }
    // A fetch without room records no event, so it must change nothing.
    if fetched > 0 { sawTraffic = true }
    return (fetched, words & SubmissionEntry.fuseMask != 0 && qid != .admin)
  }

  /// Adjacent entries between head and tail.
  private func contiguousEntries(_ queue: SubmissionQueue, most: Int) -> Int {
    let end = queue.tail > queue.head ? queue.tail : queue.size
    return min(Int(end - queue.head), most)
  }
}
