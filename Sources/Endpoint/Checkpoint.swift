import NVMe
import Target

/// A checkpoint: the engine's complete state between two polls, as bytes. It contains the subsystem, registers, queues,
/// features, events and commands. Two engines with the same checkpoint behave the same from there on. One walk over the
/// fields writes, hashes, reads and names them.
extension Controller {
  /// The layout of a checkpoint; every change of the walk increments it.
  public static let stateVersion: UInt16 = 5

  /// Maximum bytes that `encode` writes.
  public static let checkpointBytesMax =
    8192 + Int(Subsystem.namespacesLimit) * (64 + 64 + 16 + Reservation.registrantsMax * 24) + 2048 * 4
    + (Int(Subsystem.ioQueuesLimit) + 1) * 128 + slots * 144 + segmentsInFlightMax * 12

  /// Write the state. Mutating because the walk is; writing changes nothing.
  /// - Returns: bytes written.
  public mutating func encode(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    precondition(bytes.count >= Controller.checkpointBytesMax)
    var state = StateWriter(bytes)
    visit(&state)
    return state.count
  }

  /// The hash of the state, which is that of the bytes that `encode` would write. Mutating because the walk is.
  public mutating func stateHash() -> StateHash {
    var state = StateHasher()
    visit(&state)
    return state.hash
  }

  private mutating func visit<S: StateSink>(_ state: inout S) {
    var (version, subsystem) = (Controller.stateVersion, target.subsystem)
    state.code("layout", &version)
    subsystem.walk(&state)
    walk(&state)
  }

  /// The engine whose state `encode` wrote.
  public static func decode(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) -> Controller {
    var state = StateReader(bytes)
    return try decode(&state)
  }

  /// The fields of a checkpoint in order; for a damaged one, those before the damage.
  public static func fields(of bytes: UnsafeRawBufferPointer) -> [StateField] {
    var state = StateReader(bytes, namesFields: true)
    _ = try? decode(&state)
    return state.fields ?? []
  }

  /// - Parameter mapping: replaces values.
  static func decode(_ state: inout StateReader, _ mapping: (any StateMapping)? = nil) throws(CheckpointError)
    -> Controller
  {
    var (version, subsystem) = (stateVersion, Subsystem())
    try state.code("layout", &version)
    guard version == stateVersion else { throw .unknownVersion(version) }
    try subsystem.walk(&state)
    if let mapping {
      subsystem = mapping.map(subsystem)
      try state.check(subsystem.isValid)
    }
    var controller = Controller(subsystem)
    try controller.walk(&state)
    controller.settle()
    if let mapping { try controller.replaceValues(mapping) }
    try state.check(state.isAtEnd && controller.brokenInvariant() == nil)
    return controller
  }

