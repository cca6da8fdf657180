import Endpoint
import Events
import NVMe
import Recording
import Target

/// Enabling and resetting the controller, admin commands and disturbances.
extension Simulator where R: ~Copyable {
  mutating func write(_ offset: UInt64, _ value: UInt64, width: Int = 4) {
    controller.writeRegister(offset: offset, width: width, value: value, &port)
  }

  /// Enable a new or reset controller and create the queues.
  mutating func start() {
    checkInvariants()
    life &+= 1
    admin = SimulatedQueue(qid: 0, submissionEntries: 32, completionEntries: 32, vector: nil)
    queues = []
    events = []
    for number in 0..<(World.queuesMax * Simulator.places) {
      if commands[number].isInFlight { forget(number) }
    }
    port.inner.forgetCommands()
    world.dropInterrupts()
    world.add(admin)
    write(Register.aqa, 31 | 31 << 16)
    write(Register.asq, World.address, width: 8)
    write(Register.acq, World.address + 0x8000, width: 8)
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue))
    while !controller.csts.ready, world.isIntact {
      // Requests abandoned by a reset must settle first.
      if !pass(), !waitForEngine() { return world.fail("the controller does not become ready") }
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

  /// Forget a command in flight; the content of its blocks is unknown.
  private mutating func forget(_ number: Int) {
    let command = commands[number]
    commands[number].isInFlight = false
    guard command.nsid == 1, command.opcode == .write || command.opcode == .writeZeroes else { return }
    for block in command.block..<(command.block + command.blocks) {
      model[command.home * Simulator.blocksMax + block] = Simulator.unknown
    }
  }

  /// An admin command failed while the queues were created: start again if the controller has failed.
  private mutating func giveUp() {
    guard world.isIntact else { return }
    guard controller.csts.fatal else { return world.fail("an admin command fails without a reason") }
    recover()
  }

  /// The controller has failed. Only an inaccessible queue may cause that.
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
      SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: Simulator.eventRequest), world, &host)
    admin.ring(world, &host)
  }

  /// Submit an admin command and wait for its completion; the host does not touch the I/O queues.
  /// - Returns: whether it succeeded.
  @discardableResult
  private mutating func admin(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void = { _ in }) -> Bool {
    complete(opcode, edit)?.status.isSuccess ?? false
  }

  /// - Returns: its completion; nil if there is none.
  private mutating func complete(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void) -> CompletionEntry? {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(1))
    edit(&sqe)
    admin.put(sqe, world, &host)
    admin.ring(world, &host)
    return awaitAdmin(sqe.cid)
  }

  /// - Returns: nil if the controller has failed or the command never completes.
  private mutating func awaitAdmin(_ cid: CommandID) -> CompletionEntry? {
    while world.isIntact, !controller.csts.fatal {
      while let cqe = admin.consume(world, &host) {
        admin.release(world, &host)
        idlePasses = 0
        if cqe.cid == cid { return cqe }
        if cqe.cid == Simulator.eventRequest {
          events.append(cqe)
        } else {
          world.fail("admin completion of a command that is not in flight")
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
    case 6: ringInvalidValue()
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

  /// Completed writes are on the medium when the controller reports that its shutdown is complete. A controller that has
  /// failed may never report that.
  mutating func shutDown() {
    resets += 1
    port.inner.hasFlushedAll = false
    write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue | 1 << 14))
    while controller.csts.shutdown != 2, !controller.csts.fatal, world.isIntact {
      if !pass(), !waitForEngine() { world.fail("the controller does not shut down") }
    }
    if controller.csts.shutdown == 2, !port.inner.hasFlushedAll {
      world.fail("the shutdown is complete before everything is flushed")
    }
    write(Register.cc, 0)
    start()
  }

  /// The controller fails if the host is silent for longer than the timeout; Keep Alive commands alone prevent that
  /// (Base 2.1, 3.9).
  private mutating func testKeepAlive() {
    guard scenario.keepAliveMs > 0, !controller.csts.fatal else { return }
    let isSilent = random.next() % 2 == 0
    for _ in 0..<6 where world.isIntact && !controller.csts.fatal {
      rest(untilNs: world.time.ns + UInt64(scenario.keepAliveMs) * 500_000)
      if !isSilent { admin(.keepAlive) }
    }
    guard isSilent else { return }
    if !controller.csts.fatal {
      world.fail("the controller does not fail after three Keep Alive Timeouts without a command")
    }
    resetController()
  }

  /// Advance time to `end` while the host does nothing.
  private mutating func rest(untilNs end: UInt64) {
    while world.isIntact {
      if pass() { continue }
      let next = min(port.inner.nextNs ?? .max, port.inner.keepAliveNs ?? .max)
      guard next <= end else { break }
      world.time.advance(to: next)
    }
    world.time.advance(to: end)
  }

  /// Abort a random command in flight.
  mutating func abortOne() {
    guard !queues.isEmpty, !controller.csts.fatal else { return }
    let qid = queues[Int(random.next() % UInt64(queues.count))].qid
    let number = first(qid) + Int(random.next() % UInt64(Simulator.places))
    guard commands[number].isInFlight, commands[number].abort == .notRequested else { return }
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
    // Commands submitted from now on see the new set.
    namespaceEpoch += 1
  }

  /// The controller reports an invalid doorbell value and ignores it (Base 2.1, 5.1.2.1).
  private mutating func ringInvalidValue() {
    guard !queues.isEmpty, !controller.csts.fatal else { return }
    let index = Int(random.next() % UInt64(queues.count))
    let queue = queues[index]
    while pass() {}
    settleEvents()
    guard !controller.csts.fatal else { return }
    let isHead = random.next() % 2 == 0
    let facts = world.queues[Int(queue.qid)]
    if isHead {
      // Release all entries, more than can be posted before the next poll.
      let before = UInt32(facts.freed % UInt64(queue.completionEntries))
      guard facts.posted - facts.freed + UInt64(queue.outstanding) + 1 < UInt64(queue.completionEntries) else { return }
      ring(.completionHead(QueueID(queue.qid)), before == 0 ? queue.completionEntries - 1 : before - 1)
    } else {
      ring(.submissionTail(QueueID(queue.qid)), queue.submissionEntries)
    }
    let isReported = awaitEvent(.invalidDoorbellWriteValue)
    if isHead {
      ring(
        .completionHead(QueueID(queue.qid)),
        UInt32(world.queues[Int(queue.qid)].freed % UInt64(queue.completionEntries)))
    } else {
      queues[index].ring(world, &host)
    }
    if !isReported, !controller.csts.fatal { world.fail("an invalid doorbell value is not reported") }
  }

  /// Write any value to a doorbell.
  private mutating func ring(_ doorbell: Doorbell, _ value: UInt32) {
    host.note(
      Event.Doorbell(
        flags: doorbell.isCompletionHead ? .completionHead : [], qid: doorbell.qid.rawValue, value: value))
    world.doorbells[doorbell.index] = value
  }

  /// Wait for this event; others may precede it.
  private mutating func awaitEvent(_ event: AsynchronousEvent) -> Bool {
    while let cqe = awaitAdmin(Simulator.eventRequest) {
      events.append(cqe)
      settleEvents()
      if cqe.dw0 == event.dw0 { return true }
    }
    return false
  }

  /// Read the log pages of the events, and submit an event request for each.
  private mutating func settleEvents() {
    while let cqe = events.popLast(), !controller.csts.fatal {
      _ = admin(.getLogPage) {
        $0.prp1 = World.address + 0x4000
        $0.cdw10 = cqe.dw0 >> 16 & 0xff | 15 << 16
      }
      submitEventRequest()
    }
  }

  /// Complete all commands of a queue pair, delete it, and create another with the same identifier.
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

  /// Complete all commands of a queue.
  private mutating func drain(_ index: Int) -> Bool {
    while queues[index].outstanding > 0, world.isIntact, !controller.csts.fatal {
      if !reap(index), !pass(), !waitForEngine() { return false }
    }
    return queues[index].outstanding == 0
  }

  /// Make a part of the data pages inaccessible, or accessible again.
  private mutating func moveHole() {
    if world.hole != nil {
      world.hole = nil
      return
    }
    let begin = World.address + 0x100000 + random.next() % (3 << 20) & ~4095
    world.hole = begin..<(begin + 4096 * (1 + random.next() % 16))
  }
}
