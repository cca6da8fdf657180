import Chance
import Events
import Foundation
import NVMe
import TestSeed
import Testing
import Trace

@testable import Simulation

/// Random valid commands, against a model of the blocks.
@Suite("The namespace against a model")
struct ModelTests {
  private static let commands =
    ProcessInfo.processInfo.environment["NVMEPF_MODEL_COMMANDS"].flatMap { Int($0) } ?? 300_000

  @Test("every command completes once with its own identifiers, and every block reads as in the model")
  func agree() throws {
    var random = drawnNumbers("model of \(ModelTests.commands) commands")
    var done = 0
    while done < ModelTests.commands {
      let run = try live(&random)
      done += run.done
      try expectIdentical(run.bench.recorded)
    }
  }

  @Test("a seed repeats a run byte for byte", arguments: 0..<8 as Range<UInt64>)
  func repeats(seed: UInt64) throws {
    func records() throws -> [Record] {
      var random = SeededGenerator(seed: seed)
      return try live(&random).bench.recorded
    }
    expectSameBytes(try records(), try records())
  }

  private func live(_ random: inout SeededGenerator) throws -> ModelRun {
    var run = try ModelRun(&random)
    for _ in 0..<250 { run.round() }
    run.bench.checkpoint()
    return run
  }
}

/// Two queues with a few commands each; every command has its own blocks and pages.
private struct ModelRun: ~Copyable {
  private static let lanes = 8
  private static let laneBlocks = EngineBench.namespaceBlocks / UInt64(lanes)
  private static let lanePages = 24
  private static let blocksMax = 64
  /// Room for more than two commands per lane.
  private static let entries: UInt32 = 19

  let bench: EngineBench
  /// Completed commands.
  private(set) var done = 0
  private var random: SeededGenerator
  /// The value that fills each block; 0 if it was never written.
  private var model = [UInt64](repeating: 0, count: Int(EngineBench.namespaceBlocks))
  private var nextTag: UInt64 = 1
  private var heads: [UInt16: UInt16] = [1: 0, 2: 0]
  private var tails: [UInt16: UInt16] = [1: 0, 2: 0]