  private mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("CC", &cc.rawValue, "CSTS", &csts.rawValue, "INTMS", &intms, "AQA", &aqa)
    try state.code("ASQ", &asq, "ACQ", &acq)
    var pending = pendingConfiguration?.rawValue
    try state.code("pending CC", &pending)
    if C.reads { pendingConfiguration = pending.map(ControllerConfiguration.init(rawValue:)) }
    try state.code("keep alive timer is armed", &keepAliveIsArmed)
    try state.code("traffic since", &sawTraffic)
    try state.code("is settling", &isSettling)
    if C.reads { executing = isSettling ? 1 : 0 }
    try walkNamespaces(&state)
    try target.features.walk(&state)
    try target.events.walk(&state)
    try target.errors.walk(&state)
    try target.health.walk(&state)
    try state.table(
      "reservations", "reservation of namespace", &target.reservations.byNamespace, limit: Subsystem.namespacesLimit,
      new: Reservation()
    ) { (state, reservation) throws(C.Failure) in try reservation.walk(&state) }
    try walkQueues(&state)
    for place in 0..<(try state.count("event requests", eventRequests.count, limit: AsynchronousEvents.requestsMax)) {
      var slot = C.reads ? Command.none : eventRequests[place]
      try walk("event request", &slot, .held, &state)
      if C.reads { eventRequests.append(slot) }
    }
    try walkExecutions(&state)
    // A failed controller waits for nothing.
    var heldSetFeatures = csts.fatal ? Command.none : self.heldSetFeatures
    try walkIfAny("held Set Features", &heldSetFeatures, &state)
    if C.reads { self.heldSetFeatures = heldSetFeatures }
    try walkFusion(&state)
  }

  /// Set the state that follows from the fields.
  private mutating func settle() {
    for slot in 0..<Controller.commandsMax where commands[slot].state != .free {
      submissionQueues[Int(commands[slot].qid.rawValue)].held += 1
    }
    timers = armedTimers
    awaitedWrites = requests(awaitedBy: .setFeatures)
    shareSlots()
    applyFeatures()
  }

  /// Requests at backends that these operations wait for; all requests by default.
  private func requests(awaitedBy waiters: Execution.Waiters = []) -> UInt32 {
    var count: UInt32 = 0
    for slot in 0..<Controller.slots
    where commands[slot].state == .executing && executions[slot].awaitedBy.isSuperset(of: waiters) { count += 1 }
    return count
  }

  private mutating func walkNamespaces<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    let limit = Int(Subsystem.namespacesLimit)
    var next: UInt32 = 1
    for _ in 0..<(try state.count("namespaces", target.namespaces.count, limit: limit)) {
      var namespace = target.namespaces.first(from: next) ?? Namespace(nsid: 0, blocks: 0, blockShift: 0)
      try namespace.walk(&state)
      if C.reads {
        try state.check(target.namespace(namespace.nsid) == nil)
        target.namespaces.insert(namespace)
      }
      next = namespace.nsid + 1
    }
    var last: UInt32 = 0
    try state.list("changed namespaces", "changed namespace", &target.changedNamespaces, limit: limit, new: 0) {
      (state, nsid) throws(C.Failure) in
      try state.code("NSID", &nsid)
      // Ascending, hence distinct: the log page has room for every later change.
      try state.check(nsid > last && nsid <= limit)
      last = nsid
    }
  }

  private mutating func walkQueues<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    for place in 0..<(try state.count("completion queues", liveCompletion.count, limit: queuesMax)) {
      var qid = C.reads ? QueueID.admin : liveCompletion[place]
      try state.enter("completion queue", key: &qid.rawValue)
      var queue = C.reads ? CompletionQueue() : completionQueues[Int(qid.rawValue)]
      try queue.walk(&state)
      state.leave()
      guard C.reads else { continue }
      try state.check(isPossible(qid) && !completionQueues[Int(qid.rawValue)].exists)
      try state.check(queue.vector < target.subsystem.vectors)
      completionQueues[Int(qid.rawValue)] = queue
      liveCompletion.insert(qid)
    }
    for place in 0..<(try state.count("submission queues", liveSubmission.count, limit: queuesMax)) {
      try walkSubmissionQueue(C.reads ? .admin : liveSubmission[place], &state)
    }
    for place in 0..<liveCompletion.count { try walkWaiting(liveCompletion[place], &state) }
  }

  private func isPossible(_ qid: QueueID) -> Bool { Int(qid.rawValue) < queuesMax }

  private mutating func walkSubmissionQueue<C: StateCoder>(_ qid: QueueID, _ state: inout C) throws(C.Failure) {
    var qid = qid
    try state.enter("submission queue", key: &qid.rawValue)
    var queue = C.reads ? SubmissionQueue() : submissionQueues[Int(qid.rawValue)]
    try queue.walk(&state)
    try walkIfAny("deletion", &queue.deletion, &state)
    try walkIfAny("first of a fused pair", &queue.first, &state, of: qid)
    state.leave()
    guard C.reads else { return }
    try state.check(isPossible(qid) && !submissionQueues[Int(qid.rawValue)].exists)
    try state.check(isPossible(queue.cqid) && completionQueues[Int(queue.cqid.rawValue)].exists)
    try state.check(queue.first == Command.none || qid != .admin)
    submissionQueues[Int(qid.rawValue)] = queue
    completionQueues[Int(queue.cqid.rawValue)].users += 1
    liveSubmission.insert(qid)
  }

  private mutating func walkWaiting<C: StateCoder>(_ cqid: QueueID, _ state: inout C) throws(C.Failure) {
    let first = completionQueues[Int(cqid.rawValue)].firstWaiting
    var (waiting, next) = (0, first)
    while next != Command.none { (waiting, next) = (waiting + 1, commands[Int(next)].next) }
    state.enter("completion queue", Int(cqid.rawValue))
    next = first
    for _ in 0..<(try state.count("commands to post", waiting, limit: Controller.commandsMax)) {
      var slot = next
      if !C.reads { next = commands[Int(slot)].next }
      try walk("command to post", &slot, .finished, &state)
      guard C.reads else { continue }
      append(slot, to: completionQueues + Int(cqid.rawValue))
      let queue = submissionQueues + Int(commands[Int(slot)].qid.rawValue)
      if queue.pointee.cqid != cqid { queue.pointee.hasPredecessor = true }
    }
    state.leave()
  }

  /// A command and its slot.
  /// - Parameter qid: the queue that it must belong to, if known.
  private mutating func walk<C: StateCoder>(
    _ name: StaticString, _ slot: inout Int32, _ kind: Command.State, _ state: inout C, of qid: QueueID? = nil
  ) throws(C.Failure) {
    try state.enter(name, key: &slot)
    var command = C.reads ? Command() : commands[Int(slot)]
    try command.walk(&state)
    state.leave()
    guard C.reads else { return }
    command.state = kind
    try state.check(isPossible(command.qid) && (qid == nil || command.qid == qid))
    try state.check(slot >= 0 && slot <= Controller.shutdownSlot && commands[Int(slot)].state == .free)
    try state.check(slot == Controller.shutdownSlot ? kind == .executing : slots.allocate(slot))
    commands[Int(slot)] = command
  }

  /// Whether there is such a command; if so, the held command.
  private mutating func walkIfAny<C: StateCoder>(
    _ name: StaticString, _ slot: inout Int32, _ state: inout C, of qid: QueueID? = nil
  ) throws(C.Failure) {
    var isThere = slot != Command.none
    state.enter(name, nil)
    try state.code("is set", &isThere)
    state.leave()
    if isThere { try walk(name, &slot, .held, &state, of: qid) }
  }

  private mutating func walkExecutions<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    var slot: Int32 = -1
    for _ in 0..<(try state.count("requests", Int(requests()), limit: Controller.slots)) {
      if !C.reads { repeat { slot += 1 } while commands[Int(slot)].state != .executing }
      try walk("request", &slot, .executing, &state)
      state.enter("request", Int(slot))
      var execution = C.reads ? Execution(request: .unread, segments: 0) : executions[Int(slot)]
      try execution.request.walk(&state)
      execution.request.slot = slot
      let qid = execution.request.qid
      try state.check(
        isPossible(qid) && (submissionQueues[Int(qid.rawValue)].exists || slot == Controller.shutdownSlot))
      // A failed controller waits for nothing.
      if csts.fatal, !C.reads { execution.awaitedBy = [] }
      try state.code("awaited by", &execution.awaitedBy)
      try state.check(execution.awaitedBy.isSubset(of: .all))
      let room = min(Controller.segmentsMax, Controller.segmentsInFlightMax - segmentsInFlight)
      execution.segments = try state.count("segments", execution.segments, limit: room)
      for place in 0..<execution.segments {
        state.enter("segment", place)
        var segment = C.reads ? Segment(address: PCIAddress(0), length: 0) : held(Int(slot))[place]
        var length = segment.length | (segment.isBitBucket ? 1 << 31 : 0)
        try state.code("address", &segment.address.rawValue, "length", &length)
        (segment.length, segment.isBitBucket) = (length & ~(1 << 31), length >> 31 == 1)
        if C.reads { held(Int(slot))[place] = segment }
        state.leave()
      }
      if C.reads { keep(execution) }
      state.leave()
    }
  }

  /// The commands of the pair that have not begun, and those fetched after it.
  private mutating func walkFusion<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    var made = csts.fatal ? Fusion() : fusion
    state.enter("fused operation", nil)
    defer { state.leave() }
    try state.code("phase", &made.phase)
    if C.reads {
      made.awaited = requests(awaitedBy: .fusion)
      // It waits for earlier commands, or for one of its own.
      try state.check(
        made.phase == .none ? made.awaited == 0 : made.phase == .waiting ? made.awaited > 0 : made.awaited == 1)
    }
    guard made.phase != .none else { return }
    try state.code("queue", &made.qid.rawValue)
    try state.check(made.qid != .admin && isPossible(made.qid) && submissionQueues[Int(made.qid.rawValue)].exists)
    try walkFused("compare", &made.compare, .compare, made, hasBegun: made.phase != .waiting, &state)
    try walkFused("write", &made.write, .write, made, hasBegun: made.phase == .writing, &state)
    let (batch, next) = (batch, made.next)
    made.end = next + (try state.count("commands after it", made.end - next, limit: Controller.batchMax))
    for place in next..<made.end {
      try walk("command after it", &batch[place], .fetched, &state, of: made.qid)
    }
    if C.reads { fusion = made }
  }

  /// One of the pair: the command if it has not begun, otherwise its slot.
  private mutating func walkFused<C: StateCoder>(
    _ name: StaticString, _ slot: inout Int32, _ opcode: IOOpcode, _ fusion: Fusion, hasBegun: Bool, _ state: inout C
  ) throws(C.Failure) {
    guard hasBegun else {
      try walk(name, &slot, .held, &state, of: fusion.qid)
      return try state.check(commands[Int(slot)].sqe.opcode == opcode.rawValue)
    }
    try state.code(name, &slot)
    // Nothing remains of a completed comparison.
    guard C.reads, opcode == .write || fusion.phase == .comparing else { return }
    let isPossible = (0..<Int32(Controller.commandsMax)).contains(slot) && commands[Int(slot)].state == .executing
    try state.check(
      isPossible && commands[Int(slot)].qid == fusion.qid && executions[Int(slot)].awaitedBy.contains(.fusion))
  }
}

