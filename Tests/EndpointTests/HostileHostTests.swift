import Chance
import Events
import Foundation
import NVMe
import Target
import TestSeed
import Testing
import Trace

@testable import Endpoint
@testable import Simulation

@Suite("A hostile host")
struct HostileHostTests {
  private static let commands =
    ProcessInfo.processInfo.environment["NVMEPF_HOSTILE_COMMANDS"].flatMap { Int($0) } ?? 300_000

  @Test("no command is lost or completed twice, and only mapped memory is accessed")
  func survives() throws {
    var random = drawnNumbers("hostile host of \(HostileHostTests.commands) commands")
    var fetched = 0
    while fetched < HostileHostTests.commands {
      let bench = try live(&random)
      let (seen, open) = try count(bench.recorded)
      fetched += seen
      // A controller that has failed answers nothing more.
      if !bench.controller.csts.fatal {
        #expect(open == Controller.commandsMax - bench.controller.slots.freeCount, "a command is lost")
      }
      try expectIdentical(bench.recorded)
    }
  }

  @Test("a seed repeats a run byte for byte", arguments: 0..<8 as Range<UInt64>)
  func repeats(seed: UInt64) throws {
    func records() throws -> [Record] {
      var random = SeededGenerator(seed: seed)
      return try live(&random).recorded
    }
    expectSameBytes(try records(), try records())
  }

  /// A few hundred steps, in a world of their own: any mixture of backends, faults and ways to fetch.
  private func live(_ random: inout SeededGenerator) throws -> EngineBench {
    let scenario = Scenario(seed: random.next(), hasFaults: random.next() % 2 == 0)
    let bench = try EngineBench(keepsPromises: false, scenario: scenario, seed: random.next()) {
      $0 = scenario.subsystem
    }
    bench.fillLists(&random)
    for _ in 0..<200 {
      step(bench, &random)
      bench.settle()
    }
    bench.checkpoint()
    return bench
  }

  private func step(_ bench: EngineBench, _ random: inout SeededGenerator) {
    switch random.next() % 48 {
    case 40: bench.fillLists(&random)
    case 41: bench.attach(UInt32(random.next() % 4 + 1))
    case 42: bench.controller.detach(UInt32(random.next() % 4 + 2), &bench.port)
    case 43: bench.controller.findStrayDoorbells(&bench.port)
    case 44, 45: bench.wait()
    case 46: bench.drain()
    case 47: bench.world.time.advance(to: bench.world.time.ns + random.next() % (1 << (random.next() % 32)))
    case 0: bench.write(random.next() % 0x60 & ~3, random.next(), width: random.next() & 1 == 0 ? 4 : 8)
    case 1: bench.controller.reset(.device, &bench.port)
    case 2: bench.write(Register.cc, 0)
    case 3...6:
      bench.enable()
      for qid in 1...4 as ClosedRange<UInt16> { _ = bench.createPair(qid, entries: 64) }
    case 7: bench.ring(Doorbell.submissionTail(QueueID(UInt16(random.next() % 8))), UInt32(random.next() % 5000))
    case 8: bench.ring(Doorbell.completionHead(QueueID(UInt16(random.next() % 8))), UInt32(random.next() % 200))
    default: flood(bench, &random)
    }
  }

  /// Submit random entries.
  private func flood(_ bench: EngineBench, _ random: inout SeededGenerator) {
    let qid = UInt16(random.next() % 5)
    guard bench.queueExists(qid) else { return }
    for _ in 0..<(random.next() % 60) {
      while bench.reap(qid) != nil {}
      let sqe = entry(&random, isAdmin: qid == 0)
      bench.submit(qid, sqe)
      if qid != 0, sqe.fuse == 1, random.next() % 2 == 0 { bench.submit(qid, second(of: sqe, &random)) }
      if random.next() % 8 == 0 { bench.settle() }
      if random.next() % 8 == 0 { bench.wait() }
    }
  }

  /// The second command of a fused operation, mostly a Write of the same blocks.
  private func second(of first: SubmissionEntry, _ random: inout SeededGenerator) -> SubmissionEntry {
    var sqe = first
    sqe.cdw0 = first.cdw0 & ~(0xff | SubmissionEntry.fuseMask) | 2 << 8 | UInt32(IOOpcode.write.rawValue)
    if random.next() % 8 == 0 { sqe.slba = random.next() % 2048 }
    sqe.cid = CommandID(UInt16(truncatingIfNeeded: random.next()))
    return sqe
  }

  private func entry(_ random: inout SeededGenerator, isAdmin: Bool) -> SubmissionEntry {
    var sqe = SubmissionEntry()
    sqe.cdw0 = UInt32(truncatingIfNeeded: random.next())
    let opcodes: [UInt8] = isAdmin ? AdminOpcode.allCases.map(\.rawValue) : IOOpcode.allCases.map(\.rawValue)
    if random.next() % 8 != 0 { sqe.cdw0 = sqe.cdw0 & 0xffff_0000 | UInt32(opcodes.randomElement(using: &random)!) }
    if !isAdmin, random.next() % 8 == 0 {
      sqe.cdw0 = sqe.cdw0 & ~0xff | UInt32(random.next() % 4) << 8 | UInt32(IOOpcode.compare.rawValue)
    }
    sqe.nsid = random.next() % 8 == 0 ? UInt32(truncatingIfNeeded: random.next() % 6) : 1
    sqe.prp1 = pointer(&random)
    sqe.prp2 = pointer(&random)
    if !isAdmin, random.next() % 3 == 0 {
      sqe.cdw0 |= 1 << 14
      sqe.sgl1 = HostileHostTests.descriptor(&random)
    }
    sqe.slba = random.next() % 8 == 0 ? random.next() : random.next() % 2048
    sqe.cdw12 = UInt32(truncatingIfNeeded: random.next() % 8 == 0 ? random.next() : random.next() % 300)
    sqe.cdw13 = UInt32(truncatingIfNeeded: random.next())
    if isAdmin {
      sqe.nsid = random.next() % 4 == 0 ? sqe.nsid : 0
      sqe.cdw10 = UInt32(random.next() % 6) | UInt32(random.next() % 80) << 16
      if random.next() % 2 == 0 { sqe.cdw10 = UInt32(random.next() % 0x90) | UInt32(random.next() % 4) << 8 }
      sqe.cdw11 = UInt32(random.next() % 8) | UInt32(random.next() % 6) << 16
    }
    return sqe
  }