  /// - Parameter random: also selects the backend: immediate or deferred, with or without a limit of parallel requests.
  init(_ random: inout SeededGenerator) throws {
    let scenario = Scenario(seed: random.next(), hasFaults: false)
    bench = try EngineBench(scenario: scenario, seed: random.next()) { $0 = scenario.subsystem }
    self.random = SeededGenerator(seed: random.next())
    bench.enable()
    for qid in [1, 2] as [UInt16] { #expect(bench.createPair(qid, entries: ModelRun.entries) == .success) }
  }

  /// A command in flight: where its data lies, and its expected result.
  private struct Sent {
    var sqe: SubmissionEntry
    var qid: UInt16
    var pieces: [Piece]
    var status = Status.success
    /// The values that a read must return.
    var expected: [UInt64] = []
  }

  /// A piece of host memory with a command's data; no offset for a Bit Bucket.
  private struct Piece {
    var offset: Int?
    var count: Int
  }

  /// Submit some commands together, one per lane, and check their completions.
  mutating func round() {
    var sent: [UInt16: Sent] = [:]
    for lane in 0..<(1 + Int(random.next() % UInt64(ModelRun.lanes))) {
      for command in random.next() % 8 == 0 ? makePair(lane) : [make(lane)] {
        bench.submit(command.qid, command.sqe)
        tails[command.qid] = (tails[command.qid]! + 1) % UInt16(ModelRun.entries)
        sent[command.sqe.cid.rawValue] = command
      }
    }
    done += sent.count
    bench.settle()
    repeat {
      for qid in [1, 2] as [UInt16] {
        while let cqe = bench.reap(qid) {
          guard let command = sent.removeValue(forKey: cqe.cid.rawValue) else {
            Issue.record("completion of a command that is not in flight: \(cqe)")
            continue
          }
          check(cqe, command)
        }
      }
    } while !sent.isEmpty && bench.wait()
    bench.settle()
    #expect(sent.isEmpty, "some commands never complete")
    #expect(heads == tails, "SQHD covers every command")
  }

  private mutating func check(_ cqe: CompletionEntry, _ command: Sent) {
    #expect(cqe.sqid.rawValue == command.qid)
    #expect(cqe.status.code == command.status.code, "opcode \(command.sqe.opcode)")
    // The head never goes back.
    let passed = (cqe.sqhd &+ UInt16(ModelRun.entries) &- heads[command.qid]!) % UInt16(ModelRun.entries)
    #expect(passed <= UInt16(2 * ModelRun.lanes))
    heads[command.qid] = cqe.sqhd
    guard !command.expected.isEmpty else { return }
    let bytes = gather(command.pieces)
    for (index, tag) in command.expected.enumerated() {
      guard let tag = tag == .max ? nil : tag else { continue }
      let block = bytes[(index * 64)..<(index * 64 + 64)]
      #expect(block.allSatisfy { $0 == tag }, "block \(index) of \(command.sqe.slba)")
    }
  }

  // MARK: Commands

  private mutating func make(_ lane: Int) -> Sent {
    let opcodes: [IOOpcode] = [
      .read, .read, .write, .write, .compare, .writeZeroes, .datasetManagement, .copy, .verify,
    ]
    let opcode = opcodes.randomElement(using: &random)!
    let first = UInt64(lane) * ModelRun.laneBlocks
    let blocks = 1 + Int(random.next() % UInt64(ModelRun.blocksMax))
    let slba = first + random.next() % (ModelRun.laneBlocks - UInt64(blocks))
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(UInt16(lane)), nsid: 1)
    sqe.slba = slba
    sqe.cdw12 = UInt32(blocks - 1)
    var sent = Sent(sqe: sqe, qid: UInt16(1 + random.next() % 2), pieces: [])
    let range = Int(slba)..<(Int(slba) + blocks)
    switch opcode {
    case .read: read(range, lane, &sent)
    case .write: write(range, lane, &sent)
    case .compare: compare(range, lane, &sent)
    case .writeZeroes:
      sent.sqe.cdw12 |= random.next() & 1 == 0 ? 1 << 25 : 0
      for block in range { model[block] = 0 }
    case .datasetManagement: deallocate(range, lane, &sent)
    case .copy: copy(lane, &sent)
    default: break
    }
    return sent
  }