extension CompletionQueue {
  fileprivate mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("base", &base, "size", &size, "head", &head, "tail", &tail)
    try state.code("head doorbell", &doorbell, "unannounced entries", &unannounced)
    try state.code("phase", &phase)
    try state.code("interrupts enabled", &interruptsEnabled)
    try state.code("is blocked", &isBlocked)
    try state.code("is aggregating", &isAggregating)
    try state.code("vector", &vector)
    try state.check((2...65536).contains(size))
  }
}

extension SubmissionQueue {
  fileprivate mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("completion queue", &cqid.rawValue, "base", &base, "size", &size, "head", &head)
    try state.code("tail", &tail, "tail doorbell", &doorbell)
    try state.check((2...65536).contains(size))
  }
}

extension Command {
  fileprivate mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("CDW0", &sqe.cdw0, "NSID", &sqe.nsid, "CDW2", &sqe.cdw2, "CDW3", &sqe.cdw3)
    try state.code("MPTR", &sqe.mptr, "PRP1", &sqe.prp1, "PRP2", &sqe.prp2, "CDW10", &sqe.cdw10)
    try state.code("CDW11", &sqe.cdw11, "CDW12", &sqe.cdw12, "CDW13", &sqe.cdw13, "CDW14", &sqe.cdw14)
    try state.code("CDW15", &sqe.cdw15)
    try state.code("queue", &qid.rawValue, "status", &status.rawValue, "SQHD", &sqhd, "DW0 of its completion", &dw0)
  }
}

extension IORequest {
  fileprivate static var unread: IORequest {
    IORequest(opcode: .flush, nsid: 0, qid: .admin, cid: CommandID(0), slba: 0, blocks: 0, blockShift: 0)
  }

  fileprivate mutating func walk<C: StateCoder>(_ state: inout C) throws(C.Failure) {
    try state.code("opcode", &opcode)
    try state.code("namespace", &nsid, "submission queue", &qid.rawValue, "CID", &cid.rawValue, "SLBA", &slba)
    try state.code("blocks", &blocks, "block shift", &blockShift)
    try state.code("FUA", &forcesUnitAccess)
    try state.code("deallocates", &deallocates)
    // Requests with data fit the largest transfer, and their byte count must not overflow.
    try state.check(blockShift <= 16 && blocks <= 1 << 16)
  }
}
