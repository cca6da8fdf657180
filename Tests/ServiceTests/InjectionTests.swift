import Analysis
import Device
import Faults
import Foundation
import NVMe
import Testing
import Trace

@testable import Host
@testable import Service

@Suite("Time spent in a stage on purpose", .serialized)
struct InjectionTests {
  private let folder: Folder
  private var trace: String { folder.path + "/a.nvpt" }

  init() throws { folder = try Folder() }

  /// The finished I/O commands of a recording of reads and writes.
  private func commands(_ injection: String, count: UInt64 = 10) throws -> [CommandTimes] {
    var configuration = EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 2)
    configuration.faults = FaultPlan([try Fault(injection)])
    let endpoint = try ServedEndpoint(configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    let controller = try HostController(path: endpoint.socketPath, recording: endpoint.hostRecording)
    try run(count, on: controller)
    try controller.shutDown()
    try endpoint.finish()
    var all: [CommandTimes] = []
    var analyzer = StageAnalyzer()
    analyzer.onCommand = { if $0.qid != .admin { all.append(copy $0) } }
    try analyzer.ingestAll(of: TraceReader(path: trace))
    #expect(all.count == Int(2 * count))
    return all
  }

  /// Reads and writes, one at a time, by a host that waits for interrupts.
  private func run(_ count: UInt64, on controller: HostController) throws {
    let buffer = try controller.share(4096)
    var queue = try controller.makeQueuePair(depth: 1, sleeps: true)
    let interrupt = queue.interrupt
    for opcode in [IOOpcode.read, .write] {
      for _ in 0..<count {
        var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
        sqe.cdw12 = 7
        let isSubmitted = queue.submit(sqe, buffer: buffer.base, length: 4096)
        try #require(isSubmitted && interrupt != nil)
        queue.ring()
        while interrupt!.consume() == 0 { interrupt!.wait(atMostMs: 100) }
        while queue.reap(.max, { _, _ in }) == 0 {}
      }
    }
    try controller.delete(queue)
  }

  private func isOfStage(_ times: CommandTimes, _ stage: Fault.Stage) -> Bool {
    switch stage {
    case .dataIn: times.opcode == 1
    case .dataOut: times.opcode == 2
    default: true
    }
  }

  /// Nothing is said of other delays, which a busy machine may add anywhere: each stage's smallest value is that of a
  /// command without any.
  @Test("is in every command's stage of that name, and in no other", arguments: Fault.Stage.allCases)
  func attribution(stage: Fault.Stage) throws {
    let ns: UInt64 = 20_000_000
    let all = try commands("delay=\(stage.name):20ms")
    for other in Stage.allCases {
      let values = all.filter { isOfStage($0, stage) }.map { $0.stages[other] }
      // The clocks of the two may differ by some parts in a million.
      if other == .interrupt, stage == .interrupt {
        // The host may see the entry before the engine has recorded that it raised the interrupt.
        #expect(values.max()! >= ns - ns / 1000)
      } else if other.name == stage.name {
        #expect(values.min()! >= ns - ns / 1000, "\(other)")
      } else {
        #expect(values.min()! < ns, "\(other)")
      }
    }
    let untouched = all.filter { !isOfStage($0, stage) }.map(\.total).min()
    #expect(untouched ?? 0 < ns)
    #expect(all.map(\.unexplained).min()! < ns)
  }

  @Test("is in every Nth command, of one queue")
  func selects() throws {
    let some = try commands("delay=execute:20ms,every=4,sleep").map { $0.stages[.execute] >= 19_000_000 }
    // A busy machine may delay others, too.
    for (number, isDelayed) in some.enumerated() where number % 4 == 3 { #expect(isDelayed, "\(number)") }
    #expect(some.contains(false))
    let other = try commands("delay=execute:20ms,qid=2").map { $0.stages[.execute] }
    #expect(other.min()! < 20_000_000)
  }

  @Test("is in the trace's metadata")
  func isMarked() throws {
    _ = try commands("delay=map:1us,every=50,qid=1,sleep", count: 1)
    let metadata = try TraceReader(path: trace).header.metadata
    #expect(metadata.first { $0.key == "injected" }?.value == "delay=map:1us,qid=1,every=50,sleep")
    #expect(metadata.first { $0.key == "inject-seed" }?.value == "1")
  }
}
