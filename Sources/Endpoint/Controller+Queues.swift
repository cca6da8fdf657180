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
    submissionQueues[Int(qid.rawValue)] = queue
    completionQueues[Int(queue.cqid.rawValue)].users += 1
    liveSubmission.insert(qid)
    port.clear(.submissionTail(qid))
  }

  mutating func delete(submission qid: QueueID) {
    completionQueues[Int(submissionQueues[Int(qid.rawValue)].cqid.rawValue)].users -= 1
    submissionQueues[Int(qid.rawValue)] = SubmissionQueue()
    liveSubmission.remove(qid)
  }

  mutating func delete(completion qid: QueueID) {
    var waiting = completionQueues[Int(qid.rawValue)].firstWaiting
    while waiting != Command.none {
      let next = commands[Int(waiting)].next
      freeCommand(waiting)
      waiting = next
    }
    completionQueues[Int(qid.rawValue)] = CompletionQueue()
    liveCompletion.remove(qid)
  }

  mutating func deleteAllQueues() {
    submissionQueues.update(repeating: SubmissionQueue(), count: queuesMax)
    completionQueues.update(repeating: CompletionQueue(), count: queuesMax)
    liveSubmission.removeAll()
    liveCompletion.removeAll()
  }

  var ioQueuesExist: Bool { liveSubmission.count > 1 || liveCompletion.count > 1 }

  // MARK: Doorbells

  /// Take a completion queue's head doorbell, and post what waited for the room that it gives.
  mutating func takeHead<P: Port & ~Copyable>(of qid: QueueID, _ port: inout P) -> Bool {
    let queue = completionQueues + Int(qid.rawValue)
    let value = port.doorbell(.completionHead(qid), last: queue.pointee.doorbell)
    guard value != queue.pointee.doorbell else { return false }
    queue.pointee.doorbell = value
    let freed =
      value >= queue.pointee.head ? value &- queue.pointee.head : value + queue.pointee.size - queue.pointee.head
    guard value < queue.pointee.size, freed <= queue.pointee.outstanding else {
      report(.invalidDoorbellWriteValue, &port)
      return true
    }
    queue.pointee.head = value
    if queue.pointee.isBlocked {
      queue.pointee.isBlocked = false
      postWaiting(qid, &port)
    }
    return true
  }

  /// Take a submission queue's tail doorbell.
  /// - Returns: whether it had changed.
  private mutating func takeTail<P: Port & ~Copyable>(of qid: QueueID, _ port: inout P) -> Bool {
    let queue = submissionQueues + Int(qid.rawValue)
    let value = port.doorbell(.submissionTail(qid), last: queue.pointee.doorbell)
    guard value != queue.pointee.doorbell else { return false }
    queue.pointee.doorbell = value
    if value < queue.pointee.size {
      queue.pointee.tail = value
    } else {
      report(.invalidDoorbellWriteValue, &port)
    }
    return true
  }

  // MARK: Arbitration

  /// A queue's turn in the round robin: fetch at most a burst of its commands, then execute them, then complete them.
  mutating func serve<P: Port & ~Copyable>(_ qid: QueueID, _ port: inout P) -> Bool {
    let queue = submissionQueues + Int(qid.rawValue)
    var worked = takeTail(of: qid, &port)
    // Completions that the host makes no room for hold back the queue that they come from, not the others.
    guard queue.pointee.head != queue.pointee.tail,
      !completionQueues[Int(queue.pointee.cqid.rawValue)].isBlocked
    else { return worked }
    let fetched = fetchBurst(qid, &port)
    let cqid = queue.pointee.cqid
    for turn in 0..<fetched {
      execute(batch[turn], &port)
      worked = true
      // The command may have failed the controller.
      if csts.fatal { return true }
    }
    if fetched > 0 { postWaiting(cqid, &port) }
    return worked
  }

  private mutating func fetchBurst<P: Port & ~Copyable>(_ qid: QueueID, _ port: inout P) -> Int {
    let queue = submissionQueues + Int(qid.rawValue)
    let reserve = qid == .admin ? 0 : Controller.adminReserve
    // Deleting a queue must not leave later commands of the same burst behind: admin commands come one by one.
    let burst = qid == .admin ? 1 : burst
    var fetched = 0
    while fetched < burst, queue.pointee.head != queue.pointee.tail, freeCount > reserve {
      let slot = queue.pointee.head
      let address = PCIAddress(queue.pointee.base &+ UInt64(slot) * UInt64(SubmissionEntry.size))
      guard let sqe = port.fetch(address, qid: qid, slot: slot) else {
        fail()
        break
      }
      queue.pointee.head = slot + 1 == queue.pointee.size ? 0 : slot + 1
      let index = takeCommand()
      commands[Int(index)] = Command(sqe: sqe, qid: qid)
      batch[fetched] = index
      fetched += 1
    }
    return fetched
  }
}
