import NVMe
import Target

/// The engine's whole state between two polls, as bytes: what it is (the subsystem), its registers, queues, features,
/// events and the commands that it holds. Two engines with the same bytes behave the same from there on.
extension Controller {
  private static let stateVersion: UInt16 = 1

  /// Room that `encode` needs at most.
  public static let checkpointBytesMax =
    4096 + Int(Subsystem.namespacesMax) * 16 + 2048 * 4 + (Int(Subsystem.ioQueuesLimit) + 1) * 80 + commandsMax * 80

  /// - Returns: bytes written.
  public func encode(into bytes: UnsafeMutableRawBufferPointer) -> Int {
    precondition(bytes.count >= Controller.checkpointBytesMax)
    var state = StateWriter(bytes)
    state.put(Controller.stateVersion)
    encode(target.subsystem, &state)
    for value in [cc.rawValue, csts.rawValue, intms, aqa] { state.put(value) }
    state.put(asq)
    state.put(acq)
    encode(target.features, &state)
    encode(target.events, &state)
    encode(target.errors, &state)
    encodeQueues(&state)
    state.put(UInt32(eventRequests.count))
    for index in eventRequests { encode(commands[Int(index)], &state) }
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
    let features = try Features(&state, vectors: target.subsystem.vectors)
    let events = try AsynchronousEvents(&state)
    target.restore(features: features, events: events, errors: try ErrorLog(&state))
    try decodeQueues(&state)
    for _ in 0..<(try state.getCount(AsynchronousEvents.requestsMax)) {
      eventRequests.append(try decodeCommand(&state))
    }
    guard state.isAtEnd else { throw .invalid }
    applyFeatures()
  }

  private func encode(_ subsystem: Subsystem, _ state: inout StateWriter) {
    for text in [subsystem.nqn, subsystem.serial, subsystem.model, subsystem.firmwareRevision] { state.put(text) }
    for value in [subsystem.vendorID, subsystem.ioQueuesMax, subsystem.vectors] { state.put(value) }
    state.put(subsystem.queueEntriesMax)
    state.put(subsystem.maxTransferBytes)
    state.put(UInt32(subsystem.namespaces.count))
    for namespace in subsystem.namespaces {
      state.put(namespace.nsid)
      state.put(namespace.blocks)
      state.put(namespace.blockShift)
    }
  }

  private func encode(_ features: Features, _ state: inout StateWriter) {
    for value in [
      features.arbitration, features.powerManagement, features.temperatureThreshold, features.volatileWriteCache,
      features.numberOfQueues, features.interruptCoalescing, features.writeAtomicity,
      features.asynchronousEventConfiguration, features.keepAliveTimer,
    ] { state.put(value) }
    for value in features.vectorConfiguration { state.put(value) }
  }

  private func encode(_ events: AsynchronousEvents, _ state: inout StateWriter) {
    state.put(events.masked)
    state.put(UInt32(events.pending.count))
    for event in events.pending {
      for value in [event.type, event.information, event.logPage] { state.put(value) }
    }
  }

  private func encode(_ errors: ErrorLog, _ state: inout StateWriter) {
    state.put(errors.count)
    state.put(UInt32(errors.entries.count))
    for entry in errors.entries {
      state.put(entry.count)
      for value in [entry.qid.rawValue, entry.cid.rawValue, entry.status.rawValue] { state.put(value) }
      state.put(entry.lba)
      state.put(entry.nsid)
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
      for value in [queue.phase, queue.interruptsEnabled, queue.isBlocked] { state.put(value) }
      state.put(queue.vector)
    }
    state.put(UInt32(liveSubmission.count))
    for place in 0..<liveSubmission.count {
      let qid = liveSubmission[place]
      let queue = submissionQueues[Int(qid.rawValue)]
      for value in [qid.rawValue, queue.cqid.rawValue] { state.put(value) }
      state.put(queue.base)
      for value in [queue.size, queue.head, queue.tail, queue.doorbell] { state.put(value) }
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
      encode(commands[Int(index)], &state)
      index = commands[Int(index)].next
    }
  }

  private func encode(_ command: Command, _ state: inout StateWriter) {
    let sqe = command.sqe
    for value in [sqe.cdw0, sqe.nsid, sqe.cdw2, sqe.cdw3] { state.put(value) }
    for value in [sqe.mptr, sqe.prp1, sqe.prp2] { state.put(value) }
    for value in [sqe.cdw10, sqe.cdw11, sqe.cdw12, sqe.cdw13, sqe.cdw14, sqe.cdw15] { state.put(value) }
    state.put(command.qid.rawValue)
    state.put(command.status.rawValue)
    state.put(command.dw0)
  }

