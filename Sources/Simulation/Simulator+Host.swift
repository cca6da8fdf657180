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
    for index in queues.indices {
      if mayReap(queues[index], now), reap(index) { acted = true }
      if queues[index].nextSubmitNs <= now, submit(index) { acted = true }
    }
    if untilDisturbance == 0 {
      scheduleDisturbance()
      disturb()
      acted = true
    }
    if scenario.aborts, random.next() % 64 == 0 { abortOne() }
    if controller.csts.fatal { recover() }
    return acted
  }

  private mutating func mayReap(_ queue: SimulatedQueue, _ now: UInt64) -> Bool {
    guard let vector = queue.vector else { return queue.nextReapNs <= now }
    return world.interrupts[Int(vector)].take(now)
  }

  /// When the host does something for this queue by itself; `.max` for never.
  func nextNs(_ queue: SimulatedQueue) -> UInt64 {
    var next = UInt64.max
    if freePlace(queue) != nil { next = queue.nextSubmitNs }
    if let vector = queue.vector { return min(next, world.interrupts[Int(vector)].firstNs) }
    return queue.hasCompletion(world) ? min(next, queue.nextReapNs) : next
  }

  // MARK: Submission

  func first(_ qid: UInt16) -> Int { Int(qid) * Simulator.places }

  /// A place for a command, where there is room for so many.
  private func freePlace(_ queue: SimulatedQueue, after place: Int = -1, room: UInt32 = 1) -> Int? {
    guard queue.outstanding + room <= UInt32(scenario.depth), queue.outstanding + room < queue.submissionEntries else {
      return nil
    }
    let first = first(queue.qid)
    return (place + 1..<Simulator.places).first { !commands[first + $0].isUnderWay }
  }

  /// Submit as many as there is room for, with one doorbell or one each.
  private mutating func submit(_ index: Int) -> Bool {
    let ringsEach = random.next() % 2 == 0
    var count = 0
    while let place = freePlace(queues[index]) {
      if scenario.fuses, random.next() % 8 == 0, let second = freePlace(queues[index], after: place, room: 2) {
        // One doorbell write announces both (Base 2.1, 3.4.2).
        for sqe in makePair(first(queues[index].qid) + place, first(queues[index].qid) + second) { put(sqe, index) }
      } else {
        put(make(first(queues[index].qid) + place), index)
      }
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

  private mutating func put(_ sqe: SubmissionEntry, _ index: Int) {
    queues[index].put(sqe, world)
    queues[index].outstanding += 1
  }

  /// A command of this place: its blocks and its pages are its own.
  private mutating func make(_ number: Int) -> SubmissionEntry {
    let opcode: IOOpcode =
      switch random.next() % 9 {
      case 0...2: .read
      case 3...5: .write
      case 6: .compare
      case 7: .writeZeroes
      default: .flush
      }
    var command = SimulatedCommand(opcode: opcode, home: number)
    drawBlocks(&command)
    if scenario.faults?.disturbance ?? 0 > 0, random.next() % 8 == 0 {
      (command.nsid, command.opcode, command.hadNamespace) = (2, .read, hasSecondNamespace)
    }
    return entry(&command, number)
  }

  private mutating func drawBlocks(_ command: inout SimulatedCommand) {
    command.blocks = 1 + Int(random.next() % 8 == 0 ? random.next() % UInt64(Simulator.blocksMax) : 0)
    command.block = Int(random.next() % UInt64(Simulator.blocksMax - command.blocks + 1))
  }

  /// A fused Compare and Write of the blocks of the Write's place.
  private mutating func makePair(_ compare: Int, _ write: Int) -> [SubmissionEntry] {
    var first = SimulatedCommand(opcode: .compare, home: write, fuse: 1, partner: write)
    drawBlocks(&first)
    var second = first
    (second.opcode, second.fuse, second.partner) = (.write, 2, compare)
    return [entry(&first, compare), entry(&second, write)]
  }

  func identifier(_ number: Int) -> CommandID { CommandID(UInt16(number % Simulator.places) | life << 8) }

  /// The command is under way from here on.
  private mutating func entry(_ command: inout SimulatedCommand, _ number: Int) -> SubmissionEntry {
    command.isUnderWay = true
    command.namespaceEpoch = namespaceEpoch
    var sqe = SubmissionEntry(opcode: command.opcode.rawValue, cid: identifier(number), nsid: command.nsid)
    sqe.cdw0 |= command.fuse << 8
    if command.opcode != .flush {
      sqe.slba = UInt64(command.home * Simulator.blocksMax + command.block)
      sqe.cdw12 = UInt32(command.blocks - 1)
    }
    point(&sqe, &command, number)
    fill(&command)
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

  /// What is known of a command's blocks.
  private func blocks(_ command: SimulatedCommand) -> UnsafeMutablePointer<UInt64> {
    model + command.home * Simulator.blocksMax + command.block
  }

  /// What the command brings, and what is known of its blocks from now on.
  private mutating func fill(_ command: inout SimulatedCommand) {
    let words = words(command)
    let blocks = blocks(command)
    (modelBefore + (blocks - model)).update(from: blocks, count: command.blocks)
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
      command.comparesUnknown = (0..<command.blocks).contains { blocks[$0] == Simulator.unknown }
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
      if !world.isIntact { return true }
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
    // Said only of what is wrong.
    let what = { "queue \(qid), command \(cqe.cid.rawValue)" }
    guard cqe.sqid.rawValue == qid, place < Simulator.places, commands[number].isUnderWay,
      cqe.cid.rawValue >> 8 == life & 0xff
    else { return world.fail("\(what()) is completed, which is not under way") }
    commands[number].isUnderWay = false
    let command = commands[number]
    let injected = port.inner.takeExpected(cqe.sqid, cqe.cid)
    if command.fuse == 1, commands[command.partner].partner == number {
      commands[command.partner].compareStatus = cqe.status
    }
    if command.abort != .notAsked || injected?.code == Status.abortRequested.code {
      guard checkAbort(command, cqe, what) else { return }
    }
    if command.fuse != 0, !mayFollow(command, cqe, what) { return }
    if let injected {
      if cqe.status.code != injected.code {
        world.fail(
          "\(what()) has status \(cqe.status.code.hex), its backend or the host's memory gave \(injected.code.hex)"
        )
      }
      return
    }
    guard command.nsid == 1 else { return checkSecondNamespace(command, cqe, what) }
    let isWanted = command.opcode == .compare && command.isChanged
    if isWanted, cqe.status.code == Status.compareFailure.code { return }
    guard cqe.status.isSuccess, !isWanted || command.comparesUnknown else {
      if command.comparesUnknown, cqe.status.code == Status.compareFailure.code { return }
      return world.fail("\(what()), \(command.opcode.name), has status \(cqe.status.code.hex)")
    }
    checkData(command, what)
  }

  /// What Abort said of a command is what becomes of it.
  /// - Returns: whether the command went its way all the same.
  private func checkAbort(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    let hasStatus = cqe.status.code == Status.abortRequested.code
    if command.abort != .unanswered, hasStatus != (command.abort == .done) {
      let answer = hasStatus ? "that it was not aborted" : "that it was"
      world.fail("\(what()) has status \(cqe.status.code.hex), and Abort said \(answer)")
    }
    if hasStatus { restore(command) }
    return !hasStatus
  }

  /// A Write follows its fused Compare, and is carried out where that succeeds. Neither is where the other was aborted.
  /// - Returns: whether the status is to be judged as any other's.
  private func mayFollow(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    let code = cqe.status.code
    if command.isLeftAlone, code == Status.failedFusedCommand.code || code == Status.missingFusedCommand.code {
      restore(command)
      return false
    }
    guard command.fuse == 2 else { return true }
    if commands[command.partner].isUnderWay, commands[command.partner].partner == command.home {
      world.fail("\(what()), a fused Write, is completed before its Compare")
    }
    let isGivenUp = code == Status.failedFusedCommand.code
    guard isGivenUp != command.compareStatus.isSuccess else {
      world.fail("\(what()), a fused Write, has status \(code.hex), its Compare \(command.compareStatus.code.hex)")
      return false
    }
    if isGivenUp { restore(command) }
    return !isGivenUp
  }

  /// A command was not carried out: its blocks are as they were.
  private func restore(_ command: SimulatedCommand) {
    guard command.nsid == 1, command.opcode == .write || command.opcode == .writeZeroes else { return }
    let blocks = blocks(command)
    blocks.update(from: modelBefore + (blocks - model), count: command.blocks)
  }

  /// A namespace that came or went while the command was under way leaves either open.
  private func checkSecondNamespace(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) {
    guard command.namespaceEpoch == namespaceEpoch, cqe.status.isSuccess != command.hadNamespace else { return }
    world.fail(
      "\(what()) has status \(cqe.status.code.hex), and its namespace \(command.hadNamespace ? "is there" : "is not there")"
    )
  }

  private func checkData(_ command: SimulatedCommand, _ what: () -> String) {
    let words = words(command)
    let blocks = blocks(command)
    switch command.opcode {
    case .write: for block in 0..<command.blocks { blocks[block] = words[block * 64] }
    case .writeZeroes: for block in 0..<command.blocks { blocks[block] = 0 }
    case .read:
      for block in 0..<command.blocks {
        // One that is not known is what is read; all its words are the same, whichever write it was.
        let tag = blocks[block] == Simulator.unknown ? words[block * 64] : blocks[block]
        for word in 0..<64 where words[block * 64 + word] != tag {
          return world.fail(
            "\(what()) reads \(words[block * 64 + word]) in word \(word) of block \(command.block + block), and not \(tag)"
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
