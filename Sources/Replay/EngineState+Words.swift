import Endpoint
import NVMe
import Text

extension EngineState.Awaited {
  /// "waits for its backend".
  public var text: String {
    switch self {
    case .engine: "was fetched in this pass; the engine has not finished with it"
    case .backend: "waits for its backend"
    case .writes(let count): "waits for \(Quantity.count(count, "earlier write"))"
    case .commands(let count, let qid): "waits for \(Quantity.count(count, "command")) of queue \(qid)"
    case .event: "waits for an asynchronous event"
    case .secondOfPair: "waits for the second command of its fused operation"
    case .fusedOperation(let count): "waits for a fused operation, which waits for \(Quantity.count(count, "request"))"
    case .room(let cqid): "is done and waits for room in CQ \(cqid), which is full"
    case .posting(let cqid): "is done; its entry goes to CQ \(cqid) next"
    }
  }
}

extension EngineState.InFlight {
  /// "1/5 (read) waits for its backend".
  public var text: String {
    "\(qid)/\(cid) (\(NVMeName.opcode(sqe.opcode, isAdmin: qid == 0) ?? sqe.opcode.hex)) \(awaits.text)"
  }
}

extension EngineState.Completion {
  /// "vector 1; 3 entries not announced; aggregation: 8 entries or 100 us, the time is running".
  public var interruptText: String {
    guard interruptsEnabled else { return "created without interrupts (IEN 0)" }
    var parts = ["vector \(vector)" + (isMasked ? ", masked (INTMS)" : "")]
    parts.append("\(Quantity.count(unannounced, "entry", "entries")) not announced")
    if threshold > 1 || aggregationUs > 0 {
      parts.append(
        "aggregation: \(threshold) entries or \(aggregationUs) us"
          + (isAggregating ? ", the time is running" : ", the time is not running"))
    }
    return parts.joined(separator: "; ")
  }
}

extension EngineState {
  /// Why the engine has nothing to do, one sentence each.
  public var idleReasons: [String] {
    if registers.isFatal { return ["The controller has failed (CSTS.CFS): it does nothing until the host resets it."] }
    guard registers.isReady else {
      let why =
        isSettling
        ? " Backends still hold requests that a reset has abandoned."
        : registers.pendingCC.map { " The host has written \($0.hex) to CC, which the engine polls later." } ?? ""
      return ["The controller is not ready (CSTS.RDY 0): CC.EN is \(registers.cc & 1).\(why)"]
    }
    var reasons: [String] = []
    for queue in submissionQueues where queue.announced > 0 { reasons.append(whyNotFetching(queue)) }
    if reasons.isEmpty {
      let tails = submissionQueues.prefix(16).map { "SQ \($0.qid) at \($0.tail)" }.joined(separator: ", ")
      reasons.append(
        "Every submission queue is empty: the engine has fetched all that the host has announced (tail doorbells: "
          + "\(tails)\(submissionQueues.count > 16 ? ", …" : "")).")
    }
    for queue in completionQueues where queue.isBlocked {
      reasons.append(
        "CQ \(queue.cqid) is full: \(Quantity.count(queue.waiting, "completion waits", "completions wait")) for the host's head doorbell, "
          + "which reads \(queue.doorbell).")
    }
    let executing = commands.filter { $0.awaits == .backend }
    if !executing.isEmpty {
      let names = executing.prefix(8).map { "\($0.qid)/\($0.cid)" }.joined(separator: ", ")
      let more = executing.count > 8 ? " and \(executing.count - 8) more" : ""
      reasons.append("Backends hold \(Quantity.count(executing.count, "command")): \(names)\(more).")
    }
    for queue in completionQueues where queue.unannounced > 0 && queue.interruptsEnabled {
      reasons.append("CQ \(queue.cqid): \(queue.interruptText).")
    }
    if let ms = keepAliveMs { reasons.append("The Keep Alive Timer runs: \(Quantity.count(ms)) ms.") }
    return reasons
  }

  /// Why the engine fetches nothing from a queue now.
  public func whyNotFetching(_ queue: Submission) -> String {
    if queue.announced == 0 {
      return "SQ \(queue.qid) is empty: the engine has fetched all up to its tail doorbell, \(queue.tail)."
    }
    let entries = Quantity.count(queue.announced, "entry of SQ \(queue.qid)", "entries of SQ \(queue.qid)")
    if queue.isBeingDeleted { return "\(entries) will not be fetched: the queue is being deleted." }
    if completionQueue(queue.cqid)?.isBlocked == true {
      return "\(entries) will be fetched when the host frees entries of CQ \(queue.cqid), which is full."
    }
    return "\(entries) will be fetched in the queue's next turn."
  }
}
