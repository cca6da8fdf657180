import Endpoint
import NVMe
import Recording
import Target
import Text

/// The host: it submits, hears of completions, and checks each of them.
extension Simulator where R: ~Copyable {
  /// What the host does now.
  /// - Returns: whether there was anything.
  mutating func act() -> Bool {
    var acted = false
    let now = world.time.ns
    // The admin queue is looked at.
    world.interrupts.removeAll { $0.vector == 0 }
    for index in queues.indices {
      if mayReap(queues[index], now), reap(index) { acted = true }
      if queues[index].nextSubmitNs <= now, submit(index) { acted = true }
    }
    if untilDisturbance == 0 {
      scheduleDisturbance()
      disturb()
      acted = true
    }
    if controller.csts.fatal { resetController() }
    return acted
  }

  private mutating func mayReap(_ queue: SimulatedQueue, _ now: UInt64) -> Bool {
    guard let vector = queue.vector else { return queue.nextReapNs <= now }
    var came = false
    world.interrupts.removeAll {
      guard $0.vector == vector, $0.dueNs <= now else { return false }
      came = true
      return true
    }
    return came
  }

  /// When the host does something for this queue by itself; `.max` for never.
  func nextNs(_ queue: SimulatedQueue) -> UInt64 {
    var next = UInt64.max
    if freePlace(queue) != nil { next = queue.nextSubmitNs }
    if queue.vector == nil, queue.hasCompletion(world) { next = min(next, queue.nextReapNs) }
    return next
  }

  // MARK: Submission

  func first(_ qid: UInt16) -> Int { Int(qid) * Simulator.places }

  private func freePlace(_ queue: SimulatedQueue) -> Int? {
    guard queue.outstanding < UInt32(scenario.depth), queue.outstanding + 1 < queue.submissionEntries else {
      return nil
    }
    let first = first(queue.qid)
    return (0..<Simulator.places).first { !commands[first + $0].isUnderWay }
  }

  /// Submit as many as there is room for, with one doorbell or one each.
  private mutating func submit(_ index: Int) -> Bool {
    let ringsEach = random.next() % 2 == 0
    var count = 0
    while let place = freePlace(queues[index]) {
      let sqe = make(queues[index].qid, place)
      queues[index].put(sqe, world)
      queues[index].outstanding += 1
      if ringsEach { queues[index].ring(world) }
      count += 1
      if untilDisturbance != .max, untilDisturbance > 0 { untilDisturbance -= 1 }
      if random.next() % 4 == 0 { break }
    }
    guard count > 0 else { return false }
    queues[index].ring(world)
    queues[index].nextSubmitNs = world.time.ns + (scenario.thinkNs == 0 ? 0 : random.next() % scenario.thinkNs)
    return true
  }

  /// A command of this place: its blocks and its pages are its own.
  private mutating func make(_ qid: UInt16, _ place: Int) -> SubmissionEntry {
    let number = first(qid) + place
    let opcodes: [IOOpcode] = [.read, .read, .read, .write, .write, .write, .compare, .writeZeroes, .flush]
    var command = SimulatedCommand(opcode: opcodes[Int(random.next() % UInt64(opcodes.count))])
    command.isUnderWay = true
    command.namespaceEpoch = namespaceEpoch
    command.blocks = 1 + Int(random.next() % 8 == 0 ? random.next() % UInt64(Simulator.blocksMax) : 0)
    command.block = Int(random.next() % UInt64(Simulator.blocksMax - command.blocks + 1))
    if scenario.faults?.disturbance ?? 0 > 0, random.next() % 8 == 0 {
      (command.nsid, command.opcode, command.hadNamespace) = (2, .read, hasSecondNamespace)
    }
    var sqe = SubmissionEntry(
      opcode: command.opcode.rawValue, cid: CommandID(UInt16(place) | life << 8), nsid: command.nsid)
    if command.opcode != .flush {
      sqe.slba = UInt64(number * Simulator.blocksMax + command.block)
      sqe.cdw12 = UInt32(command.blocks - 1)
    }
    point(&sqe, &command, number)
    fill(&command, number)
    commands[number] = command
    return sqe
  }

  /// The place's own five pages: a list, and four for data that may begin in the middle of the first.
  private mutating func point(_ sqe: inout SubmissionEntry, _ command: inout SimulatedCommand, _ number: Int) {
    let list = 0x100000 + number * 5 * 4096
    let offset = random.next() % 4 == 0 ? Int(random.next() % 512) * 8 : 0
    command.dataOffset = list + 4096 + offset
    let bytes = command.blocks << Int(SimulatedPort.blockShift)
    sqe.prp1 = World.address + UInt64(command.dataOffset)
    let pages = (offset + bytes + 4095) / 4096
    let page = { (index: Int) in World.address + UInt64(list + 4096 * (1 + index)) }
    if pages == 2 { sqe.prp2 = page(1) }
    guard pages > 2 else { return }
    sqe.prp2 = World.address + UInt64(list)
    for index in 1..<pages {
      (world.memory + list + (index - 1) * 8).storeBytes(of: page(index), as: UInt64.self)
    }
  }

  private func words(_ command: SimulatedCommand) -> UnsafeMutablePointer<UInt64> {
    (world.memory + command.dataOffset).assumingMemoryBound(to: UInt64.self)
  }

  private static var wordsPerBlock: Int { 1 << Int(SimulatedPort.blockShift) / 8 }