  /// A random descriptor. Most point to the data area, or for segments to the descriptors of `fillLists`.
  static func descriptor(_ random: inout SeededGenerator) -> SGLDescriptor {
    let kind = SGLDescriptor.Kind(rawValue: UInt8(random.next() % 4))!
    let isSegment = kind == .segment || kind == .lastSegment
    let area = EngineBench.address + UInt64(isSegment ? EngineBench.lists : EngineBench.data)
    let address = random.next() % 16 == 0 ? random.next() : area + random.next() % 16384 & ~7
    let length = isSegment ? UInt32(random.next() % 20) * 16 : UInt32(random.next() % 9000)
    var descriptor = SGLDescriptor(kind, address: address, length: length)
    if random.next() % 32 == 0 {
      descriptor = SGLDescriptor(address: random.next(), lengthAndIdentifier: random.next())
    }
    return descriptor
  }

  private func pointer(_ random: inout SeededGenerator) -> UInt64 {
    // Not into the queues: overwriting them would only produce other random entries.
    let inside = EngineBench.address + UInt64(EngineBench.data) + random.next() % UInt64(3 << 20)
    switch random.next() % 16 {
    case 0: return random.next()
    case 1: return EngineBench.address + UInt64(EngineBench.memoryBytes) - random.next() % 8192
    case 2: return EngineBench.address &- random.next() % 8192
    case 3: return inside
    default: return inside & ~4095
    }
  }

  /// Check that every fetched command completed at most once.
  /// - Returns: commands fetched, and those still in flight: neither completed nor abandoned by a reset or the deletion of
  ///   their completion queue.
  private func count(_ slots: [Record]) throws -> (fetched: Int, open: Int) {
    var fetched = 0
    var open: [UInt32: Int] = [:]
    var queues = CreatedQueues()
    var index = 0
    while index < slots.count {
      let record = slots[index]
      switch record.event {
      case .fetch where !Event.Fetch(record).flags.contains(.failed):
        fetched += 1
        open[UInt32(record.qid) << 16 | UInt32(record.cid), default: 0] += 1
        if record.qid == 0 {
          slots.withUnsafeBufferPointer { queues.begin(($0.baseAddress! + index).fixedTail(as: SubmissionEntry.self)!) }
        }
      case .completion where !Event.Completion(record).flags.contains(.failed):
        let key = UInt32(Event.Completion(record).sqid) << 16 | UInt32(record.cid)
        #expect(open[key, default: 0] > 0, "completion of a command that is not in flight")
        open[key, default: 0] -= 1
        if let deleted = queues.end(Event.Completion(record)) {
          open = open.filter { queues.completionQueue[UInt16($0.key >> 16)] != deleted }
        }
      case .reset: open = [:]
      case .registerWrite where disables(record): open = [:]
      default: break
      }
      index += 1 + Int(record.tail)
    }
    return (fetched, open.values.reduce(0, +))
  }

  /// Whether the write leaves CC.EN clear.
  private func disables(_ record: Record) -> Bool {
    let write = Event.RegisterWrite(record)
    if write.offset == Register.cc { return write.value & 1 == 0 }
    return write.offset == Register.cc - 4 && write.width == 8 && write.value >> 32 & 1 == 0
  }
}

/// The completion queue of each submission queue, from the successful admin commands.
private struct CreatedQueues {
  private(set) var completionQueue: [UInt16: UInt16] = [:]
  /// By command identifier, in the order of fetching.
  private var begun: [UInt16: [SubmissionEntry]] = [:]

  mutating func begin(_ sqe: SubmissionEntry) { begun[sqe.cid.rawValue, default: []].append(sqe) }

  /// - Returns: the completion queue that the command deleted.
  mutating func end(_ completion: Event.Completion) -> UInt16? {
    guard completion.sqid == 0, var sqes = begun[completion.cid], !sqes.isEmpty else { return nil }
    // Of several commands with one identifier, assume one that is not an event request, which may wait for ever.
    let place = sqes.firstIndex { $0.opcode != AdminOpcode.asynchronousEventRequest.rawValue } ?? 0
    let sqe = sqes.remove(at: place)
    begun[completion.cid] = sqes
    guard completion.dw3 >> 17 == 0 else { return nil }
    let qid = UInt16(truncatingIfNeeded: sqe.cdw10)
    switch AdminOpcode(rawValue: sqe.opcode) {
    case .createIOSubmissionQueue: completionQueue[qid] = UInt16(sqe.cdw11 >> 16)
    case .deleteIOCompletionQueue: return qid
    default: break
    }
    return nil
  }
}

extension EngineBench {
  /// Fill the area of the lists with random SGL descriptors.
  func fillLists(_ random: inout SeededGenerator) {
    for place in stride(from: 0, to: EngineBench.listBytes, by: SGLDescriptor.size) {
      (memory + EngineBench.lists + place).storeBytes(
        of: HostileHostTests.descriptor(&random), as: SGLDescriptor.self)
    }
  }
}
