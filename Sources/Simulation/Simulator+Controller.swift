import Endpoint
import NVMe
import Recording
import Target

/// Bringing the controller up and down, and what disturbs it.
extension Simulator where R: ~Copyable {
  private mutating func write(_ offset: UInt64, _ value: UInt64, width: Int = 4) {
    controller.writeRegister(offset: offset, width: width, value: value, &port)
  }

  /// Enable the controller, which is new or has been reset, and create the queues.
  mutating func start() {
    checkInvariants()
    life &+= 1
    admin = SimulatedQueue(qid: 0, submissionEntries: 32, completionEntries: 32, vector: nil)
    queues = []
    events = []
    for number in 0..<(World.queuesMax * Simulator.places) {
      if commands[number].isUnderWay { forget(number) }
    }
    port.inner.forgetCommands()
    world.dropInterrupts()
    world.add(admin)
    write(Register.aqa, 31 | 31 << 16)
    write(Register.asq, World.address, width: 8)
    write(Register.acq, World.address + 0x8000, width: 8)
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue))
    while !controller.csts.ready, world.isIntact {
      // What a reset has dropped has to settle first.
      if !pass(), !waitForEngine() { return world.fail("the controller does not get ready") }
    }
    for number in 1...scenario.ioQueues where world.isIntact {
      guard createPair(number) else { return giveUp() }
    }
    let keepAliveMs = scenario.keepAliveMs
    if keepAliveMs > 0 {
      admin(.setFeatures) { ($0.cdw10, $0.cdw11) = (UInt32(FeatureID.keepAliveTimer.rawValue), keepAliveMs) }
    }
    submitEventRequest()
  }

  /// What is under way is forgotten: of its blocks nothing is known.
  private mutating func forget(_ number: Int) {
    let command = commands[number]
    commands[number].isUnderWay = false
    guard command.nsid == 1, command.opcode == .write || command.opcode == .writeZeroes else { return }
    for block in command.block..<(command.block + command.blocks) {
      model[command.home * Simulator.blocksMax + block] = Simulator.unknown
    }
  }

  /// The controller failed while it was brought up: once more.
  private mutating func giveUp() {
    guard world.isIntact else { return }
    guard controller.csts.fatal else { return world.fail("an admin command fails without a reason") }
    recover()
  }

  /// The controller has failed, which only a queue that it cannot reach allows.
  mutating func recover() {
    guard port.inner.hasLostQueue else { return world.fail("the controller fails without a reason") }
    resetController()
  }

  private mutating func createPair(_ qid: UInt16) -> Bool {
    let place = Int(qid) - 1
    let queue = SimulatedQueue(
      qid: qid, submissionEntries: scenario.submissionEntries[place],
      completionEntries: scenario.completionEntries[place], vector: scenario.usesInterrupts[place] ? qid : nil)
    world.add(queue)
    let isCreated = admin(.createIOCompletionQueue) {
      $0.prp1 = World.address + UInt64(queue.completionOffset)
      $0.cdw10 = UInt32(qid) | (queue.completionEntries - 1) << 16
      $0.cdw11 = 1 | (queue.vector.map { 2 | UInt32($0) << 16 } ?? 0)
    }
    guard isCreated else { return false }
    guard
      admin(
        .createIOSubmissionQueue,
        {
          $0.prp1 = World.address + UInt64(queue.submissionOffset)
          $0.cdw10 = UInt32(qid) | (queue.submissionEntries - 1) << 16
          $0.cdw11 = 1 | UInt32(qid) << 16
        })
    else { return false }
    queues.append(queue)
    return true
  }

  // MARK: Admin commands

  private static var eventRequest: CommandID { CommandID(0x7fff) }

  private mutating func submitEventRequest() {
    admin.put(
      SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: Simulator.eventRequest), world)
    admin.ring(world)
  }

  /// One admin command from submission to completion, the I/O queues left alone.
  /// - Returns: whether it succeeded.
  @discardableResult
  private mutating func admin(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void = { _ in }) -> Bool {
    complete(opcode, edit)?.status.isSuccess ?? false
  }

  /// - Returns: its completion; nil where none comes.
  private mutating func complete(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void) -> CompletionEntry? {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(1))
    edit(&sqe)
    admin.put(sqe, world)
    admin.ring(world)
    return awaitAdmin(sqe.cid)
  }

  /// - Returns: nil where the controller has failed, or the completion never comes.
  private mutating func awaitAdmin(_ cid: CommandID) -> CompletionEntry? {
    while world.isIntact, !controller.csts.fatal {
      while let cqe = admin.consume(world) {
        admin.free(world)
        idlePasses = 0
        if cqe.cid == cid { return cqe }
        if cqe.cid == Simulator.eventRequest {
          events.append(cqe)
        } else {
          world.fail("an admin completion without its command")
        }
      }
      if !pass(), !waitForEngine() { world.fail("admin command \(cid.rawValue) never completes") }
    }
    return nil
  }

  // MARK: Disturbances

  mutating func disturb() {
    switch random.next() % 10 {
    case 0: resetController()
    case 1: resetFromOutside(.device)
    case 2: resetFromOutside(.linkDown)
    case 3: shutDown()
    case 4, 5: toggleNamespace()
    case 6: ringWithoutSense()
    case 7: recreateQueue()
    case 8: testKeepAlive()
    default: moveHole()
    }
  }

  mutating func resetController() {
    resets += 1
    write(Register.cc, 0)
    start()
  }

  private mutating func resetFromOutside(_ reason: ResetReason) {
    resets += 1
    controller.reset(reason, &port)
    start()
  }

  /// What was acknowledged is on the medium when the controller says that it is shut down.
  private mutating func shutDown() {
    resets += 1
    port.inner.hasFlushedAll = false
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue | 1 << 14))
    while controller.csts.shutdown != 2, !controller.csts.fatal, world.isIntact {
      if !pass(), !waitForEngine() { world.fail("the controller does not shut down") }
    }
    if !port.inner.hasFlushedAll { world.fail("the controller says that it is shut down before everything is flushed") }
    write(Register.cc, 0)
    start()
  }

  /// A host that shows no sign of life for longer than it may has lost its controller; one that sends nothing but Keep
  /// Alive has not (Base 2.1, 3.9).
  private mutating func testKeepAlive() {
    guard scenario.keepAliveMs > 0, !controller.csts.fatal else { return }
    let isSilent = random.next() % 2 == 0
    for _ in 0..<6 where world.isIntact && !controller.csts.fatal {
      rest(untilNs: world.time.ns + UInt64(scenario.keepAliveMs) * 500_000)
      if !isSilent { admin(.keepAlive) }
    }
    guard isSilent else { return }
    if !controller.csts.fatal { world.fail("a host that is silent for three Keep Alive Timeouts is not given up") }
    resetController()
  }

  /// The host does nothing meanwhile.
  private mutating func rest(untilNs end: UInt64) {
    while world.isIntact {
      if pass() { continue }
      let next = min(port.inner.nextNs ?? .max, port.inner.keepAliveNs ?? .max)
      guard next <= end else { break }
      world.time.advance(to: next)
    }
    world.time.advance(to: end)
  }

  /// Ask for the end of some command that is under way.
  mutating func abortOne() {
    guard !queues.isEmpty, !controller.csts.fatal else { return }
    let qid = queues[Int(random.next() % UInt64(queues.count))].qid
    let number = first(qid) + Int(random.next() % UInt64(Simulator.places))
    guard commands[number].isUnderWay, commands[number].abort == .notAsked else { return }
    commands[number].abort = .unanswered
    let cdw10 = UInt32(qid) | UInt32(identifier(number).rawValue) << 16
    if let answer = complete(.abort, { $0.cdw10 = cdw10 }) {
      commands[number].abort = answer.dw0 & 1 == 0 ? .done : .refused
    }
    let partner = commands[number].partner
    guard commands[number].fuse != 0, commands[number].abort != .refused, commands[partner].fuse != 0,
      commands[partner].partner == number
    else { return }
    commands[partner].isLeftAlone = true
  }

  private mutating func toggleNamespace() {
    namespaceEpoch += 1
    if hasSecondNamespace {
      controller.detach(2, &port)
    } else {
      controller.attach(Namespace(nsid: 2, blocks: SimulatedPort.blocks, blockShift: 9), &port)
    }
    hasSecondNamespace.toggle()
    // A command that is submitted from here on finds it as it is now.
    namespaceEpoch += 1
  }

  /// A value that a queue cannot take is reported, and changes nothing (Base 2.1, 5.1.2.1).
  private mutating func ringWithoutSense() {
    guard !queues.isEmpty, !controller.csts.fatal else { return }
    let index = Int(random.next() % UInt64(queues.count))
    let queue = queues[index]
    while pass() {}
    settleEvents()
    guard !controller.csts.fatal else { return }
    let isHead = random.next() % 2 == 0
    let facts = world.queues[Int(queue.qid)]
    if isHead {
      // All entries at once, which is more than there can be before the engine looks.
      let before = UInt32(facts.freed % UInt64(queue.completionEntries))
      guard facts.posted - facts.freed + UInt64(queue.outstanding) + 1 < UInt64(queue.completionEntries) else { return }
      world.doorbells[Doorbell.completionHead(QueueID(queue.qid)).index] =
        before == 0 ? queue.completionEntries - 1 : before - 1
    } else {
      world.doorbells[Doorbell.submissionTail(QueueID(queue.qid)).index] = queue.submissionEntries
    }
    let isReported = awaitEvent(.invalidDoorbellWriteValue)
    if isHead {
      world.doorbells[Doorbell.completionHead(QueueID(queue.qid)).index] =
        UInt32(world.queues[Int(queue.qid)].freed % UInt64(queue.completionEntries))
    } else {
      queues[index].ring(world)
    }
    if !isReported, !controller.csts.fatal { world.fail("a doorbell without sense is not reported") }
  }

  /// Wait until this event comes; others may come before it.
  private mutating func awaitEvent(_ event: AsynchronousEvent) -> Bool {
    while let cqe = awaitAdmin(Simulator.eventRequest) {
      events.append(cqe)
      settleEvents()
      if cqe.dw0 == event.dw0 { return true }
    }
    return false
  }

  /// Read the log pages that events point to, so that the next can come, and ask for it.
  private mutating func settleEvents() {
    while let cqe = events.popLast(), !controller.csts.fatal {
      _ = admin(.getLogPage) {
        $0.prp1 = World.address + 0x4000
        $0.cdw10 = cqe.dw0 >> 16 & 0xff | 15 << 16
      }
      submitEventRequest()
    }
  }

  /// A queue pair goes, with what is in it complete, and another of its identifier comes.
  private mutating func recreateQueue() {
    guard !queues.isEmpty, !controller.csts.fatal else { return }
    let index = Int(random.next() % UInt64(queues.count))
    let qid = queues[index].qid
    guard drain(index) else { return }
    guard admin(.deleteIOSubmissionQueue, { $0.cdw10 = UInt32(qid) }),
      admin(.deleteIOCompletionQueue, { $0.cdw10 = UInt32(qid) })
    else { return }
    queues.remove(at: index)
    _ = createPair(qid)
  }

  /// Wait for everything of a queue.
  private mutating func drain(_ index: Int) -> Bool {
    while queues[index].outstanding > 0, world.isIntact, !controller.csts.fatal {
      if !reap(index), !pass(), !waitForEngine() { return false }
    }
    return queues[index].outstanding == 0
  }

  /// A part of the data pages is not to be reached for a while.
  private mutating func moveHole() {
    if world.hole != nil {
      world.hole = nil
      return
    }
    let begin = World.address + 0x100000 + random.next() % (3 << 20) & ~4095
    world.hole = begin..<(begin + 4096 * (1 + random.next() % 16))
  }
}