  private mutating func decodeQueues(_ state: inout StateReader) throws(CheckpointError) {
    for _ in 0..<(try state.getCount(queuesMax)) { try decodeCompletionQueue(&state) }
    for _ in 0..<(try state.getCount(queuesMax)) { try decodeSubmissionQueue(&state) }
    for place in 0..<liveCompletion.count {
      for _ in 0..<(try state.getCount(Controller.commandsMax)) {
        let index = try decodeCommand(&state)
        append(index, to: completionQueues + Int(liveCompletion[place].rawValue))
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
    queue.vector = try state.get()
    guard !completionQueues[Int(qid.rawValue)].exists, (2...65536).contains(queue.size), queue.head < queue.size,
      queue.tail < queue.size, queue.vector < target.subsystem.vectors
    else { throw .invalid }
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
    submissionQueues[Int(qid.rawValue)] = queue
    completionQueues[Int(cqid.rawValue)].users += 1
    liveSubmission.insert(qid)
  }

  private func decodeQueueID(_ state: inout StateReader) throws(CheckpointError) -> QueueID {
    let qid = QueueID(try state.get(UInt16.self))
    guard Int(qid.rawValue) < queuesMax else { throw .invalid }
    return qid
  }

  private mutating func decodeCommand(_ state: inout StateReader) throws(CheckpointError) -> Int32 {
    guard freeCount > 0 else { throw .invalid }
    var command = Command()
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
    command.dw0 = try state.get()
    let index = takeCommand()
    commands[Int(index)] = command
    return index
  }
}

extension Subsystem {
  fileprivate init(_ state: inout StateReader) throws(CheckpointError) {
    self.init()
    nqn = try state.getText()
    serial = try state.getText()
    model = try state.getText()
    firmwareRevision = try state.getText()
    vendorID = try state.get()
    ioQueuesMax = try state.get()
    vectors = try state.get()
    queueEntriesMax = try state.get()
    maxTransferBytes = try state.get()
    for _ in 0..<(try state.getCount(Int(Subsystem.namespacesMax))) {
      let (nsid, blocks, blockShift) = (
        try state.get(UInt32.self), try state.get(UInt64.self), try state.get(UInt8.self)
      )
      guard (1...Subsystem.namespacesMax).contains(nsid), (1...UInt64.max >> 16).contains(blocks),
        (9...16).contains(blockShift)
      else { throw .invalid }
      namespaces.append(Namespace(nsid: nsid, blocks: blocks, blockShift: blockShift))
    }
    guard isValid else { throw .invalid }
  }
}

extension Features {
  fileprivate init(_ state: inout StateReader, vectors: UInt16) throws(CheckpointError) {
    self.init(vectors: vectors)
    arbitration = try state.get()
    powerManagement = try state.get()
    temperatureThreshold = try state.get()
    volatileWriteCache = try state.get()
    numberOfQueues = try state.get()
    interruptCoalescing = try state.get()
    writeAtomicity = try state.get()
    asynchronousEventConfiguration = try state.get()
    keepAliveTimer = try state.get()
    for vector in vectorConfiguration.indices { vectorConfiguration[vector] = try state.get() }
  }
}

extension AsynchronousEvents {
  fileprivate init(_ state: inout StateReader) throws(CheckpointError) {
    let masked = try state.get(UInt8.self)
    var pending: [AsynchronousEvent] = []
    for _ in 0..<(try state.getCount(AsynchronousEvents.pendingMax)) {
      pending.append(.init(type: try state.get() & 7, information: try state.get(), logPage: try state.get()))
    }
    self.init(pending: pending, masked: masked)
  }
}

extension ErrorLog {
  fileprivate init(_ state: inout StateReader) throws(CheckpointError) {
    let count = try state.get(UInt64.self)
    var entries: [Entry] = []
    for _ in 0..<(try state.getCount(ErrorLog.entriesMax)) {
      entries.append(
        Entry(
          count: try state.get(), qid: QueueID(try state.get(UInt16.self)), cid: CommandID(try state.get(UInt16.self)),
          status: Status(rawValue: try state.get()), lba: try state.get(), nsid: try state.get()))
    }
    self.init(count: count, entries: entries)
  }
}
