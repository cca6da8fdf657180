import NVMe
import Target
import Testing
import Trace

@testable import Endpoint

/// Checkpoints hold values that no engine has counted up to.
@Suite("Checkpoints from outside")
struct CheckpointTests {
  private func enabled() throws -> EngineBench {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1) == .success)
    return bench
  }

  /// The bench's state as bytes, and the engine that they make.
  private func decode(_ bench: EngineBench) throws -> Controller { try Controller.decode(bench.controller.encoded()) }

  private func expectRefused(_ bench: EngineBench, _ what: Comment) {
    #expect(throws: CheckpointError.self, what) { _ = try decode(bench) }
  }

  @Test("full counters wrap, and the replay continues")
  func counts() throws {
    let bench = try enabled()
    let full = UInt64.max
    bench.controller.target.errors = ErrorLog(count: full)
    bench.controller.target.health.hostReadCommands = full
    bench.controller.target.health.hostWriteCommands = full
    bench.controller.target.health.bytesRead = full
    bench.controller.target.health.bytesWritten = full
    bench.controller.target.health.mediaErrors = full
    bench.controller.target.health.unsafeShutdowns = full
    bench.controller.target.health.powerCycles = full
    bench.checkpoint()
    let from = try #require(bench.recorded.lastIndex { $0.event == .checkpoint })
    for opcode in [IOOpcode.read, .write] {
      #expect(bench.execute(1, EngineBench.io(opcode, slba: 0, blocks: 1))?.status == .success)
    }
    #expect(bench.execute(1, EngineBench.io(.read, slba: .max, blocks: 1))?.status.isSuccess == false)
    bench.controller.reset(.disconnect, &bench.port)
    bench.enable()
    bench.checkpoint()
    #expect(bench.controller.target.errors.count == 0 && bench.controller.target.health.bytesRead == 511)
    let replayed = Array(bench.recorded[from...])
    try expectIdentical(replayed)
  }

  @Test("a queue with more entries to announce than it has is refused")
  func unannounced() throws {
    let bench = try enabled()
    bench.controller.completionQueues[1].unannounced = 64
    _ = try decode(bench)
    bench.controller.completionQueues[1].unannounced = .max
    expectRefused(bench, "entries to announce")
  }

  @Test("a list of changed namespaces without room for later changes is refused")
  func changedNamespaces() throws {
    let bench = try enabled()
    bench.controller.target.changedNamespaces = [1, 7, 1024]
    _ = try decode(bench)
    for changed in [[0], [7, 7], [7, 1], [1025], [.max]] as [[UInt32]] {
      bench.controller.target.changedNamespaces = changed
      expectRefused(bench, "\(changed)")
    }
  }

  @Test("more segments in flight than a checkpoint can contain are refused")
  func segments() throws {
    let bench = try enabled()
    for number in 0..<65 as Range<Int32> {
      let sqe = EngineBench.io(.read, cid: UInt16(number), slba: 0, blocks: 1)
      let slot = bench.controller.slots.allocate()
      bench.controller.commands[Int(slot)] = Command(sqe: sqe, qid: QueueID(1), state: .executing)
      var request = IORequest(
        opcode: .read, nsid: 1, qid: QueueID(1), cid: sqe.cid, slba: 0, blocks: 1, blockShift: 9)
      request.slot = slot
      bench.controller.held(Int(slot)).initialize(
        repeating: Segment(address: PCIAddress(0), length: 0), count: Controller.segmentsMax)
      bench.controller.keep(Execution(request: request, segments: Controller.segmentsMax))
      if number == 63 { _ = try decode(bench) }
    }
    expectRefused(bench, "65 times 1024 segments")
  }
}
