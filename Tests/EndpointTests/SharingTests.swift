import Events
import Glibc
import NVMe
import Target
import Testing
import Trace

@testable import Endpoint
@testable import Simulation

@Suite("Sharing among queues and mappings")
struct SharingTests {
  private func read(_ cid: Int, nsid: UInt32 = 1, _ opcode: IOOpcode = .read) -> SubmissionEntry {
    var sqe = EngineBench.io(opcode, cid: UInt16(cid), slba: 0, blocks: 1)
    sqe.nsid = nsid
    return sqe
  }

  @Test("queues whose commands never complete leave the others their share")
  func leavesShare() throws {
    let bench = try EngineBench(scenario: .endless)
    bench.enable()
    for qid in 1...4 as ClosedRange<UInt16> { #expect(bench.createPair(qid, entries: 512) == .success) }
    for qid in [1, 2, 3] as [UInt16] { for cid in 0..<511 { bench.submit(qid, read(cid)) } }
    bench.settle()
    #expect(bench.controller.executing > 800, "what nobody needs is theirs")
    // Commands that no backend is asked for.
    let wrong = EngineBench.io(.read, slba: .max, blocks: 1)
    for _ in 0..<8 { #expect(bench.execute(4, wrong)?.status.code == Status.lbaOutOfRange.code) }
    #expect(bench.admin(.keepAlive)?.status == .success)
    bench.checkpoint()
    try expectIdentical(bench.recorded)
  }

  @Test("deleting a queue whose completions wait for room releases its slots")
  func givesBack() throws {
    let bench = try EngineBench()
    bench.enable()
    let before = bench.controller.slots.freeCount
    for _ in 0..<3 {
      #expect(bench.createPair(1, entries: 4) == .success)
      for cid in 0..<3 { bench.submit(1, read(cid)) }
      bench.settle()
      for cid in 3..<6 { bench.submit(1, read(cid)) }
      bench.settle()
      for opcode in [AdminOpcode.deleteIOSubmissionQueue, .deleteIOCompletionQueue] {
        #expect(bench.admin(opcode) { $0.cdw10 = 1 }?.status == .success)
      }
      bench.checkpoint()
    }
    #expect(bench.controller.slots.freeCount == before)
    try expectIdentical(bench.recorded)
  }

  /// What is written of an engine's state can be read, and is the same state.
  private func expectDecodes(_ controller: inout Controller) throws {
    let bytes = controller.encoded()
    var again = try Controller.decode(bytes)
    let rewritten = again.encoded()
    #expect(rewritten == bytes)
    #expect(again.executing == controller.executing)
  }

  @Test("a thousand resets with commands in flight leave every slot free")
  func leaksNothing() throws {
    let bench = try EngineBench(keepsRecording: false, scenario: .endless)
    bench.attach(2)
    for life in 0..<1000 {
      bench.enable()
      #expect(bench.createPair(1) == .success)
      for cid in 0..<32 { bench.submit(1, read(cid, nsid: UInt32(1 + cid % 2))) }
      bench.settle()
      #expect(bench.controller.executing == 32)
      bench.write(Register.cc, 0)
      #expect(bench.controller.slots.freeCount == Controller.commandsMax)
      // A recording may be looked at from here on.
      if life % 100 == 0 { try expectDecodes(&bench.controller) }
      bench.drain()
      #expect(bench.controller.executing == 0)
    }
  }

  @Test("disabling the write cache completes when earlier writes, also those in flight, are on the medium")
  func settlesWrites() throws {
    let bench = try EngineBench(scenario: .slow(1_000_000...3_000_000))
    bench.enable()
    #expect(bench.createPair(1) == .success)
    for cid in 0..<8 { bench.submit(1, read(cid, .write)) }
    bench.settle()
    #expect(bench.controller.executing > 0)
    var set = SubmissionEntry(opcode: AdminOpcode.setFeatures.rawValue, cid: CommandID(9))
    set.cdw10 = UInt32(FeatureID.volatileWriteCache.rawValue)
    bench.submit(0, set)
    bench.settle()
    bench.checkpoint()
    var answer = bench.reap(0)
    while answer == nil {
      bench.wait()
      answer = bench.reap(0)
    }
    #expect(answer?.status == .success)
    var written = 0
    while bench.reap(1) != nil { written += 1 }
    #expect(written == 8, "every write had completed")
    bench.checkpoint()
    try expectIdentical(bench.recorded)
  }

  @Test("adjacent entries are fetched in one transfer, and data may span many pages")
  func fetchesTogether() throws {
    let bench = try EngineBench {
      $0.fetchesBatches = true
      $0.arbitrationBurst = 7
    }
    bench.enable()
    #expect(bench.createPair(1, entries: 128) == .success)
    for cid in 0..<100 { bench.submit(1, read(cid)) }
    bench.settle()
    var completed = 0
    while let cqe = bench.reap(1) {
      #expect(cqe.status == .success)
      completed += 1
    }
    #expect(completed == 100)
    let later = bench.recorded.count { $0.event == .fetch && Event.Fetch($0).flags.contains(.joined) }
    #expect(later >= 90, "they came together")
    // One Data Block over many pages, and the same by adjacent PRPs.
    var sqe = EngineBench.io(.write, slba: 0, blocks: 64)
    sqe.cdw0 |= 1 << 14
    sqe.sgl1 = SGLDescriptor(.dataBlock, address: EngineBench.address + UInt64(EngineBench.data) + 100, length: 32768)
    #expect(bench.execute(1, sqe)?.status == .success)
    let pages = EngineBench.io(
      .write, slba: 64, blocks: 16, prp2: EngineBench.address + UInt64(EngineBench.data) + 4096)
    #expect(bench.execute(1, pages)?.status == .success)
    sqe.sgl1 = SGLDescriptor(
      .dataBlock, address: EngineBench.address + UInt64(EngineBench.memoryBytes) - 4096, length: 32768)
    #expect(bench.execute(1, sqe)?.status.code == Status.dataTransferError.code, "its end is not mapped")
    try expectIdentical(bench.recorded)
  }
}