  /// What the command brings, and what is known of its blocks from now on.
  private mutating func fill(_ command: inout SimulatedCommand, _ number: Int) {
    let words = words(command)
    let blocks = model + number * Simulator.blocksMax + command.block
    switch command.opcode {
    case .write where command.nsid == 1:
      for block in 0..<command.blocks {
        (words + block * 64).update(repeating: nextTag &+ UInt64(block), count: 64)
        blocks[block] = Simulator.unknown
      }
      nextTag &+= UInt64(command.blocks)
    case .compare where command.nsid == 1:
      for block in 0..<command.blocks { (words + block * 64).update(repeating: blocks[block], count: 64) }
      command.isChanged = random.next() % 4 == 0
      if command.isChanged { words[Int(random.next() % UInt64(command.blocks * 64))] ^= 1 << 63 | 1 }
    case .writeZeroes where command.nsid == 1:
      for block in 0..<command.blocks { blocks[block] = Simulator.unknown }
    case .read:
      // Other bytes than the read brings, so a read that moves nothing is noticed.
      for block in 0..<command.blocks { (words + block * 64).update(repeating: ~0 ^ nextTag, count: 64) }
    default: break
    }
  }

  // MARK: Completion

  /// Take every completion that is there.
  mutating func reap(_ index: Int) -> Bool {
    var count = 0
    while let cqe = queues[index].take(world) {
      check(cqe, index)
      queues[index].outstanding -= min(1, queues[index].outstanding)
      noteCompleted()
      count += 1
      // A host may give the entries back one by one, or after all of them.
      if count % 4 == 0 { queues[index].free(world) }
      if world.violation != nil { return true }
    }
    queues[index].nextReapNs = world.time.ns + (scenario.reapNs == 0 ? 0 : random.next() % scenario.reapNs)
    guard count > 0 else { return false }
    queues[index].free(world)
    world.queues[Int(queues[index].qid)].interruptsLost = 0
    return true
  }

  private mutating func check(_ cqe: CompletionEntry, _ index: Int) {
    let qid = queues[index].qid
    let place = Int(cqe.cid.rawValue & 0xff)
    let number = first(qid) + place
    let what = { "queue \(qid), command \(cqe.cid.rawValue)" }
    guard cqe.sqid.rawValue == qid, place < Simulator.places, commands[number].isUnderWay,
      cqe.cid.rawValue >> 8 == life & 0xff
    else { return world.fail("\(what()) is completed, which is not under way") }
    commands[number].isUnderWay = false
    let command = commands[number]
    let injected = port.inner.expected.removeValue(forKey: SimulatedPort.name(cqe.sqid, cqe.cid))
    if let injected {
      if cqe.status.code != injected.code {
        world.fail(
          "\(what()) has status \(cqe.status.code.hex), its backend or the host's memory gave \(injected.code.hex)"
        )
      }
      return
    }
    guard command.nsid == 1 else { return checkSecondNamespace(command, cqe, what()) }
    let isWanted = command.opcode == .compare && command.isChanged
    if isWanted, cqe.status.code == Status.compareFailure.code { return }
    guard cqe.status.isSuccess, !isWanted || holdsUnknown(command, number) else {
      if command.opcode == .compare, holdsUnknown(command, number) { return }
      return world.fail("\(what()), \(command.opcode.name), has status \(cqe.status.code.hex)")
    }
    checkData(command, number, what())
  }

  private func holdsUnknown(_ command: SimulatedCommand, _ number: Int) -> Bool {
    let blocks = model + number * Simulator.blocksMax + command.block
    return (0..<command.blocks).contains { blocks[$0] == Simulator.unknown }
  }

  /// A namespace that came or went while the command was under way leaves either open.
  private func checkSecondNamespace(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: String) {
    guard command.namespaceEpoch == namespaceEpoch, cqe.status.isSuccess != command.hadNamespace else { return }
    world.fail(
      "\(what) has status \(cqe.status.code.hex), and its namespace \(command.hadNamespace ? "is there" : "is not there")"
    )
  }

  private func checkData(_ command: SimulatedCommand, _ number: Int, _ what: String) {
    let words = words(command)
    let blocks = model + number * Simulator.blocksMax + command.block
    switch command.opcode {
    case .write: for block in 0..<command.blocks { blocks[block] = words[block * 64] }
    case .writeZeroes: for block in 0..<command.blocks { blocks[block] = 0 }
    case .read:
      for block in 0..<command.blocks {
        // One that is not known is what is read; all its words are the same, whichever write it was.
        let tag = blocks[block] == Simulator.unknown ? words[block * 64] : blocks[block]
        for word in 0..<64 where words[block * 64 + word] != tag {
          return world.fail(
            "\(what) reads \(words[block * 64 + word]) in word \(word) of block \(command.block + block), and not \(tag)"
          )
        }
        blocks[block] = tag
      }
    default: break
    }
  }

  // MARK: At rest

  /// Nothing happens by itself any more: what the host still waits for is lost, and something must have lost it.
  mutating func atRest() {
    for index in queues.indices where queues[index].hasCompletion(world) {
      let queue = queues[index]
      if queue.vector != nil, world.queues[Int(queue.qid)].interruptsLost == 0 {
        world.fail("completions of queue \(queue.qid) were never announced")
      }
      if reap(index) { return }
    }
    guard queues.contains(where: { $0.outstanding > 0 }) || queues.isEmpty else {
      return world.fail("the host has nothing to do")
    }
    guard port.inner.lostRequests > 0 else {
      let waiting = queues.filter { $0.outstanding > 0 }.map { "\($0.outstanding) of queue \($0.qid)" }
      return world.fail("commands never complete: \(waiting.joined(separator: ", "))")
    }
    resetController()
  }
}