  /// A fused Compare and Write.
  private mutating func makePair(_ lane: Int) -> [Sent] {
    let blocks = 1 + Int(random.next() % 8)
    let slba = UInt64(lane) * ModelRun.laneBlocks + random.next() % (ModelRun.laneBlocks - UInt64(blocks))
    let range = Int(slba)..<(Int(slba) + blocks)
    let qid = UInt16(1 + random.next() % 2)
    var pair = [IOOpcode.compare, .write].enumerated().map { place, opcode in
      var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(UInt16(lane + place * ModelRun.lanes)), nsid: 1)
      sqe.cdw0 |= UInt32(place + 1) << 8
      sqe.slba = slba
      sqe.cdw12 = UInt32(blocks - 1)
      // Each gets a page of the lane, which no other command uses at this time.
      let begin = page(lane, 1 + 2 * place)
      sqe.prp1 = EngineBench.address + UInt64(begin)
      return Sent(sqe: sqe, qid: qid, pieces: [Piece(offset: begin, count: blocks * 512)])
    }
    var words = model[range].flatMap { [UInt64](repeating: $0, count: 64) }
    if random.next() & 1 == 0 {
      words[Int(random.next() % UInt64(words.count))] ^= 1 << (random.next() % 64)
      (pair[0].status, pair[1].status) = (.compareFailure, .failedFusedCommand)
      scatter([UInt64](repeating: nextTag, count: words.count), pair[1].pieces)
    } else {
      for block in range {
        model[block] = nextTag
        nextTag += 1
      }
      scatter(model[range].flatMap { [UInt64](repeating: $0, count: 64) }, pair[1].pieces)
    }
    scatter(words, pair[0].pieces)
    return pair
  }

  private mutating func read(_ range: Range<Int>, _ lane: Int, _ sent: inout Sent) {
    point(&sent, lane, bytes: range.count * 512, isRead: true)
    sent.expected = model[range].map { $0 }
    // Data in a Bit Bucket cannot be checked.
    var offset = 0
    for piece in sent.pieces {
      if piece.offset == nil {
        for block in (offset / 512)...((offset + piece.count - 1) / 512) { sent.expected[block] = .max }
      }
      offset += piece.count
    }
  }

  private mutating func write(_ range: Range<Int>, _ lane: Int, _ sent: inout Sent) {
    point(&sent, lane, bytes: range.count * 512, isRead: false)
    for block in range {
      model[block] = nextTag
      nextTag += 1
    }
    scatter(model[range].flatMap { [UInt64](repeating: $0, count: 64) }, sent.pieces)
  }

  /// Compare with the blocks' content, or with one bit changed.
  private mutating func compare(_ range: Range<Int>, _ lane: Int, _ sent: inout Sent) {
    point(&sent, lane, bytes: range.count * 512, isRead: false)
    var words = model[range].flatMap { [UInt64](repeating: $0, count: 64) }
    if random.next() & 1 == 0 {
      words[Int(random.next() % UInt64(words.count))] ^= 1 << (random.next() % 64)
      sent.status = .compareFailure
    }
    scatter(words, sent.pieces)
  }

  /// Deallocate the range in two pieces.
  private mutating func deallocate(_ range: Range<Int>, _ lane: Int, _ sent: inout Sent) {
    let cut = range.lowerBound + Int(random.next() % UInt64(range.count))
    let ranges = [range.lowerBound..<cut, cut..<range.upperBound]
    let place = page(lane, 0)
    for (index, range) in ranges.enumerated() {
      let entry = bench.memory + place + index * 16
      entry.storeBytes(of: 0, as: UInt32.self)
      entry.storeBytes(of: UInt32(range.count), toByteOffset: 4, as: UInt32.self)
      entry.storeBytes(of: UInt64(range.lowerBound), toByteOffset: 8, as: UInt64.self)
    }
    sent.sqe.prp1 = EngineBench.address + UInt64(place)
    sent.sqe.cdw10 = UInt32(ranges.count - 1)
    sent.sqe.cdw11 = 1 << 2
    sent.sqe.cdw12 = 0
    for block in range { model[block] = 0 }
  }

  /// Copy a few ranges of the lane's first half into its second half.
  private mutating func copy(_ lane: Int, _ sent: inout Sent) {
    let first = UInt64(lane) * ModelRun.laneBlocks
    let half = ModelRun.laneBlocks / 2
    var target = first + half + random.next() % (half - 64)
    sent.sqe.slba = target
    let count = 1 + Int(random.next() % 4)
    let place = page(lane, 0)
    for index in 0..<count {
      let blocks = 1 + random.next() % 16
      let source = first + random.next() % (half - blocks)
      let entry = bench.memory + place + index * 32
      entry.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
      entry.storeBytes(of: source, toByteOffset: 8, as: UInt64.self)
      entry.storeBytes(of: UInt16(blocks - 1), toByteOffset: 16, as: UInt16.self)
      for block in 0..<blocks { model[Int(target + block)] = model[Int(source + block)] }
      target += blocks
    }
    sent.sqe.prp1 = EngineBench.address + UInt64(place)
    sent.sqe.cdw12 = UInt32(count - 1)
  }

  // MARK: Data pointers

  /// A page of the lane.
  private func page(_ lane: Int, _ number: Int) -> Int {
    EngineBench.data + (lane * ModelRun.lanePages + number) * 4096
  }

  private mutating func point(_ sent: inout Sent, _ lane: Int, bytes: Int, isRead: Bool) {
    let pages = (1..<(ModelRun.lanePages - 1)).shuffled(using: &random)
    if random.next() & 1 == 0 {
      pointPRPs(&sent, lane, bytes, pages)
    } else {
      pointSGL(&sent, lane, bytes, pages, isRead: isRead)
    }
  }

  private mutating func pointPRPs(_ sent: inout Sent, _ lane: Int, _ bytes: Int, _ pages: [Int]) {
    var pages = pages
    let offset = Int(random.next() % 1024) * 4
    let begin = page(lane, pages.removeFirst()) + offset
    sent.pieces = [Piece(offset: begin, count: min(bytes, 4096 - offset))]
    var left = bytes - sent.pieces[0].count
    sent.sqe.prp1 = EngineBench.address + UInt64(begin)
    while left > 0 {
      let piece = Piece(offset: page(lane, pages.removeFirst()), count: min(left, 4096))
      sent.pieces.append(piece)
      left -= piece.count
    }
    let list = page(lane, 0)
    for (index, piece) in sent.pieces.dropFirst().enumerated() {
      (bench.memory + list + index * 8).storeBytes(of: EngineBench.address + UInt64(piece.offset!), as: UInt64.self)
    }
    if sent.pieces.count == 2 { sent.sqe.prp2 = EngineBench.address + UInt64(sent.pieces[1].offset!) }
    if sent.pieces.count > 2 { sent.sqe.prp2 = EngineBench.address + UInt64(list) }
  }

  private mutating func pointSGL(_ sent: inout Sent, _ lane: Int, _ bytes: Int, _ pages: [Int], isRead: Bool) {
    var descriptors: [SGLDescriptor] = []
    var left = bytes
    for number in pages where left > 0 {
      let isLast = number == pages.last || descriptors.count > 14
      // Whole words, so that a block's value can be compared wherever it is split.
      let count = min(left, isLast ? left : 8 * (1 + Int(random.next() % 512)))
      if isRead, !isLast, random.next() % 8 == 0 {
        descriptors.append(SGLDescriptor(.bitBucket, address: 0, length: UInt32(count)))
        sent.pieces.append(Piece(offset: nil, count: count))
      } else if count <= 4096 {
        let begin = page(lane, number)
        descriptors.append(
          SGLDescriptor(.dataBlock, address: EngineBench.address + UInt64(begin), length: UInt32(count)))
        sent.pieces.append(Piece(offset: begin, count: count))
      } else {
        break
      }
      left -= count
    }
    // The small pieces did not suffice: use one large piece.
    if left > 0 { return pointOneBlock(&sent, lane, bytes) }
    sent.sqe.cdw0 |= 1 << 14
    sent.sqe.sgl1 = putSegments(lane, descriptors)
  }

  private mutating func pointOneBlock(_ sent: inout Sent, _ lane: Int, _ bytes: Int) {
    let begin = page(lane, 1)
    sent.pieces = [Piece(offset: begin, count: bytes)]
    sent.sqe.cdw0 |= 1 << 14
    sent.sqe.sgl1 = SGLDescriptor(
      .dataBlock, address: EngineBench.address + UInt64(begin), length: UInt32(bytes))
  }

  /// Descriptors in one segment, or in two.
  private mutating func putSegments(_ lane: Int, _ descriptors: [SGLDescriptor]) -> SGLDescriptor {
    let (first, second) = (page(lane, 0), page(lane, ModelRun.lanePages - 1))
    let cut = random.next() & 1 == 0 ? descriptors.count : Int(random.next() % UInt64(descriptors.count))
    var head = Array(descriptors[..<cut])
    let tail = Array(descriptors[cut...])
    if !tail.isEmpty {
      head.append(
        SGLDescriptor(
          .lastSegment, address: EngineBench.address + UInt64(second), length: UInt32(tail.count * 16)))
    }
    for (place, list) in [(first, head), (second, tail)] {
      for (index, descriptor) in list.enumerated() {
        (bench.memory + place + index * 16).storeBytes(of: descriptor, as: SGLDescriptor.self)
      }
    }
    return SGLDescriptor(
      tail.isEmpty ? .lastSegment : .segment, address: EngineBench.address + UInt64(first),
      length: UInt32(head.count * 16))
  }

  private func scatter(_ words: [UInt64], _ pieces: [Piece]) {
    words.withUnsafeBytes { bytes in
      var place = 0
      for piece in pieces {
        (bench.memory + piece.offset!).copyMemory(from: bytes.baseAddress! + place, byteCount: piece.count)
        place += piece.count
      }
    }
  }

  private func gather(_ pieces: [Piece]) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: pieces.reduce(0) { $0 + $1.count } / 8)
    words.withUnsafeMutableBytes { bytes in
      var place = 0
      for piece in pieces {
        if let offset = piece.offset {
          (bytes.baseAddress! + place).copyMemory(from: bench.memory + offset, byteCount: piece.count)
        }
        place += piece.count
      }
    }
    return words
  }
}
