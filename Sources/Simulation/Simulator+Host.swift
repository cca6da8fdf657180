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
    return world.interrupts[Int(vector)].consume(now)
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
    command.blocks = 1 + Int(random.next() % 4 == 0 ? random.next() % UInt64(Simulator.blocksMax) : 0)
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

  /// The place's own pages: two for a list, and some for data, which may begin in the middle of the first.
  private mutating func point(_ sqe: inout SubmissionEntry, _ command: inout SimulatedCommand, _ number: Int) {
    let list = 0x100000 + number * (2 + SimulatedCommand.pagesMax) * 4096
    let drawn = random.next()
    command.pages = list + 2 * 4096
    command.firstPage = Int(drawn % 5)
    command.pageStep = 1 + Int(drawn >> 8 % 4)
    command.offset = drawn >> 16 % 4 == 0 ? Int(drawn >> 24 % 512) * 8 : 0
    sqe.prp1 = World.address + UInt64(command.place(0))
    let pages = (command.offset + command.blocks << Int(SimulatedPort.blockShift) + 4095) / 4096
    if pages == 2 { sqe.prp2 = World.address + UInt64(command.page(1)) }
    guard pages > 2 else { return }
    // Of the first list's page there may be less than all entries left; the last of them then leads to the other.
    let room = drawn >> 40 % 4 == 0 ? 1 + Int(drawn >> 48 % 3) : 512
    var entry = list + 4096 - 8 * room
    sqe.prp2 = World.address + UInt64(entry)
    for index in 1..<pages {
      if entry == list + 4096 - 8, index + 1 < pages {
        (world.memory + entry).storeBytes(of: World.address + UInt64(list + 4096), as: UInt64.self)
        entry += 8
      }
      (world.memory + entry).storeBytes(of: World.address + UInt64(command.page(index)), as: UInt64.self)
      entry += 8
    }
  }

  private static var wordsPerBlock: Int { 1 << Int(SimulatedPort.blockShift) / 8 }

  /// A word of a command's data.
  @inline(__always)
  private func word(_ command: SimulatedCommand, _ block: Int, _ word: Int) -> UnsafeMutablePointer<UInt64> {
    (world.memory + command.place((block * Simulator.wordsPerBlock + word) * 8)).assumingMemoryBound(to: UInt64.self)
  }

  /// What a word of a block holds: in every place something else, but for zeros.
  @inline(__always)
  private func value(_ tag: UInt64, _ word: Int) -> UInt64 { tag == 0 ? 0 : tag ^ UInt64(word) << 56 }

  private func fill(_ command: SimulatedCommand, _ block: Int, tag: UInt64) {
    for place in 0..<Simulator.wordsPerBlock { word(command, block, place).pointee = value(tag, place) }
  }

  /// What is known of a command's blocks.
  private func blocks(_ command: SimulatedCommand) -> UnsafeMutablePointer<UInt64> {
    model + command.home * Simulator.blocksMax + command.block
  }

  /// What the command brings, and what is known of its blocks from now on.
  private mutating func fill(_ command: inout SimulatedCommand) {
    let blocks = blocks(command)
    (modelBefore + (blocks - model)).update(from: blocks, count: command.blocks)
    switch command.opcode {
    case .write where command.nsid == 1:
      for block in 0..<command.blocks {
        fill(command, block, tag: nextTag &+ UInt64(block))
        blocks[block] = Simulator.unknown
      }
      nextTag &+= UInt64(command.blocks)
    case .compare where command.nsid == 1:
      for block in 0..<command.blocks { fill(command, block, tag: blocks[block]) }
      command.isChanged = random.next() % 4 == 0
      command.comparesUnknown = (0..<command.blocks).contains { blocks[$0] == Simulator.unknown }
      if command.isChanged {
        word(command, 0, Int(random.next() % UInt64(command.blocks * Simulator.wordsPerBlock))).pointee ^= 1 << 63 | 1
      }
    case .writeZeroes where command.nsid == 1:
      for block in 0..<command.blocks { blocks[block] = Simulator.unknown }
    case .read:
      // What no block holds, so a read that moves nothing, or not all, is noticed.
      for block in 0..<command.blocks {
        for place in 0..<Simulator.wordsPerBlock { word(command, block, place).pointee = ~nextTag &- UInt64(place) }
      }
    default: break
    }
  }

  // MARK: Completion

  /// Take every completion that is there.
  mutating func reap(_ index: Int) -> Bool {
    var count = 0
    while let cqe = queues[index].consume(world) {
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
    let injected = port.inner.consumeExpected(cqe.sqid, cqe.cid)
    if command.fuse == 1, commands[command.partner].partner == number {
      commands[command.partner].compareStatus = cqe.status
    }
    if command.abort != .notAsked || injected?.code == Status.abortRequested.code {
      guard checkAbort(command, cqe, what) else { return }
    }
    if command.fuse != 0, !mayFollow(command, cqe, what) { return }
    if let injected {
      if !cqe.has(injected) {
        world.fail(
          "\(what()) has status \(cqe.status.rawValue.hex), its backend or the host's memory gave \(injected.rawValue.hex)"
        )
      }
      return
    }
    guard command.nsid == 1 else { return checkSecondNamespace(command, cqe, what) }
    let isWanted = command.opcode == .compare && command.isChanged
    if isWanted || command.comparesUnknown, cqe.has(.compareFailure) { return }
    guard cqe.has(.success), !isWanted || command.comparesUnknown else {
      return world.fail("\(what()), \(command.opcode.name), has status \(cqe.status.rawValue.hex)")
    }
    checkData(command, what)
  }

  /// A command is aborted exactly where Abort said so.
  /// - Returns: whether the command went its way all the same.
  private func checkAbort(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    let hasStatus = cqe.has(.abortRequested)
    if command.abort != .unanswered, hasStatus != (command.abort == .done) {
      let answer = hasStatus ? "that it was not aborted" : "that it was"
      world.fail("\(what()) has status \(cqe.status.rawValue.hex), and Abort said \(answer)")
    }
    if hasStatus { restore(command) }
    return !hasStatus
  }

  /// A Write follows its fused Compare, and is carried out where that succeeds. Neither is where the other was aborted.
  /// - Returns: whether the status is to be judged as any other's.
  private func mayFollow(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    if command.isLeftAlone, cqe.has(.failedFusedCommand) || cqe.has(.missingFusedCommand) {
      restore(command)
      return false
    }
    guard command.fuse == 2 else { return true }
    if commands[command.partner].isUnderWay, commands[command.partner].partner == command.home {
      world.fail("\(what()), a fused Write, is completed before its Compare")
    }
    let isGivenUp = cqe.has(.failedFusedCommand)
    guard isGivenUp != command.compareStatus.isSuccess else {
      let (own, first) = (cqe.status.rawValue.hex, command.compareStatus.rawValue.hex)
      world.fail("\(what()), a fused Write, has status \(own), its Compare \(first)")
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

  /// A namespace that came or went while the command was under way leaves either open; one that could be and is not
  /// makes the field invalid (Base 2.1, 3.2.1).
  private func checkSecondNamespace(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) {
    let hasChanged = command.namespaceEpoch != namespaceEpoch
    if hasChanged || command.hadNamespace, cqe.has(.success) { return }
    if hasChanged || !command.hadNamespace, cqe.has(.invalidField) { return }
    world.fail(
      "\(what()) has status \(cqe.status.rawValue.hex), and its namespace \(command.hadNamespace ? "is there" : "is not there")"
    )
  }

  private func checkData(_ command: SimulatedCommand, _ what: () -> String) {
    let blocks = blocks(command)
    switch command.opcode {
    case .write: for block in 0..<command.blocks { blocks[block] = word(command, block, 0).pointee }
    case .writeZeroes: for block in 0..<command.blocks { blocks[block] = 0 }
    case .read:
      for block in 0..<command.blocks {
        // One that is not known is what is read: of one write, or zeros.
        let tag = blocks[block] == Simulator.unknown ? word(command, block, 0).pointee : blocks[block]
        if tag >= nextTag { return world.fail("\(what()) reads \(tag.hex), which nobody has written") }
        for place in 0..<Simulator.wordsPerBlock {
          let read = word(command, block, place).pointee
          guard read != value(tag, place) else { continue }
          return world.fail(
            "\(what()) reads \(read.hex) in word \(place) of block \(command.block + block), and not \(value(tag, place).hex)"
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
    for queue in queues where queue.outstanding > world.queues[Int(queue.qid)].requestsLost && !areHeldByFusion {
      return world.fail(
        "\(queue.outstanding) commands of queue \(queue.qid) never complete, of which the backend has lost \(world.queues[Int(queue.qid)].requestsLost)"
      )
    }
    resetController()
  }
  /// A fused operation that waits for a lost request, or is one, holds back the commands of every queue.
  private var areHeldByFusion: Bool {
    queues.contains { world.queues[Int($0.qid)].requestsLost > 0 }
      && (0..<World.queuesMax * Simulator.places).contains { commands[$0].isUnderWay && commands[$0].fuse != 0 }
  }
}
