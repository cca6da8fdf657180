import NVMe
import Target
import Testing

@testable import Endpoint
@testable import Simulation

@Suite("Invariants of the engine's state")
struct InvariantTests {
  /// A read of queue 1 is in flight, whose slot is passed too; queue 2 has no interrupts.
  private func makeBench() throws -> (EngineBench, slot: Int) {
    let bench = try EngineBench(scenario: .endless)
    bench.enable()
    #expect(bench.createPair(1, vector: 1) == .success)
    #expect(bench.createPair(2) == .success)
    bench.submit(1, EngineBench.io(.read, slba: 0, blocks: 1))
    bench.settle()
    let slot = try #require(
      (0..<Controller.commandsMax).first { bench.controller.commands[$0].state == .executing })
    #expect(bench.controller.brokenInvariant() == nil)
    return (bench, slot)
  }

  private func expectBroken(_ words: String, _ edit: (inout Controller, _ slot: Int) -> Void) throws {
    let (bench, slot) = try makeBench()
    edit(&bench.controller, slot)
    let broken = bench.controller.brokenInvariant() ?? "nothing"
    #expect(broken.contains(words), "\(broken) is broken")
  }

  @Test("entries that no interrupt will follow are found, unless their queue has none or its vector is masked")
  func debts() throws {
    try expectBroken("no interrupt will follow 1 entries of completion queue 1") { engine, _ in
      engine.completionQueues[1].unannounced = 1
    }
    try expectBroken("nothing") { engine, _ in engine.completionQueues[2].unannounced = 1 }
    try expectBroken("nothing") { engine, _ in
      engine.completionQueues[1].unannounced = 1
      engine.intms = 1 << 1
    }
  }

  @Test("counts of awaited requests equal the requests that are marked")
  func awaited() throws {
    try expectBroken("waits for 1 writes") { engine, _ in engine.awaitedWrites = 1 }
    try expectBroken("a Set Features waits for 0 requests, 1 are awaited") { engine, slot in
      engine.executions[slot].awaitedBy = .setFeatures
    }
    try expectBroken("a fused operation waits for 0 requests, 1 are awaited") { engine, slot in
      engine.executions[slot].awaitedBy = .fusion
    }
  }

  @Test("references to held commands refer to held commands")
  func holders() throws {
    try expectBroken("an event request is slot") { engine, slot in engine.eventRequests.append(Int32(slot)) }
    try expectBroken("the deletion of submission queue 2 is slot") { engine, slot in
      engine.submissionQueues[2].deletion = Int32(slot)
    }
    try expectBroken("the first fused command of submission queue 1 is slot") { engine, slot in
      engine.submissionQueues[1].first = Int32(slot)
    }
  }

  @Test("counters and positions stay within their bounds")
  func bounds() throws {
    try expectBroken("-1 executing") { engine, _ in engine.executing = -1 }
    try expectBroken("submission queue 1 of 64 entries has head 0 and tail 64") { engine, _ in
      (engine.submissionQueues[1].head, engine.submissionQueues[1].tail) = (0, 64)
    }
  }

  /// One completion fills the queue, another waits.
  private func makeWaiting() throws -> EngineBench {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1, entries: 2) == .success)
    #expect(bench.createPair(2) == .success)
    for _ in 0..<2 {
      bench.submit(1, EngineBench.io(.read, slba: .max, blocks: 1))
      bench.settle()
    }
    #expect(bench.controller.completionQueues[1].firstWaiting != Command.none)
    return bench
  }

  @Test("a completion waits in the queue of its submission queue")
  func waiting() throws {
    let bench = try makeWaiting()
    let queues = bench.controller.completionQueues
    let waiting = queues[1].firstWaiting
    (queues[1].firstWaiting, queues[1].lastWaiting, queues[1].isBlocked) = (Command.none, Command.none, false)
    (queues[2].firstWaiting, queues[2].lastWaiting) = (waiting, waiting)
    #expect(bench.controller.brokenInvariant()?.contains("waits in completion queue 2") == true)
  }
  @Test("recreating a submission queue leaves waiting completions of the previous one in place")
  func createdAnew() throws {
    let bench = try makeWaiting()
    #expect(bench.admin(.deleteIOSubmissionQueue) { $0.cdw10 = 1 }?.status == .success)
    let isCreated = bench.admin(.createIOSubmissionQueue) {
      $0.prp1 = EngineBench.address + UInt64(EngineBench.submission(1))
      ($0.cdw10, $0.cdw11) = (1 | 1 << 16, 1 | 2 << 16)
    }
    #expect(isCreated?.status == .success)
    #expect(bench.controller.completionQueues[1].firstWaiting != Command.none)
    #expect(bench.controller.brokenInvariant() == nil)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
    defer { bytes.deallocate() }
    let count = bench.controller.encode(into: bytes)
    let decoded = try Controller.decode(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    #expect(decoded.brokenInvariant() == nil)
  }
}
