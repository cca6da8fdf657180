import Analysis
import Device
import Events
import Faults
import Foundation
import NVMe
import Replay
import Testing
import Trace

@testable import Host
@testable import Service

/// Each fault against the built-in host on a live endpoint: what the host sees, what is recorded, and that the recording
/// replays.
@Suite("Faults", .serialized)
struct FaultTests {
  private let folder: Folder
  private var trace: String { folder.path + "/a.nvpt" }

  init() throws { folder = try Folder() }

  /// What a run under faults left.
  private struct Outcome {
    /// Of the workload; nil if it gave up.
    var result: Workload.Result?
    var error: HostError?
    /// The fault events, without those of ends, and those of ends.
    var faults: [Event.Fault] = []
    var ends: [Event.Fault] = []
    /// Interrupt events of I/O queues.
    var interrupts = 0
    /// What the endpoint counted.
    var counted: UInt64 = 0
  }

  private func run(
    _ specs: String..., commands: UInt64 = 400, depth: Int = 4, blockBytes: Int = 4096, seed: UInt64 = 1,
    pattern: Workload.Pattern = .randrw, sleeps: Bool = false, timeoutNs: UInt64 = 2_000_000_000,
    change: (inout Workload) -> Void = { _ in }
  ) throws -> Outcome {
    var configuration = EndpointConfiguration(backend: .memory(bytes: 16 << 20), ioQueuesMax: 4)
    configuration.faults = FaultPlan(try specs.map { try Fault($0) }, seed: seed)
    let endpoint = try ServedEndpoint(configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    var outcome = Outcome()
    do throws(HostError) {
      let controller = try HostController(
        path: endpoint.socketPath, recording: endpoint.hostRecording, timeoutNs: timeoutNs)
      var workload = Workload(pattern: pattern, blockBytes: blockBytes, depth: depth, length: .commands(commands))
      change(&workload)
      outcome.result = try workload.run(on: controller, sleeps: sleeps)
      try controller.shutDown()
    } catch { outcome.error = error }
    if let kind = configuration.faults.faults.first?.kind { outcome.counted = endpoint.function.faultCounts[kind] }
    try endpoint.finish()
    let reader = try TraceReader(path: trace)
    let replay = try ReplayResult(replaying: reader)
    #expect(replay.divergence == nil, "\(specs): \(String(describing: replay.divergence))")
    var events = try MergedEvents(reader)
    while let event = try events.next() {
      if event.record.pointee.is(.interrupt), Event.Interrupt(event.record.pointee).cqid != 0 {
        outcome.interrupts += 1
      }
      guard event.record.pointee.is(.fault) else { continue }
      let fault = Event.Fault(event.record.pointee)
      if fault.ended == 0 { outcome.faults.append(fault) } else { outcome.ends.append(fault) }
    }
    #expect(outcome.counted == UInt64(outcome.faults.count { $0.rule == 1 }))
    return outcome
  }

  /// A workload that recovers, with short time limits.
  private func recover(_ specs: String..., commands: UInt64 = 400) throws -> Outcome {
    // Swift passes no variadic arguments on.
    switch specs.count {
    case 1: try run(specs[0], commands: commands, timeoutNs: 300_000_000) { $0.recovers = true }
    default: try run(specs[0], specs[1], commands: commands, timeoutNs: 300_000_000) { $0.recovers = true }
    }
  }

  // MARK: Completions

  @Test("a dropped completion is missing, and all others arrive")
  func dropsCompletion() throws {
    let outcome = try recover("drop-completion,after=300,once")
    let result = try #require(outcome.result)
    #expect(outcome.faults.count == 1)
    #expect((result.timeouts, result.aborts, result.resets, result.lost) == (1, 1, 1, 1))
    #expect(result.commands == 399 && result.errors == 0 && result.unexpected == 0)
  }

  @Test("a dropped completion that leaves a hole hides all later ones")
  func dropsCompletionWithHole() throws {
    let outcome = try run("drop-completion,hole,after=300,once", timeoutNs: 300_000_000)
    #expect(outcome.error?.kind == .late && outcome.faults.count == 1)
    #expect(outcome.error?.description.contains("command") == true)
    let result = try #require(try recover("drop-completion,hole,after=300,once").result)
    #expect(result.lost == 4 && result.resets == 1 && result.commands == 396)
  }

  @Test("many dropped completions do not fill the queue, nor do duplicates")
  func countsEntries() throws {
    // More than the queue has entries.
    let duplicates = try run("duplicate-completion")
    #expect(duplicates.result?.commands == 400 && duplicates.faults.count > 350)
    #expect(try run("late-completion=100us,every=2").result?.commands == 400)
  }

  @Test("a duplicate completion arrives twice")
  func duplicatesCompletion() throws {
    let outcome = try run("duplicate-completion,every=150")
    #expect(outcome.faults.count == 2 && outcome.result?.unexpected == 2)
    #expect(outcome.result?.commands == 400)
  }

  @Test("a late completion and a reordered one arrive later", arguments: ["late-completion=5ms", "reorder-completion"])
  func delaysCompletion(spec: String) throws {
    let outcome = try run("\(spec),every=100")
    #expect(outcome.faults.count == 4 && outcome.ends.count == 4)
    #expect(outcome.result?.commands == 400 && outcome.result?.unexpected == 0)
  }

  @Test("late completions reach a host that waits for interrupts")
  func announcesLateCompletion() throws {
    let outcome = try run("late-completion=2ms,every=20", depth: 1, sleeps: true)
    #expect(outcome.faults.count == 20 && outcome.ends.count == 20 && outcome.result?.commands == 400)
  }

  @Test("a reordered completion follows the next one")
  func reorders() throws {
    let outcome = try run("reorder-completion=1s,after=100,once", depth: 4)
    let held = try #require(outcome.faults.first)
    var seen: [UInt16] = []
    var events = try MergedEvents(try TraceReader(path: trace))
    while let event = try events.next() {
      guard event.id.source == .host, event.record.pointee.is(.completion) else { continue }
      seen.append(Event.Completion(event.record.pointee).cid)
    }
    // Completion 100 and 101 have changed places.
    #expect(seen.count == 400 && seen[101] == held.cid)
  }

  @Test("a wrong phase tag after a wrap hides its entry")
  func hidesEntry() throws {
    let outcome = try run("wrong-phase,after-wrap,once", timeoutNs: 300_000_000)
    #expect(outcome.error?.kind == .late)
    // The first entry of the second round.
    #expect(outcome.faults.map(\.detail) == [0])
  }

  @Test("a wrong SQHD and a wrong CID are what the host reads")
  func changesEntry() throws {
    let wrongHead = try run("wrong-sqhd=5,after=10,once")
    #expect(wrongHead.faults.count == 1 && wrongHead.result?.commands == 400)
    let wrongCID = try recover("wrong-cid=9,after=100,once")
    #expect(wrongCID.result?.unexpected == 1 && wrongCID.result?.lost == 1)
    let fault = try #require(wrongCID.faults.first)
    #expect(fault.detail == UInt64(fault.cid) + 9)
  }

  // MARK: Interrupts and doorbells

  @Test(
    "interrupts are dropped, doubled or late, and the engine's record shows them as raised",
    arguments: ["drop-interrupt,every=200", "duplicate-interrupt,every=100", "late-interrupt=1ms,every=100"])
  func changesInterrupt(spec: String) throws {
    let outcome = try run(spec, depth: 1, sleeps: true)
    let isLate = spec.hasPrefix("late")
    #expect(outcome.faults.count == (spec.hasPrefix("drop") ? 2 : 4) && outcome.interrupts == 400)
    #expect(outcome.ends.count == (isLate ? 4 : 0) && outcome.result?.commands == 400)
  }

  @Test("a doorbell is stuck for a time, or until a reset")
  func sticks() throws {
    let short = try run("stuck-doorbell=2ms,every=20", depth: 1)
    #expect(short.faults.count == 20 && short.ends.count == 20 && short.result?.commands == 400)
    let result = try #require(try recover("stuck-doorbell,after=50,once").result)
    #expect(result.resets == 1 && result.lost > 0 && result.commands + result.lost == 400)
  }

  // MARK: Data and backends

  @Test("a PRP list that is read one entry too far lacks its last entry")
  func shiftsList() throws {
    let outcome = try run("prp-off-by-one,every=100", blockBytes: 65536)
    #expect(outcome.faults.count == 4 && outcome.result?.errors == 4)
    #expect(outcome.result?.firstError.code == 0x02)
  }

  @Test("a slow request takes its time, and can be aborted")
  func slowsRequest() throws {
    let slow = try run("slow-request=5ms,every=100")
    #expect(slow.faults.count == 4 && slow.ends.count == 4 && slow.result?.commands == 400)
    let result = try #require(try recover("slow-request=forever,after=100,once").result)
    #expect((result.timeouts, result.aborts, result.resets, result.errors) == (1, 1, 0, 1))
    #expect(result.firstError.code == 0x07 && result.commands == 400)
  }

  @Test("a stall holds every request until it ends")
  func stalls() throws {
    let outcome = try run("stall=20ms,after=100,once")
    #expect(outcome.faults.count == 1 && outcome.ends.count == 4 && outcome.result?.commands == 400)
  }

  @Test("an admin command's completion can be dropped, too")
  func dropsAdmin() throws {
    let outcome = try recover(
      "slow-request=forever,after=100,once", "drop-completion,qid=0,opcode=abort,once")
    #expect(outcome.faults.map(\.rule) == [1, 2])
    #expect(outcome.result?.resets == 1 && outcome.result?.lost == 1)
  }

  @Test("a short transfer leaves the second half of the buffer as it was")
  func shortens() throws {
    var configuration = EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 1)
    configuration.faults = FaultPlan([try Fault("short-transfer,opcode=read")])
    let endpoint = try ServedEndpoint(configuration, output: .trace(trace), logLevel: .critical)
    try endpoint.start()
    let controller = try HostController(path: endpoint.socketPath)
    let buffer = try controller.share(4096)
    memset(buffer.base, 0xaa, 4096)
    var queue = try controller.makeQueuePair(depth: 1)
    var sqe = SubmissionEntry(opcode: 0x02, cid: CommandID(0), nsid: 1)
    sqe.cdw12 = 7
    let isSubmitted = queue.submit(sqe, buffer: buffer.base, length: 4096)
    #expect(isSubmitted)
    queue.ring()
    while queue.reap(.max, { _, _ in }) == 0 {}
    try controller.delete(queue)
    try endpoint.finish()
    let bytes = UnsafeRawBufferPointer(start: buffer.base, count: 4096)
    #expect(bytes[..<2048].allSatisfy { $0 == 0 } && bytes[2048...].allSatisfy { $0 == 0xaa })
  }

