import NVMe
import Target

extension Controller {
  /// Execute a fetched command until it completes or its backend has it.
  mutating func execute<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    port.begins(qid: commands[Int(index)].qid, cid: commands[Int(index)].sqe.cid)
    if commands[Int(index)].qid == .admin {
      executeAdmin(index, &port)
    } else {
      executeIO(index, &port)
    }
  }

  /// The request of a read or write whose fields are all valid; nil for all others, which the target checks in full.
  @inline(__always)
  private func readOrWrite(_ sqe: SubmissionEntry, _ qid: QueueID, _ slot: Int32) -> IORequest? {
    let isRead = sqe.opcode == IOOpcode.read.rawValue
    guard isRead || sqe.opcode == IOOpcode.write.rawValue, sqe.fuse == 0, sqe.psdt != 3, sqe.nsid >= 1,
      sqe.nsid <= Subsystem.namespacesLimit
    else { return nil }
    let namespace = namespaces + Int(sqe.nsid)
    let blocks = (sqe.cdw12 & 0xffff) + 1
    let size = namespace.pointee.blocks
    guard namespace.pointee.nsid == sqe.nsid, sqe.slba <= size, UInt64(blocks) <= size - sqe.slba,
      UInt64(blocks) << namespace.pointee.blockShift <= maxTransferBytes, !namespace.pointee.hasReservations,
      isRead || !namespace.pointee.refusesWrites
    else { return nil }
    var request = IORequest(
      opcode: isRead ? .read : .write, nsid: sqe.nsid, qid: qid, cid: sqe.cid, slba: sqe.slba, blocks: blocks,
      blockShift: namespace.pointee.blockShift)
    request.slot = slot
    request.forcesUnitAccess = sqe.cdw12 & 1 << 30 != 0 || (!isRead && !hasWriteCache)
    return request
  }

  private mutating func executeIO<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    let sqe = commands[Int(index)].sqe
    guard let request = readOrWrite(sqe, commands[Int(index)].qid, index) else { return executeOther(index, &port) }
    executeData(request, sqe, &port)
  }

  /// A request whose data pointer describes blocks of the namespace.
  @inline(__always)
  private mutating func executeData<P: Port & ~Copyable>(
    _ request: IORequest, _ sqe: SubmissionEntry, _ port: inout P
  ) {
    let length = UInt32(truncatingIfNeeded: request.byteCount)
    let isRead = request.opcode == .read
    let mapped: Int
    do throws(Status) {
      mapped = try mapData(sqe, length, isRead ? .toHost : .fromHost, request.qid, &port)
    } catch {
      port.mapped(qid: request.qid, cid: request.cid, segments: 0, length: 0)
      return finish(request.slot, error)
    }
    port.mapped(qid: request.qid, cid: request.cid, segments: mapped, length: length)
    port.observe(self)
    guard isRead || transfer(.fromHost, request, segments, mapped, &port) else {
      return conclude(request, .dataTransferError, segments, 0, &port)
    }
    if let status = port.execute(request) {
      conclude(request, status, segments, mapped, &port)
    } else {
      hold(request, mapped)
      port.observe(self)
    }
  }

  /// The same for rare callers, so that it is inlined only where every command passes.
  @inline(never)
  mutating func executeSeldom<P: Port & ~Copyable>(_ request: IORequest, _ sqe: SubmissionEntry, _ port: inout P) {
    executeData(request, sqe, &port)
  }

  @inline(never)
  private mutating func executeOther<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) {
    let sqe = commands[Int(index)].sqe
    let qid = commands[Int(index)].qid
    var request: IORequest
    do throws(Status) {
      request = try target.request(sqe, qid: qid)
      request.slot = index
      if request.movesData { return executeSeldom(request, sqe, &port) }
      if request.opcode.isReservation { return executeReservation(index, request.opcode, &port) }
      if request.opcode == .datasetManagement || request.opcode == .copy { try readRanges(&request, sqe, &port) }
    } catch {
      port.mapped(qid: qid, cid: sqe.cid, segments: 0, length: 0)
      return finish(index, error)
    }
    port.mapped(qid: qid, cid: sqe.cid, segments: 0, length: 0)
    if let status = port.execute(request) {
      conclude(request, status, segments, 0, &port)
    } else {
      hold(request, 0)
      port.observe(self)
    }
  }

  /// The backend has completed a request, or it failed earlier: transfer data to the host.
  @inline(__always)
  private mutating func conclude<P: Port & ~Copyable>(
    _ request: IORequest, _ status: Status, _ segments: UnsafeMutablePointer<Segment>, _ count: Int, _ port: inout P
  ) {
    var status = status
    if request.opcode == .read, status.isSuccess, !transfer(.toHost, request, segments, count, &port) {
      if !Mutant.transferErrorHidden.isPlanted { status = .dataTransferError }
    }
    port.release(request)
    target.health.count(request, status)
    finish(request.slot, status)
    port.observe(self)
  }

  @inline(__always)
  private func transfer<P: Port & ~Copyable>(
    _ direction: Direction, _ request: IORequest, _ segments: UnsafeMutablePointer<Segment>, _ count: Int,
    _ port: inout P
  ) -> Bool {
    if Mutant.readMovesNothing.isPlanted, direction == .toHost { return true }
    // A transfer that cannot be read completely writes nothing.
    if direction == .fromHost, count > 1, !reachesAll(request, segments, count, &port) { return false }
    var offset: UInt64 = 0
    for index in 0..<count {
      let segment = segments[Mutant.segmentsSwapped.isPlanted && count == 2 ? 1 - index : index]
      if !segment.isBitBucket {
        guard port.transfer(direction, request, offset: offset, segment) else { return false }
      }
      if !Mutant.segmentsAtStart.isPlanted { offset += UInt64(segment.length) }
    }
    port.transferred(direction, request)
    return true
  }

  @inline(never)
  private func reachesAll<P: Port & ~Copyable>(
    _ request: IORequest, _ segments: UnsafeMutablePointer<Segment>, _ count: Int, _ port: inout P
  ) -> Bool {
    for index in 0..<count where !segments[index].isBitBucket {
      guard port.reaches(.fromHost, request, segments[index]) else { return false }
    }
    return true
  }

  // MARK: Deferred requests

  /// The backend will complete it later: keep what its completion needs.
  private mutating func hold(_ request: IORequest, _ mapped: Int) {
    let slot = Int(request.slot)
    var kept = request
    kept.ranges = UnsafeBufferPointer(start: nil, count: 0)
    let count = request.opcode == .read ? mapped : 0
    if count > 0 { held(slot).update(from: segments, count: count) }
    keep(Execution(request: kept, segments: count))
  }

  mutating func keep(_ execution: Execution) {
    let slot = Int(execution.request.slot)
    (executions + slot).initialize(to: execution)
    commands[slot].state = .executing
    executing += 1
    segmentsInFlight += execution.segments
    // The flush of a shutdown belongs to no queue.
    if slot != Controller.shutdownSlot { submissionQueues[Int(execution.request.qid.rawValue)].executing += 1 }
  }

  /// Handle requests completed by backends, and post their completions.
  mutating func handleCompletions<P: Port & ~Copyable>(_ port: inout P) -> Bool {
    var handled = 0
    while handled < Controller.batchMax, let (slot, status) = port.completion() {
      if slot == Controller.abandonedSlot, isSettling {
        endSettling(&port)
      } else {
        guard slot >= 0, Int(slot) < Controller.slots, commands[Int(slot)].state == .executing,
          !(Mutant.completionDropped.isPlanted && slot == 4)
        else { continue }
        handleCompletion(slot, status, &port)
      }
      handled += 1
    }
    guard handled > 0 else { return false }
    guard csts.ready, !csts.fatal else { return true }
    // The admin queue last: a queue's deletion must not complete before the host can see its commands complete.
    for place in (0..<liveCompletion.count).reversed() { postWaiting(liveCompletion[place], &port) }
    return true
  }

  mutating func handleCompletion<P: Port & ~Copyable>(_ slot: Int32, _ status: Status, _ port: inout P) {
    let execution = executions[Int(slot)]
    let request = execution.request
    executing -= 1
    segmentsInFlight -= execution.segments
    if slot == Controller.shutdownSlot {
      commands[Int(slot)].state = .free
      return endShutdown(request, status, &port)
    }
    let queue = submissionQueues + Int(request.qid.rawValue)
    queue.pointee.executing -= 1
    // A controller that has failed completes nothing more.
    guard !csts.fatal else {
      port.release(request)
      return releaseCommand(slot)
    }
    if request.qid == .admin {
      endFlush(request, status, &port)
    } else {
      conclude(request, status, held(Int(slot)), execution.segments, &port)
    }
    if !execution.awaitedBy.isEmpty {
      if execution.awaitedBy.contains(.setFeatures) { continueSetFeatures(&port) }
      if execution.awaitedBy.contains(.fusion) { continueFusion(&port) }
    }
    if queue.pointee.isBeingDeleted { deleteIfDone(request.qid, &port) }
  }

  /// A write that a Set Features waits for is done.
  private mutating func continueSetFeatures<P: Port & ~Copyable>(_ port: inout P) {
    awaitedWrites -= 1
    guard awaitedWrites == 0 else { return }
    let index = heldSetFeatures
    heldSetFeatures = Command.none
    flush(for: index, &port)
  }

  // MARK: Ranges

  /// Deallocations and copies carry their ranges as data.
  private mutating func readRanges<P: Port & ~Copyable>(
    _ request: inout IORequest, _ sqe: SubmissionEntry, _ port: inout P
  ) throws(Status) {
    let isCopy = request.opcode == .copy
    let number = Int((isCopy ? sqe.cdw12 : sqe.cdw10) & 0xff) + 1
    let bytes = try receive(number * Target.rangeBytes(request.opcode), sqe, request.qid, &port)
    let count = try target.parseRanges(request, bytes, into: ranges)
    // A hint other than deallocation changes nothing.
    let counts = isCopy || sqe.cdw11 & 1 << 2 != 0
    request.ranges = UnsafeBufferPointer(start: ranges, count: counts ? count : 0)
  }

  // MARK: Reservations

  @inline(never)
  private mutating func executeReservation<P: Port & ~Copyable>(
    _ index: Int32, _ opcode: IOOpcode, _ port: inout P
  ) {
    let sqe = commands[Int(index)].sqe
    let qid = commands[Int(index)].qid
    do throws(Status) {
      if opcode == .reservationReport {
        try target.reportReservation(sqe, into: scratch)
        try send(from: 0, of: scratch.count, length: (UInt64(sqe.cdw10) + 1) * 4, sqe, qid, &port)
      } else {
        let data = try receive(Target.reservationBytes(opcode), sqe, qid, &port)
        try target.reserve(sqe, opcode, data)
      }
      finish(index, .success)
    } catch {
      finish(index, error)
    }
    deliverEvents(&port)
  }
}
