import NVMe
import Target

extension Controller {
  mutating func executeAdmin<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    let sqe = commands[Int(index)].sqe
    do throws(Status) {
      guard let opcode = AdminOpcode(rawValue: sqe.opcode) else { throw .invalidOpcode }
      guard sqe.fuse == 0, sqe.psdt == 0 else { throw .invalidField }
      var dw0: UInt32 = 0
      switch opcode {
      case .identify:
        try target.identify(sqe, into: scratch)
        try sendScratch(UInt32(Target.identifyBytes), sqe, &port)
      case .getLogPage: try getLogPage(sqe, &port)
      case .getFeatures: dw0 = try target.getFeatures(sqe)
      case .setFeatures:
        dw0 = try target.setFeatures(sqe, ioQueuesExist: ioQueuesExist)
        applyFeatures()
      case .createIOCompletionQueue: try createCompletionQueue(sqe, &port)
      case .createIOSubmissionQueue: try createSubmissionQueue(sqe, &port)
      case .deleteIOSubmissionQueue: try deleteSubmissionQueue(sqe)
      case .deleteIOCompletionQueue: try deleteCompletionQueue(sqe)
      case .abort: dw0 = abort(sqe)
      case .asynchronousEventRequest: return try requestEvent(index, &port)
      case .keepAlive: break
      }
      finish(index, .success, dw0: dw0)
    } catch {
      finish(index, error)
    }
    // What the command uncovered (a log page read, a request freed) may let an event through.
    deliverEvents(&port)
  }

  // MARK: Data

  /// Send the first `length` bytes of `scratch` to where the command's data pointer says.
  private mutating func sendScratch<P: Port & ~Copyable>(
    _ length: UInt32, _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    // Two pages at most: no list is fetched, so `scratch` is not needed for one.
    precondition(UInt64(length) <= Controller.pageBytes)
    let count = try mapData(sqe, length, .admin, &port)
    port.mapped(qid: .admin, cid: sqe.cid, segments: count, length: length)
    var offset = 0
    for index in 0..<count {
      let end = offset + Int(segments[index].length)
      let bytes = UnsafeRawBufferPointer(rebasing: scratch[offset..<end])
      guard port.write(segments[index].address, bytes, qid: .admin, cid: sqe.cid) else { throw .dataTransferError }
      offset = end
    }
  }

  private mutating func getLogPage<P: Port & ~Copyable>(_ sqe: SubmissionEntry, _ port: inout P) throws(Status) {
    // Number of Dwords, 0's based, in two halves; the offset counts bytes (Base 2.1, 5.1.12).
    let length = ((UInt64(sqe.cdw10 >> 16) | UInt64(sqe.cdw11 & 0xffff) << 16) + 1) * 4
    let offset = UInt64(sqe.cdw12) | UInt64(sqe.cdw13) << 32
    let page = try target.getLogPage(sqe, into: scratch)
    // Only whole pages read from their beginning: LPA reports no extended data.
    guard offset == 0, length <= UInt64(page) else { throw .invalidField }
    try sendScratch(UInt32(length), sqe, &port)
  }

  // MARK: Queues

  /// Create I/O Completion Queue (Base 2.1, 5.2.1).
  private mutating func createCompletionQueue<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    let qid = try newQueue(sqe)
    guard !completionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    let size = try queueSize(sqe)
    guard sqe.cdw11 & 1 != 0, sqe.prp1 & 0xfff == 0, cc.iocqes == 4 else { throw .invalidField }
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
    guard cqid != .admin, Int(cqid.rawValue) < queuesMax, completionQueues[Int(cqid.rawValue)].exists else {
      throw .completionQueueInvalid
    }
    let size = try queueSize(sqe)
    guard sqe.cdw11 & 1 != 0, sqe.prp1 & 0xfff == 0, cc.iosqes == 6 else { throw .invalidField }
    create(submission: qid, SubmissionQueue(base: sqe.prp1, size: size, cqid: cqid), &port)
  }

  private func newQueue(_ sqe: SubmissionEntry) throws(Status) -> QueueID {
    let qid = QueueID(UInt16(truncatingIfNeeded: sqe.cdw10))
    guard qid != .admin, Int(qid.rawValue) < queuesMax else { throw .invalidQueueIdentifier }
    return qid
  }

  private func queueSize(_ sqe: SubmissionEntry) throws(Status) -> UInt32 {
    let size = (sqe.cdw10 >> 16) + 1
    guard size >= 2, size <= target.subsystem.queueEntriesMax else { throw .invalidQueueSize }
    return size
  }

  /// Delete I/O Submission Queue (Base 2.1, 5.2.4). What it fetched is complete; only the posting may still wait.
  private mutating func deleteSubmissionQueue(_ sqe: SubmissionEntry) throws(Status) {
    let qid = try newQueue(sqe)
    guard submissionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    delete(submission: qid)
  }

  /// Delete I/O Completion Queue (Base 2.1, 5.2.3).
  private mutating func deleteCompletionQueue(_ sqe: SubmissionEntry) throws(Status) {
    let qid = try newQueue(sqe)
    guard completionQueues[Int(qid.rawValue)].exists else { throw .invalidQueueIdentifier }
    guard completionQueues[Int(qid.rawValue)].users == 0 else { throw .invalidQueueDeletion }
    delete(completion: qid)
  }

  // MARK: Events and abort

  private mutating func requestEvent<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) throws(Status) {
    guard eventRequests.count < AsynchronousEvents.requestsMax else { throw .asynchronousEventRequestLimitExceeded }
    eventRequests.append(index)
    deliverEvents(&port)
  }

  /// Abort (Base 2.1, 5.1.1). Only an Asynchronous Event Request waits long enough to be aborted.
  /// - Returns: Dword 0, whose bit 0 is set where nothing was aborted.
  private mutating func abort(_ sqe: SubmissionEntry) -> UInt32 {
    let sqid = QueueID(UInt16(truncatingIfNeeded: sqe.cdw10))
    let cid = CommandID(UInt16(sqe.cdw10 >> 16))
    guard sqid == .admin, let place = eventRequests.firstIndex(where: { commands[Int($0)].sqe.cid == cid }) else {
      return 1
    }
    finish(eventRequests.remove(at: place), .abortRequested)
    return 0
  }
}