  @Test("a failed transfer ends its command with Data Transfer Error")
  func failsTransfer() throws {
    let outcome = try run("fail-transfer,every=100")
    #expect(outcome.faults.count == 4 && outcome.result?.errors == 4)
    #expect(outcome.result?.firstError.code == 0x04)
  }

  @Test("an error strikes the commands that its conditions select, and carries its status")
  func selectsErrors() throws {
    let all = try run("error=unrecovered-read-error,dnr,opcode=read", pattern: .read)
    #expect(all.result?.errors == 400 && (all.result?.firstError.rawValue ?? 0) & 0x47ff == 0x4281)
    #expect(try run("error=0x281,opcode=write", pattern: .read).faults.isEmpty)
    #expect(try run("error=0x281,nsid=2", pattern: .read).faults.isEmpty)
    #expect(try run("error=0x281,qid=2", pattern: .read).faults.isEmpty)
    // Sequential reads of eight blocks: these two.
    #expect(try run("error=0x281,lba=15..16", pattern: .read).result?.errors == 2)
    #expect(try run("error=0x281,after=10,every=10,times=3", pattern: .read).result?.errors == 3)
  }

  @Test("the same seed strikes the same commands")
  func isSeeded() throws {
    func struck(_ seed: UInt64) throws -> [UInt16] {
      try run("error=0x281,rate=0.1", depth: 1, seed: seed, pattern: .read).faults.map(\.cid)
    }
    let first = try struck(7)
    #expect(first.count > 10 && first.count < 100)
    #expect(try struck(7) == first)
    #expect(try struck(8) != first)
  }

