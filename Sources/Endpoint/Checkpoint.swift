import NVMe
import Target

/// The engine's whole state between two polls, as bytes: what it is (the subsystem), its registers, queues, features,
/// events and the commands that it holds. Two engines with the same bytes behave the same from there on.
extension Controller {
  private static let stateVersion: UInt16 = 5

  /// Room that `encode` needs at most.
  public static let checkpointBytesMax =
    8192 + Int(Subsystem.namespacesLimit) * (64 + 64 + 16 + Reservation.registrantsMax * 24) + 2048 * 4
    + (Int(Subsystem.ioQueuesLimit) + 1) * 128 + slots * 144 + segmentsInFlightMax * 12

  /// - Returns: bytes written.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    precondition(bytes.count >= Controller.checkpointBytesMax)
    var state = StateWriter(bytes)
    state.put(Controller.stateVersion)
    encode(target.subsystem, &state)
    for value in [cc.rawValue, csts.rawValue, intms, aqa] { state.put(value) }
    state.put(asq)
    state.put(acq)
    state.put(pendingConfiguration != nil)
    state.put(pendingConfiguration?.rawValue ?? 0)
    for value in [keepAliveIsArmed, sawTraffic, isSettling] { state.put(value) }
    encodeNamespaces(&state)
    encode(target.features, &state)
    encode(target.events, &state)
    encode(target.errors, &state)
    encode(target.health, &state)
    encode(target.reservations, &state)
    encodeQueues(&state)
    state.put(UInt32(eventRequests.count))
    for index in eventRequests { encode(index, &state) }
    encodeExecutions(&state)
    // A controller that has failed waits for nothing.
    let isFenced = fence != Command.none && !csts.fatal
    state.put(isFenced)
    if isFenced { encode(fence, &state) }
    encodeFusion(&state)
    return state.count
  }

  /// An engine in the state that `encode` wrote.
  public static func decode(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) -> Controller {
    var state = StateReader(bytes)
    guard try state.get(UInt16.self) == stateVersion else { throw .unknownVersion }
    var controller = Controller(try Subsystem(&state))
    try controller.decode(&state)
    return controller
  }

  private mutating func decode(_ state: inout StateReader) throws(CheckpointError) {
    cc = ControllerConfiguration(rawValue: try state.get())
    csts = ControllerStatus(rawValue: try state.get())
    intms = try state.get()
    aqa = try state.get()
    asq = try state.get()
    acq = try state.get()
    let isPending = try state.getBool()
    let pending = ControllerConfiguration(rawValue: try state.get())
    pendingConfiguration = isPending ? pending : nil
    keepAliveIsArmed = try state.getBool()
    sawTraffic = try state.getBool()
    isSettling = try state.getBool()
    executing = isSettling ? 1 : 0
    timers = (isPending ? 1 : 0) + (keepAliveIsArmed ? 1 : 0)
    try decodeNamespaces(&state)
    target.features = try Features(&state, target.subsystem)
    target.events = try AsynchronousEvents(&state)
    target.errors = try ErrorLog(&state)
    target.health = try Health(&state)
    target.reservations = try Reservations(&state)
    try decodeQueues(&state)
    // Queues are there while the controller is ready, and it is not while what went before settles.
    let hasQueues = liveCompletion.count > 0 || liveSubmission.count > 0
    guard csts.ready ? cc.enable && !isSettling : !hasQueues else { throw .invalid }
    for _ in 0..<(try state.getCount(AsynchronousEvents.requestsMax)) {
      eventRequests.append(try decodeCommand(&state, .held))
    }
    try decodeExecutions(&state)
    if try state.getBool() { fence = try decodeCommand(&state, .held) }
    try decodeFusion(&state)
    guard state.isAtEnd, (fenced > 0) == (fence != Command.none) else { throw .invalid }
    for slot in 0..<Controller.commandsMax where commands[slot].state != .free {
      submissionQueues[Int(commands[slot].qid.rawValue)].held += 1
    }
    shareSlots()
    applyFeatures()
  }

  // MARK: Namespaces

  private func encodeNamespaces(_ state: inout StateWriter) {
    state.put(UInt32(target.namespaces.count))
    var next: UInt32 = 1
    while let namespace = target.namespaces.first(from: next) {
      namespace.encode(&state)
      next = namespace.nsid + 1
    }
    state.put(UInt32(target.changedNamespaces.count))
    for nsid in target.changedNamespaces { state.put(nsid) }
  }

  private mutating func decodeNamespaces(_ state: inout StateReader) throws(CheckpointError) {
    for _ in 0..<(try state.getCount(Int(Subsystem.namespacesLimit))) {
      let namespace = try Namespace(&state)
      guard target.namespace(namespace.nsid) == nil else { throw .invalid }
      target.namespaces.insert(namespace)
    }
    // In ascending order, so there is room in the log page for all that change later.
    for _ in 0..<(try state.getCount(Int(Subsystem.namespacesLimit))) {
      let nsid = try state.get(UInt32.self)
      guard nsid > target.changedNamespaces.last ?? 0, nsid <= Subsystem.namespacesLimit else { throw .invalid }
      target.changedNamespaces.append(nsid)
    }
  }

  // MARK: Queues and commands

  private func encodeQueues(_ state: inout StateWriter) {
    state.put(UInt32(liveCompletion.count))
    for place in 0..<liveCompletion.count {
      let qid = liveCompletion[place]
      let queue = completionQueues[Int(qid.rawValue)]
      state.put(qid.rawValue)
      state.put(queue.base)
      for value in [queue.size, queue.head, queue.tail, queue.doorbell, queue.unannounced] { state.put(value) }
      for value in [queue.phase, queue.interruptsEnabled, queue.isBlocked, queue.isAggregating] { state.put(value) }
      state.put(queue.vector)
    }
    state.put(UInt32(liveSubmission.count))
    for place in 0..<liveSubmission.count {
      let qid = liveSubmission[place]
      let queue = submissionQueues[Int(qid.rawValue)]
      for value in [qid.rawValue, queue.cqid.rawValue] { state.put(value) }
      state.put(queue.base)
      for value in [queue.size, queue.head, queue.tail, queue.doorbell] { state.put(value) }
      for index in [queue.deletion, queue.first] {
        state.put(index != Command.none)
        if index != Command.none { encode(index, &state) }
      }
    }
    for place in 0..<liveCompletion.count { encodeWaiting(liveCompletion[place], &state) }
  }

  private func encodeWaiting(_ cqid: QueueID, _ state: inout StateWriter) {
    var waiting: UInt32 = 0
    var index = completionQueues[Int(cqid.rawValue)].firstWaiting
    while index != Command.none {
      waiting += 1
      index = commands[Int(index)].next
    }
    state.put(waiting)
    index = completionQueues[Int(cqid.rawValue)].firstWaiting
    while index != Command.none {
      encode(index, &state)
      index = commands[Int(index)].next
    }
  }

  private func encode(_ index: Int32, _ state: inout StateWriter) {
    let command = commands[Int(index)]
    let sqe = command.sqe
    state.put(index)
    for value in [sqe.cdw0, sqe.nsid, sqe.cdw2, sqe.cdw3] { state.put(value) }
    for value in [sqe.mptr, sqe.prp1, sqe.prp2] { state.put(value) }
    for value in [sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15] { state.put(value) }
    for value in [command.qid.rawValue, command.status.rawValue, command.sqhd] { state.put(value) }
    state.put(command.dw0)
  }

  private func encodeExecutions(_ state: inout StateWriter) {
    state.put(UInt32(executing - (isSettling ? 1 : 0)))
    for slot in 0..<Controller.slots where commands[slot].state == .executing {
      let execution = executions[slot]
      encode(Int32(slot), &state)
      let request = execution.request
      state.put(request.opcode.rawValue)
      state.put(request.nsid)
      for value in [request.qid.rawValue, request.cid.rawValue] { state.put(value) }
      state.put(request.slba)
      state.put(request.blocks)
      state.put(request.blockShift)
      for value in [request.forcesUnitAccess, request.deallocates] { state.put(value) }
      state.put(csts.fatal ? 0 : execution.awaitedBy.rawValue)
      state.put(UInt32(execution.segments))
      for index in 0..<execution.segments {
        let segment = held(slot)[index]
        state.put(segment.address.rawValue)
        state.put(segment.length | (segment.isBitBucket ? 1 << 31 : 0))
      }
    }
  }

  /// The commands of the pair that have not begun, and those behind it.
  private func encodeFusion(_ state: inout StateWriter) {
    let phase = csts.fatal ? .none : fusion.phase
    state.put(phase.rawValue)
    guard phase != .none else { return }
    state.put(fusion.qid.rawValue)
    if phase == .waiting { encode(fusion.compare, &state) } else { state.put(fusion.compare) }
    if phase != .writing { encode(fusion.write, &state) } else { state.put(fusion.write) }
    state.put(UInt32(fusion.end - fusion.next))
    for place in fusion.next..<fusion.end { encode(batch[place], &state) }
  }

  private mutating func decodeQueues(_ state: inout StateReader) throws(CheckpointError) {
    for _ in 0..<(try state.getCount(queuesMax)) { try decodeCompletionQueue(&state) }
    for _ in 0..<(try state.getCount(queuesMax)) { try decodeSubmissionQueue(&state) }
    // A controller that is ready has its admin queues.
    guard !csts.ready || (submissionQueues[0].exists && completionQueues[0].exists) else { throw .invalid }
    for place in 0..<liveCompletion.count {
      let qid = liveCompletion[place]
      for _ in 0..<(try state.getCount(Controller.commandsMax)) {
        let index = try decodeCommand(&state, .finished)
        append(index, to: completionQueues + Int(qid.rawValue))
      }
    }
  }

  private mutating func decodeCompletionQueue(_ state: inout StateReader) throws(CheckpointError) {
    let qid = try decodeQueueID(&state)
    var queue = CompletionQueue(base: try state.get(), size: try state.get())
    queue.head = try state.get()
    queue.tail = try state.get()
    queue.doorbell = try state.get()
    queue.unannounced = try state.get()
    queue.phase = try state.getBool()
    queue.interruptsEnabled = try state.getBool()
    queue.isBlocked = try state.getBool()
    queue.isAggregating = try state.getBool()
    queue.vector = try state.get()
    guard !completionQueues[Int(qid.rawValue)].exists, (2...65536).contains(queue.size), queue.head < queue.size,
      queue.tail < queue.size, queue.unannounced <= queue.size, queue.vector < target.subsystem.vectors
    else { throw .invalid }
    if queue.isAggregating { timers += 1 }
    completionQueues[Int(qid.rawValue)] = queue
    liveCompletion.insert(qid)
  }

  private mutating func decodeSubmissionQueue(_ state: inout StateReader) throws(CheckpointError) {
    let qid = try decodeQueueID(&state)
    let cqid = try decodeQueueID(&state)
    var queue = SubmissionQueue(base: try state.get(), size: try state.get())
    queue.cqid = cqid
    queue.head = try state.get()
    queue.tail = try state.get()
    queue.doorbell = try state.get()
    guard !submissionQueues[Int(qid.rawValue)].exists, completionQueues[Int(cqid.rawValue)].exists,
      (2...65536).contains(queue.size), queue.head < queue.size, queue.tail < queue.size
    else { throw .invalid }
    if try state.getBool() { queue.deletion = try decodeCommand(&state, .held) }
    if try state.getBool() {
      queue.first = try decodeCommand(&state, .held)
      guard qid != .admin, commands[Int(queue.first)].qid == qid else { throw .invalid }
    }
    submissionQueues[Int(qid.rawValue)] = queue
    completionQueues[Int(cqid.rawValue)].users += 1
    liveSubmission.insert(qid)
  }

  private func decodeQueueID(_ state: inout StateReader) throws(CheckpointError) -> QueueID {
    let qid = QueueID(try state.get(UInt16.self))
    guard Int(qid.rawValue) < queuesMax else { throw .invalid }
    return qid
  }

  /// - Returns: its slot.
  private mutating func decodeCommand(_ state: inout StateReader, _ kind: Command.State) throws(CheckpointError)
    -> Int32
  {
    let slot = try state.get(Int32.self)
    var command = Command()
    command.state = kind
    command.sqe.cdw0 = try state.get()
    command.sqe.nsid = try state.get()
    command.sqe.cdw2 = try state.get()
    command.sqe.cdw3 = try state.get()
    command.sqe.mptr = try state.get()
    command.sqe.prp1 = try state.get()
    command.sqe.prp2 = try state.get()
    command.sqe.cdw10 = try state.get()
    command.sqe.cdw11 = try state.get()
    command.sqe.cdw12 = try state.get()
    command.sqe.cdw13 = try state.get()
    command.sqe.cdw14 = try state.get()
    command.sqe.cdw15 = try state.get()
    command.qid = try decodeQueueID(&state)
    command.status = Status(rawValue: try state.get())
    command.sqhd = try state.get()
    command.dw0 = try state.get()
    guard slot >= 0, slot <= Controller.shutdownSlot, commands[Int(slot)].state == .free,
      slot == Controller.shutdownSlot ? kind == .executing : slots.take(slot)
    else { throw .invalid }
    commands[Int(slot)] = command
    return slot
  }

  private mutating func decodeExecutions(_ state: inout StateReader) throws(CheckpointError) {
    for _ in 0..<(try state.getCount(Controller.slots)) {
      let slot = try decodeCommand(&state, .executing)
      guard let opcode = IOOpcode(rawValue: try state.get()) else { throw .invalid }
      let nsid = try state.get(UInt32.self)
      let qid = try decodeQueueID(&state)
      var request = IORequest(
        opcode: opcode, nsid: nsid, qid: qid, cid: CommandID(try state.get(UInt16.self)), slba: try state.get(),
        blocks: try state.get(), blockShift: try state.get())
      request.forcesUnitAccess = try state.getBool()
      request.deallocates = try state.getBool()
      let awaitedBy = Execution.Waiters(rawValue: try state.get())
      guard awaitedBy.isSubset(of: .all) else { throw .invalid }
      if awaitedBy.contains(.fence) { fenced += 1 }
      request.slot = slot
      // What moves data fits the largest transfer; its bytes must be countable.
      guard request.blockShift <= 16, request.blocks <= 1 << 16,
        submissionQueues[Int(qid.rawValue)].exists || slot == Controller.shutdownSlot
      else { throw .invalid }
      let count = try state.getCount(min(Controller.segmentsMax, Controller.segmentsInFlightMax - segmentsInFlight))
      for index in 0..<count {
        let address = try state.get(UInt64.self)
        let length = try state.get(UInt32.self)
        held(Int(slot))[index] = Segment(
          address: PCIAddress(address), length: length & ~(1 << 31), isBitBucket: length >> 31 == 1)
      }
      keep(Execution(request: request, segments: count, awaitedBy: awaitedBy))
    }
  }

  private mutating func decodeFusion(_ state: inout StateReader) throws(CheckpointError) {
    guard let phase = Fusion.Phase(rawValue: try state.get()) else { throw .invalid }
    var awaited: UInt32 = 0
    for slot in 0..<Controller.commandsMax
    where commands[slot].state == .executing && executions[slot].awaitedBy.contains(.fusion) {
      awaited += 1
    }
    // It waits for commands before it, or for one of its own.
    guard phase == .none ? awaited == 0 : phase == .waiting ? awaited > 0 : awaited == 1 else { throw .invalid }
    guard phase != .none else { return }
    var made = Fusion(phase: phase, qid: try decodeQueueID(&state), awaited: awaited)
    guard made.qid != .admin, submissionQueues[Int(made.qid.rawValue)].exists else { throw .invalid }
    made.compare = phase == .waiting ? try decodeFused(&state, .compare, of: made.qid) : try state.get()
    made.write = phase == .writing ? try state.get() : try decodeFused(&state, .write, of: made.qid)
    // Of one that is done nothing is known any more.
    let begun = phase == .comparing ? made.compare : phase == .writing ? made.write : Command.none
    if begun != Command.none {
      guard (0..<Int32(Controller.commandsMax)).contains(begun), commands[Int(begun)].state == .executing,
        commands[Int(begun)].qid == made.qid, executions[Int(begun)].awaitedBy.contains(.fusion)
      else { throw .invalid }
    }
    made.end = try state.getCount(Controller.batchMax)
    for place in 0..<made.end { batch[place] = try decodeHeld(&state, of: made.qid, .fetched) }
    fusion = made
  }

  /// One of a pair that has not begun.
  private mutating func decodeFused(
    _ state: inout StateReader, _ opcode: IOOpcode, of qid: QueueID
  ) throws(CheckpointError) -> Int32 {
    let index = try decodeHeld(&state, of: qid)
    guard commands[Int(index)].sqe.opcode == opcode.rawValue else { throw .invalid }
    return index
  }

  /// A command of that queue which waits for its turn.
  private mutating func decodeHeld(
    _ state: inout StateReader, of qid: QueueID, _ kind: Command.State = .held
  ) throws(CheckpointError) -> Int32 {
    let index = try decodeCommand(&state, kind)
    guard commands[Int(index)].qid == qid else { throw .invalid }
    return index
  }
}
