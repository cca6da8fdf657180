import NVMe

extension Controller {
  /// Forget the commands of an I/O queue, fetched or not, as if its host had not submitted them.
  /// - Returns: false if another operation waits for one, or one waits for its completion to be posted.
  public mutating func forgetCommands(of qid: QueueID) -> Bool {
    let queue = submissionQueues + Int(qid.rawValue)
    guard qid != .admin, Int(qid.rawValue) < queuesMax, queue.pointee.exists, !queue.pointee.isBeingDeleted,
      fusion.phase == .none, queue.pointee.first == Command.none
    else { return false }
    let slots = (0..<Controller.commandsMax).filter { commands[$0].state != .free && commands[$0].qid == qid }
    guard slots.allSatisfy({ commands[$0].state == .executing && executions[$0].awaitedBy.isEmpty }) else {
      return false
    }
    for slot in slots {
      executing -= 1
      segmentsInFlight -= executions[slot].segments
      queue.pointee.executing -= 1
      releaseCommand(Int32(slot))
    }
    (queue.pointee.tail, queue.pointee.doorbell) = (queue.pointee.head, queue.pointee.head)
    return brokenInvariant() == nil
  }
}