  // MARK: The controller

  @Test("a host that resets the controller recovers from a lost link and from a fatal error")
  func recovers() throws {
    for spec in ["link-loss=50ms,after=100,once", "controller-fatal,after=100,once"] {
      let outcome = try recover(spec)
      let result = try #require(outcome.result, "\(spec): \(String(describing: outcome.error))")
      #expect(outcome.faults.count == 1 && result.resets == 1 && result.lost > 0, "\(spec)")
      #expect(result.commands + result.lost == 400, "\(spec)")
    }
  }

  @Test("a report counts the faults, and blames no host for them")
  func reports() throws {
    for spec in ["fail-transfer,every=100,times=2", "controller-fatal,after=100,once"] {
      let outcome = try recover(spec)
      var analyzer = StageAnalyzer()
      try analyzer.ingestAll(of: TraceReader(path: trace))
      let summary = analyzer.summary()
      #expect(summary.faults.values.reduce(0, +) == UInt64(outcome.faults.count) && !outcome.faults.isEmpty)
      #expect(summary.hostBehaviour.isEmpty, "\(spec): \(summary.hostBehaviour)")
    }
  }

  // MARK: The host

  @Test("a host can misbehave")
  func misbehaves() throws {
    func run(_ misbehaviour: Workload.Misbehaviour) throws -> Outcome {
      try self.run(timeoutNs: 300_000_000) { $0.misbehaviour = misbehaviour }
    }
    #expect(try run(.neverDrain).error?.kind == .late)
    #expect(try run(.reuseCID).result?.unexpected == 1)
    let reset = try #require(try run(.resetInFlight).result)
    #expect(reset.resets == 1 && reset.commands + reset.lost == 400)
  }
}
