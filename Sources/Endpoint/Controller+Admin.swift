import NVMe
import Target

extension Controller {
  mutating func executeAdmin<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    let sqe = commands[Int(index)].sqe
    do throws(Status) {
      guard let opcode = AdminOpcode(rawValue: sqe.opcode) else { throw .invalidOpcode }
      // Admin commands use PRPs (Base 2.1, 4.1.1).
      guard sqe.fuse == 0, sqe.psdt == 0 else { throw .invalidField }
      // A namespace identifier is invalid in a command that does not use one (Base 2.1, 4.1.1).
      guard sqe.nsid == 0 || opcode.namesNamespace else { throw .invalidField }
      var dw0: UInt32 = 0
      switch opcode {
      case .identify:
        try target.identify(sqe, into: scratch)
        try send(from: 0, of: Target.identifyBytes, length: UInt64(Target.identifyBytes), sqe, .admin, &port)
      case .getLogPage: try getLogPage(sqe, &port)
      case .getFeatures: dw0 = try getFeatures(sqe, &port)
      case .setFeatures:
        let flushes = target.namespaceToFlush(by: sqe)
        dw0 = try setFeatures(sqe, &port)
        if let flushes { return settleWrites(flushes, for: index, &port) }
      case .createIOCompletionQueue: try createCompletionQueue(sqe, &port)
      case .createIOSubmissionQueue: try createSubmissionQueue(sqe, &port)
      case .deleteIOSubmissionQueue: return try deleteSubmissionQueue(index, &port)
      case .deleteIOCompletionQueue: try deleteCompletionQueue(sqe, &port)
      case .abort: dw0 = abort(sqe, &port) || Mutant.abortLies.isPlanted ? 0 : 1
      case .asynchronousEventRequest: return try requestEvent(index, &port)
      case .keepAlive: armKeepAlive(&port)
      }
      finish(index, .success, dw0: dw0)
    } catch {
      finish(index, error)
    }
    // The command may have made an event reportable (a log page was read, a request was freed).
    deliverEvents(&port)
  }

  /// The Set Features completes when earlier writes are on the medium. First it waits for the writes in flight, since
  /// their cached data is known only when they are done.
  private mutating func settleWrites<P: Port & ~Copyable>(_ nsid: UInt32, for index: Int32, _ port: inout P) {
    for slot in 0..<Controller.commandsMax where commands[slot].state == .executing {
      let request = executions[slot].request
      guard request.writes, nsid == .max || request.nsid == nsid else { continue }
      executions[slot].awaitedBy.insert(.setFeatures)
      awaitedWrites += 1
    }
    guard awaitedWrites > 0 else { return flush(for: index, &port) }
    commands[Int(index)].state = .held
    heldSetFeatures = index
  }

  /// Flush the cache of the namespace that a Set Features concerns.
  mutating func flush<P: Port & ~Copyable>(for index: Int32, _ port: inout P) {
    let sqe = commands[Int(index)].sqe
    let nsid = target.namespaceFlushed(by: sqe)
    // It may have been detached since.
    guard nsid == .max || target.namespace(nsid) != nil else { return finish(index, .invalidField) }
    var request = IORequest(
      opcode: .flush, nsid: nsid, qid: .admin, cid: sqe.cid, slba: 0, blocks: 0, blockShift: 0)
    request.slot = index
    if let status = port.execute(request) {
      endFlush(request, status, &port)
    } else {
      keep(Execution(request: request, segments: 0))
    }
  }

  /// Undo what failed.
  mutating func endFlush<P: Port & ~Copyable>(_ request: IORequest, _ status: Status, _ port: inout P) {
    port.release(request)
    target.health.count(request, status)
    if !status.isSuccess {
      target.restoreFeature(commands[Int(request.slot)].sqe)
      applyFeatures()
    }
    finish(request.slot, status)
  }

  // MARK: Data

  /// Get Log Page (Base 2.1, 5.1.12).
  private mutating func getLogPage<P: Port & ~Copyable>(_ sqe: SubmissionEntry, _ port: inout P) throws(Status) {
    // Number of Dwords, 0's based, in two halves; the offset counts bytes.
    let length = ((UInt64(sqe.cdw10 >> 16) | UInt64(sqe.cdw11 & 0xffff) << 16) + 1) * 4
    let offset = UInt64(sqe.cdw12) | UInt64(sqe.cdw13) << 32
    guard length <= UInt64(target.subsystem.maxTransferBytes), offset % 4 == 0 else { throw .invalidField }
    let nowMs = target.logPageNeedsTime(sqe) ? port.clockMs() : 0
    var sqe = sqe
    // CC.CSS selects the command set, unless all supported ones are enabled (Base 2.1, 5.1.12.1.6).
    if cc.css != 6 { sqe.commandSet = 0 }
    let end = try target.getLogPage(sqe, nowMs: nowMs, into: scratch)
    guard offset <= UInt64(end) else { throw .invalidField }
    try send(from: Int(offset), of: end, length: length, sqe, .admin, &port)
    // Only a page that reached the host counts as read.
    target.acknowledgeLogPage(sqe)
  }

  private mutating func getFeatures<P: Port & ~Copyable>(_ sqe: SubmissionEntry, _ port: inout P) throws(Status)
    -> UInt32
  {
    let count = target.featureBytes(sqe)
    let nowMs = target.featureNeedsTime(sqe) ? port.clockMs() : 0
    let data = UnsafeMutableRawBufferPointer(rebasing: scratch[..<count])
    let (dw0, hasData) = try target.getFeatures(sqe, nowMs: nowMs, data: data)
    if hasData { try send(from: 0, of: count, length: UInt64(count), sqe, .admin, &port) }
    return dw0
  }

  private mutating func setFeatures<P: Port & ~Copyable>(_ sqe: SubmissionEntry, _ port: inout P) throws(Status)
    -> UInt32
  {
    let data = try receive(target.featureBytes(sqe), sqe, .admin, &port)
    let nowMs = target.featureNeedsTime(sqe) ? port.clockMs() : 0
    let id = FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10))
    if id == .interruptVectorConfiguration, !hasQueue(vector: sqe.cdw11 & 0xffff) { throw .invalidField }
    let dw0 = try target.setFeatures(sqe, data: data, nowMs: nowMs, ioQueuesExist: ioQueuesExist)
    applyFeatures()
    if id == .keepAliveTimer { armKeepAlive(&port) }
    return dw0
  }

  // MARK: Queues

  /// Create I/O Completion Queue (Base 2.1, 5.2.1).
  private mutating func createCompletionQueue<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    let qid = try newQueue(sqe)
    guard !completionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    let size = try queueSize(sqe, hasEntries: cc.iocqes == 4)
    let vector = UInt16(sqe.cdw11 >> 16)
    guard vector < target.subsystem.vectors else { throw .invalidInterruptVector }
    create(
      completion: qid,
      CompletionQueue(base: sqe.prp1, size: size, interruptsEnabled: sqe.cdw11 & 2 != 0, vector: vector), &port)
  }

  /// Create I/O Submission Queue (Base 2.1, 5.2.2).
  private mutating func createSubmissionQueue<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    let qid = try newQueue(sqe)
    guard !submissionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    let cqid = QueueID(UInt16(sqe.cdw11 >> 16))
    guard cqid != .admin, Int(cqid.rawValue) < queuesMax else { throw .invalidQueueIdentifier }
    guard completionQueues[Int(cqid.rawValue)].exists else { throw .completionQueueInvalid }
    let size = try queueSize(sqe, hasEntries: cc.iosqes == 6)
    create(submission: qid, SubmissionQueue(base: sqe.prp1, size: size, cqid: cqid), &port)
  }

  private func newQueue(_ sqe: SubmissionEntry) throws(Status) -> QueueID {
    let qid = QueueID(UInt16(truncatingIfNeeded: sqe.cdw10))
    guard qid != .admin, Int(qid.rawValue) < queuesMax else { throw .invalidQueueIdentifier }
    return qid
  }

  /// The size of a new queue, which must be contiguous and begin at a page.
  /// - Parameter hasEntries: without an entry size the queue has no size (Base 2.1, 3.1.4.5).
  private func queueSize(_ sqe: SubmissionEntry, hasEntries: Bool) throws(Status) -> UInt32 {
    let size = (sqe.cdw10 >> 16) + 1
    guard hasEntries, size >= 2, size <= target.subsystem.queueEntriesMax else { throw .invalidQueueSize }
    guard sqe.cdw11 & 1 != 0 else { throw .invalidField }
    guard sqe.prp1 & 0xfff == 0 else { throw .prpOffsetInvalid }
    return size
  }

  /// Delete I/O Submission Queue (Base 2.1, 5.2.4): completes when every command fetched from it is done.
  private mutating func deleteSubmissionQueue<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) throws(Status) {
    let qid = try newQueue(commands[Int(index)].sqe)
    let queue = submissionQueues + Int(qid.rawValue)
    guard queue.pointee.exists, !queue.pointee.isBeingDeleted else { throw .invalidQueueIdentifier }
    queue.pointee.deletion = index
    commands[Int(index)].state = .held
    if queue.pointee.first != Command.none {
      giveUpFirst(of: queue, &port)
      postWaiting(queue.pointee.cqid, &port)
    }
    deleteIfDone(qid, &port)
  }

  /// Delete I/O Completion Queue (Base 2.1, 5.2.3).
  private mutating func deleteCompletionQueue<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    let qid = try newQueue(sqe)
    guard completionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    guard completionQueues[Int(qid.rawValue)].users == 0 else { throw .invalidQueueDeletion }
    delete(completion: qid, &port)
  }

  // MARK: Events and abort

  private mutating func requestEvent<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) throws(Status) {
    guard eventRequests.count < AsynchronousEvents.requestsMax else { throw .asynchronousEventRequestLimitExceeded }
    commands[Int(index)].state = .held
    eventRequests.append(index)
    deliverEvents(&port)
  }

  /// Abort (Base 2.1, 5.1.1): immediately, or not at all. A request that a backend has begun or completed cannot be
  /// undone.
  /// - Returns: whether the command was aborted; its completion comes first.
  private mutating func abort<P: Port & ~Copyable>(_ sqe: SubmissionEntry, _ port: inout P) -> Bool {
    let sqid = QueueID(UInt16(truncatingIfNeeded: sqe.cdw10))
    let cid = CommandID(UInt16(sqe.cdw10 >> 16))
    if sqid == .admin {
      guard let place = eventRequests.firstIndex(where: { commands[Int($0)].sqe.cid == cid }) else { return false }
      finish(eventRequests.remove(at: place), .abortRequested)
      return true
    }
    guard Int(sqid.rawValue) < queuesMax, submissionQueues[Int(sqid.rawValue)].exists,
      let slot = (0..<Controller.commandsMax).first(where: {
        commands[$0].state != .free && commands[$0].qid == sqid && commands[$0].sqe.cid == cid
      })
    else { return false }
    let cqid = submissionQueues[Int(sqid.rawValue)].cqid
    switch commands[slot].state {
    case .executing:
      guard Mutant.abortKeepsRequest.isPlanted || port.cancel(executions[slot].request) else { return false }
      handleCompletion(Int32(slot), .abortRequested, &port)
    case .fetched, .held: guard abortUnbegun(Int32(slot), &port) else { return false }
    case .free, .finished: return false
    }
    postWaiting(cqid, &port)
    return true
  }
}
