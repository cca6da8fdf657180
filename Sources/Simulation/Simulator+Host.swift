import Endpoint
import NVMe
import Recording
import Target
import Text

/// The host: it submits commands and checks each completion.
extension Simulator where R: ~Copyable {
  /// Let the host act.
  /// - Returns: whether it did anything.
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

  /// When the host next acts on this queue; `.max` for never.
  func nextNs(_ queue: SimulatedQueue) -> UInt64 {
    var next = UInt64.max
    if freePlace(queue) != nil { next = queue.nextSubmitNs }
    if let vector = queue.vector { return min(next, world.interrupts[Int(vector)].firstNs) }
    return queue.hasCompletion(world) ? min(next, queue.nextReapNs) : next
  }

  // MARK: Submission

  func first(_ qid: UInt16) -> Int { Int(qid) * Simulator.places }

  /// A free place for a command, if the queue has room for `room` commands.
  private func freePlace(_ queue: SimulatedQueue, after place: Int = -1, room: UInt32 = 1) -> Int? {
    guard !isClosing, queue.outstanding + room <= UInt32(scenario.depth),
      queue.outstanding + room < queue.submissionEntries
    else { return nil }
    let first = first(queue.qid)
    return (place + 1..<Simulator.places).first { !commands[first + $0].isInFlight }
  }

  /// Submit commands while there is room, with one doorbell write in all or one each.
  private mutating func submit(_ index: Int) -> Bool {
    guard var place = freePlace(queues[index]) else { return false }
    let ringsEach = random.next() % 2 == 0
    while true {
      if scenario.fuses, random.next() % 8 == 0, let second = freePlace(queues[index], after: place, room: 2) {
        // One doorbell write announces both (Base 2.1, 3.4.2).
        for sqe in makePair(first(queues[index].qid) + place, first(queues[index].qid) + second) { put(sqe, index) }
      } else {
        put(make(first(queues[index].qid) + place), index)
      }
      if ringsEach { queues[index].ring(world, &host) }
      if untilDisturbance != .max, untilDisturbance > 0 { untilDisturbance -= 1 }
      guard random.next() % 4 != 0, let next = freePlace(queues[index]) else { break }
      place = next
    }
    queues[index].ring(world, &host)
    queues[index].nextSubmitNs = world.time.ns + (scenario.thinkNs == 0 ? 0 : random.next() % scenario.thinkNs)
    return true
  }

  private mutating func put(_ sqe: SubmissionEntry, _ index: Int) {
    queues[index].put(sqe, world, &host)
    queues[index].outstanding += 1
  }

  /// A command at this place, with its own blocks and pages.
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
    command.blocks = 1 + Int(random.next() % scenario.longEvery == 0 ? random.next() % UInt64(Simulator.blocksMax) : 0)
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

  /// The submission queue entry of a command, which is in flight from now on.
  private mutating func entry(_ command: inout SimulatedCommand, _ number: Int) -> SubmissionEntry {
    command.isInFlight = true
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

  /// Point the entry to the place's own pages: two for a PRP list and `pagesMax` for data, which may begin inside the
  /// first.
  private mutating func point(_ sqe: inout SubmissionEntry, _ command: inout SimulatedCommand, _ number: Int) {
    let list = 0x100000 + number * (2 + SimulatedCommand.pagesMax) * 4096
    let drawn = random.next()
    command.pages = list + 2 * 4096
    command.firstPage = Int(drawn % 5)
    command.pageStep = 1 + Int(drawn >> 8 % 4)
    command.offset = drawn >> 16 % 4 == 0 ? Int(drawn >> 24 % 512) * 8 : 0
    let bytes = command.blocks << Int(SimulatedPort.blockShift)
    let pages = (command.offset + bytes + 4095) / 4096
    let isChained = drawn >> 40 % 4 == 0
    if scenario.usesSGLs, [.read, .write, .compare].contains(command.opcode) {
      return describe(&sqe, command, bytes, pages, list: list, isChained: isChained)
    }
    sqe.prp1 = World.address + UInt64(command.place(0))
    if pages == 2 { sqe.prp2 = World.address + UInt64(command.page(1)) }
    guard pages > 2 else { return }
    // The list may begin near the end of its first page; the last entry then points to the second.
    let room = isChained ? 1 + Int(drawn >> 48 % 3) : 512
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

  /// Describe the command's data with an SGL: its only Data Block in the entry, else one for each page in a segment, or
  /// the first in a segment and the others in another (Base 2.1, 4.3.2).
  private func describe(
    _ sqe: inout SubmissionEntry, _ command: SimulatedCommand, _ bytes: Int, _ pages: Int, list: Int, isChained: Bool
  ) {
    sqe.cdw0 |= 1 << 14
    var blocks: [SGLDescriptor] = []
    var done = 0
    for page in 0..<pages {
      let length = min(bytes - done, 4096 - (page == 0 ? command.offset : 0))
      let address = World.address + UInt64(command.place(done))
      blocks.append(SGLDescriptor(.dataBlock, address: address, length: UInt32(length)))
      done += length
    }
    if pages == 1 {
      sqe.sgl1 = blocks[0]
    } else if isChained {
      let rest = store(blocks[1...], at: list + 4096)
      sqe.sgl1 = segment(.segment, store([blocks[0], segment(.lastSegment, rest)], at: list))
    } else {
      sqe.sgl1 = segment(.lastSegment, store(blocks[...], at: list))
    }
  }

  /// Write descriptors to an offset in host memory.
  private func store(_ descriptors: ArraySlice<SGLDescriptor>, at offset: Int) -> Range<Int> {
    var end = offset
    for descriptor in descriptors {
      (world.memory + end).storeBytes(of: descriptor, as: SGLDescriptor.self)
      end += SGLDescriptor.size
    }
    return offset..<end
  }

  private func segment(_ kind: SGLDescriptor.Kind, _ place: Range<Int>) -> SGLDescriptor {
    SGLDescriptor(kind, address: World.address + UInt64(place.lowerBound), length: UInt32(place.count))
  }

  private static var wordsPerBlock: Int { 1 << Int(SimulatedPort.blockShift) / 8 }

  /// A word of a command's data.
  @inline(__always)
  private func word(_ command: SimulatedCommand, _ block: Int, _ word: Int) -> UnsafeMutablePointer<UInt64> {
    (world.memory + command.place((block * Simulator.wordsPerBlock + word) * 8)).assumingMemoryBound(to: UInt64.self)
  }

  /// The content of a word of a block: different at every place, except zeros.
  @inline(__always)
  private func value(_ tag: UInt64, _ word: Int) -> UInt64 {
    tag == 0 ? 0 : tag ^ UInt64(truncatingIfNeeded: word) &<< 56
  }

  /// Visit the words of a block: one contiguous piece, or two if a page ends within it.
  @inline(__always)
  private func forEachPiece(
    _ command: SimulatedCommand, _ block: Int, _ visit: (_ words: UnsafeMutablePointer<UInt64>, Range<Int>) -> Void
  ) {
    let toPageEnd = 512 - (command.offset / 8 + block * Simulator.wordsPerBlock) % 512
    let split = min(toPageEnd, Simulator.wordsPerBlock)
    visit(word(command, block, 0), 0..<split)
    if split < Simulator.wordsPerBlock { visit(word(command, block, split), split..<Simulator.wordsPerBlock) }
  }

  @inline(__always)
  private func fill(_ command: SimulatedCommand, _ block: Int, _ value: (Int) -> UInt64) {
    forEachPiece(command, block) { words, places in
      for place in places { words[place &- places.lowerBound] = value(place) }
    }
  }

  /// - Returns: the first word of a block that differs from the value of this tag.
  @inline(__always)
  private func firstDifference(_ command: SimulatedCommand, _ block: Int, tag: UInt64) -> Int? {
    var difference: UInt64 = 0
    forEachPiece(command, block) { words, places in
      for place in places { difference |= words[place &- places.lowerBound] ^ value(tag, place) }
    }
    guard difference != 0 else { return nil }
    return (0..<Simulator.wordsPerBlock).first { word(command, block, $0).pointee != value(tag, $0) }
  }

  /// The model of a command's blocks.
  private func blocks(_ command: SimulatedCommand) -> UnsafeMutablePointer<UInt64> {
    model + command.home * Simulator.blocksMax + command.block
  }

  /// Fill the command's data, and update the model of its blocks.
  private mutating func fill(_ command: inout SimulatedCommand) {
    let blocks = blocks(command)
    (modelBefore + (blocks - model)).update(from: blocks, count: command.blocks)
    switch command.opcode {
    case .write where command.nsid == 1:
      for block in 0..<command.blocks {
        let tag = nextTag &+ UInt64(block)
        fill(command, block) { value(tag, $0) }
        blocks[block] = Simulator.unknown
      }
      nextTag &+= UInt64(command.blocks)
    case .compare where command.nsid == 1:
      for block in 0..<command.blocks {
        let tag = blocks[block]
        fill(command, block) { value(tag, $0) }
      }
      command.isChanged = random.next() % 4 == 0
      command.comparesUnknown = (0..<command.blocks).contains { blocks[$0] == Simulator.unknown }
      if command.isChanged {
        word(command, 0, Int(random.next() % UInt64(command.blocks * Simulator.wordsPerBlock))).pointee ^= 1 << 63 | 1
      }
    case .writeZeroes where command.nsid == 1:
      for block in 0..<command.blocks { blocks[block] = Simulator.unknown }
    case .read:
      // Content that no block has, so that a missing or partial transfer is detected.
      let none = ~nextTag
      for block in 0..<command.blocks { fill(command, block) { none &- UInt64($0) } }
    default: break
    }
  }

  // MARK: Completion

  /// Consume all completions.
  mutating func reap(_ index: Int) -> Bool {
    var count = 0
    while let cqe = queues[index].consume(world, &host) {
      check(cqe, index)
      queues[index].outstanding -= min(1, queues[index].outstanding)
      noteCompleted()
      count += 1
      // A host may release entries in groups or all together.
      if count % 4 == 0 { queues[index].release(world, &host) }
      if !world.isIntact { return true }
    }
    queues[index].nextReapNs = world.time.ns + (scenario.reapNs == 0 ? 0 : random.next() % scenario.reapNs)
    guard count > 0 else { return false }
    queues[index].release(world, &host)
    world.queues[Int(queues[index].qid)].interruptsLost = 0
    return true
  }

  private mutating func check(_ cqe: CompletionEntry, _ index: Int) {
    let qid = queues[index].qid
    let place = Int(cqe.cid.rawValue & 0xff)
    let number = first(qid) + place
    // A closure: formatted only for a violation.
    let what = { "queue \(qid), command \(cqe.cid.rawValue)" }
    guard cqe.sqid.rawValue == qid, place < Simulator.places, commands[number].isInFlight,
      cqe.cid.rawValue >> 8 == life & 0xff
    else { return world.fail("\(what()) completes, but is not in flight") }
    commands[number].isInFlight = false
    let command = commands[number]
    let injected = port.inner.consumeExpected(cqe.sqid, cqe.cid)
    if command.fuse == 1, commands[command.partner].partner == number {
      commands[command.partner].compareStatus = cqe.status
    }
    if command.abort != .notRequested || injected?.code == Status.abortRequested.code {
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

  /// A command has status Command Abort Requested if and only if Abort reported that it was aborted.
  /// - Returns: whether the command was not aborted.
  private func checkAbort(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    let hasStatus = cqe.has(.abortRequested)
    if command.abort != .unanswered, hasStatus != (command.abort == .done) {
      let answer = hasStatus ? "that it was not aborted" : "that it was aborted"
      world.fail("\(what()) has status \(cqe.status.rawValue.hex), but Abort reported \(answer)")
    }
    if hasStatus { restore(command) }
    return !hasStatus
  }

  /// A fused Write completes after its Compare and is performed only if the Compare succeeds. Neither is performed if
  /// the other was aborted.
  /// - Returns: whether to check the status like that of any other command.
  private func mayFollow(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) -> Bool {
    if command.isLeftAlone, cqe.has(.failedFusedCommand) || cqe.has(.missingFusedCommand) {
      restore(command)
      return false
    }
    guard command.fuse == 2 else { return true }
    if commands[command.partner].isInFlight, commands[command.partner].partner == command.home {
      world.fail("\(what()), a fused Write, completes before its Compare")
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

  /// The command was not performed: restore the model of its blocks.
  private func restore(_ command: SimulatedCommand) {
    guard command.nsid == 1, command.opcode == .write || command.opcode == .writeZeroes else { return }
    let blocks = blocks(command)
    blocks.update(from: modelBefore + (blocks - model), count: command.blocks)
  }

  /// Either status is correct if the namespace was attached or detached while the command was in flight. A valid
  /// identifier without a namespace is an invalid field (Base 2.1, 3.2.1).
  private func checkSecondNamespace(_ command: SimulatedCommand, _ cqe: CompletionEntry, _ what: () -> String) {
    let hasChanged = command.namespaceEpoch != namespaceEpoch
    if hasChanged || command.hadNamespace, cqe.has(.success) { return }
    if hasChanged || !command.hadNamespace, cqe.has(.invalidField) { return }
    world.fail(
      "\(what()) has status \(cqe.status.rawValue.hex), and its namespace \(command.hadNamespace ? "is attached" : "is not attached")"
    )
  }

  private func checkData(_ command: SimulatedCommand, _ what: () -> String) {
    let blocks = blocks(command)
    switch command.opcode {
    case .write: for block in 0..<command.blocks { blocks[block] = word(command, block, 0).pointee }
    case .writeZeroes: for block in 0..<command.blocks { blocks[block] = 0 }
    case .read:
      for block in 0..<command.blocks {
        // An unknown block may have the content of one write, or zeros.
        let tag = blocks[block] == Simulator.unknown ? word(command, block, 0).pointee : blocks[block]
        if tag >= nextTag { return world.fail("\(what()) reads \(tag.hex), which was never written") }
        if let place = firstDifference(command, block, tag: tag) {
          let (read, expected) = (word(command, block, place).pointee.hex, value(tag, place).hex)
          return world.fail(
            "\(what()) reads \(read) in word \(place) of block \(command.block + block), not \(expected)")
        }
        blocks[block] = tag
      }
    default: break
    }
  }

  // MARK: At rest

  /// No event is pending: commands still in flight are lost, and a fault must have lost them.
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
        "\(queue.outstanding) commands of queue \(queue.qid) never complete; the backend has lost \(world.queues[Int(queue.qid)].requestsLost)"
      )
    }
    resetController()
  }

  /// A fused operation that waits for a lost request, its own or another, holds the commands of every queue.
  private var areHeldByFusion: Bool {
    queues.contains { world.queues[Int($0.qid)].requestsLost > 0 }
      && (0..<World.queuesMax * Simulator.places).contains { commands[$0].isInFlight && commands[$0].fuse != 0 }
  }
}
