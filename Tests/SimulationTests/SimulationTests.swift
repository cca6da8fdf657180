import Analysis
import Foundation
import NVMe
import Recording
import Target
import Testing
import Trace

@testable import Simulation

@Suite("The simulated world")
struct SimulationTests {
  private func path(_ name: String) -> String {
    NSTemporaryDirectory() + "nvmepf-simulation-test-\(ProcessInfo.processInfo.processIdentifier)-\(name).nvpt"
  }

  private func run(_ seed: UInt64, commands: UInt64 = 400, hasFaults: Bool = true, payload: Bool = false) throws
    -> (result: Simulation.Result, trace: Data)
  {
    var simulation = Simulation(seed: seed, commands: commands)
    simulation.hasFaults = hasFaults
    simulation.keepsPayload = payload
    let path = path("\(seed)-\(hasFaults)-\(payload)-\(UInt64.random(in: 0...UInt64.max))")
    defer { unlink(path) }
    let result = try simulation.run(path: path)
    return (result, try Data(contentsOf: URL(filePath: path)))
  }

  @Test("no rule is violated, with and without faults", arguments: 0..<24 as Range<UInt64>)
  func holds(seed: UInt64) throws {
    for hasFaults in [false, true] {
      let result = try run(seed, hasFaults: hasFaults).result
      #expect(result.failure == nil, "seed \(seed): nvmepf simulate --seed \(seed) --commands 400 repeats it")
      #expect(result.commands >= 400)
      #expect(result.replay.commands >= 400)
    }
  }

  @Test("a seed determines every byte of the recording")
  func repeats() throws {
    for (seed, payload) in [(5, false), (11, true)] as [(UInt64, Bool)] {
      let first = try run(seed, payload: payload).trace
      #expect(try run(seed, payload: payload).trace == first)
      #expect(try run(seed + 1, payload: payload).trace != first)
    }
  }

  @Test("the host records its side, and the report joins it with the engine's", arguments: [1, 2, 3] as [UInt64])
  func recordsHost(seed: UInt64) throws {
    var simulation = Simulation(seed: seed, commands: 20_000)
    simulation.hasFaults = false
    let path = path("host-\(seed)")
    defer { unlink(path) }
    _ = try simulation.run(path: path)
    let summary = try Summary(of: TraceReader(path: path))
    #expect(summary.io.commands >= 20_000 && summary.commandsFromHost == summary.io.commands)
    #expect(summary.partial == 0 && summary.inversions == 0)
    #expect(summary.handling?.count == summary.io.commands)
  }

  @Test("a run that is stopped early keeps its recording, which replays")
  func stops() throws {
    func stopped() throws -> (result: Simulation.Result, trace: Data) {
      let path = path("stopped-\(UInt64.random(in: 0...UInt64.max))")
      defer { unlink(path) }
      let result = try Simulation(seed: 2, commands: 1 << 40).run(path: path) {
        if case .simulating(let commands) = $0 { commands < 5000 } else { true }
      }
      return (result, try Data(contentsOf: URL(filePath: path)))
    }
    let (result, trace) = try stopped()
    #expect(result.failure == nil && (5000..<100_000).contains(result.commands))
    #expect(result.replay.commands >= result.commands && result.replay.divergence == nil)
    #expect(try stopped().trace == trace)
  }

  @Test("two threads replay each event of a recording once, and a replay can be stopped")
  func replaysHalves() throws {
    let path = path("halves")
    defer { unlink(path) }
    let result = try Simulation(seed: 2, commands: 20_000).run(path: path)
    let reader = try TraceReader(path: path)
    let engine = reader.chunks.filter { $0.header.id.source == .engine }
    #expect(result.replay.events == engine.reduce(0) { $0 + UInt64($1.header.events) })
    let stopped = try Simulation(seed: 2, commands: 20_000).run(path: path) {
      if case .replaying = $0 { false } else { true }
    }
    #expect(stopped.failure == nil && stopped.commands == result.commands)
    #expect(stopped.replay.events < result.replay.events)
  }

  @Test("the seeds of these tests cover every kind of host")
  func drawsAll() {
    let scenarios = (0..<24).map { Scenario(seed: $0, hasFaults: true) }
    let wanted: [(Scenario) -> Bool] = [
      { $0.fuses && $0.depth > 1 }, \.aborts, { $0.keepAliveMs > 0 }, \.cancelsBegun, { $0.parallelism == 0 },
      { $0.parallelism > 0 }, \.fetchesBatches, { $0.faults!.disturbance > 0 },
    ]
    for (index, isWanted) in wanted.enumerated() { #expect(scenarios.contains(where: isWanted), "\(index)") }
  }

  @Test("a request between a fused Compare and its Write is detected")
  func watchesFusions() {
    func request(_ opcode: IOOpcode, _ cid: UInt16) -> IORequest {
      IORequest(
        opcode: opcode, nsid: 1, qid: QueueID(1), cid: CommandID(cid), slba: 0, blocks: 1, blockShift: 9)
    }
    let (compare, write, other) = (request(.compare, 1), request(.write, 2), request(.read, 3))
    var watch = FusionWatch()
    for (request, fuse) in [(compare, 1), (write, 2)] as [(IORequest, UInt32)] {
      var sqe = SubmissionEntry(opcode: request.opcode.rawValue, cid: request.cid, nsid: 1)
      sqe.cdw0 |= fuse << 8
      watch.fetched(sqe, QueueID(1))
    }
    /// Whether each of these consecutive requests is allowed.
    func verdicts(_ requests: [(request: IORequest, status: Status)], inProgress: [IORequest] = []) -> [Bool] {
      var watch = watch
      for request in inProgress { _ = watch.begin(request) }
      return requests.map {
        let isRight = watch.begin($0.request) == nil
        watch.end($0.request, $0.status)
        return isRight
      }
    }
    #expect(
      verdicts([(other, .success), (compare, .success), (write, .success), (other, .success)]) == [
        true, true, true, true,
      ])
    #expect(verdicts([(compare, .success)], inProgress: [other]) == [false])
    #expect(verdicts([(write, .success)]) == [false], "no Compare has begun")
    #expect(verdicts([(compare, .success), (other, .success)]) == [true, false], "its Write has not begun")
    #expect(verdicts([(other, .success)], inProgress: [compare]) == [false])
    #expect(
      verdicts([(compare, .compareFailure), (other, .success)]) == [true, true], "no Write follows")
  }

  @Test("several pending interrupts of a vector arrive as the first and the last")
  func mergesInterrupts() {
    var pending = World.PendingInterrupts()
    for ns in [50, 20, 90, 70] as [UInt64] { pending.add(ns) }
    let found = ([19, 20, 89, 90, 1000] as [UInt64]).map { pending.consume($0) }
    #expect(found == [false, true, false, true, false])
    for ns in [5, 6] as [UInt64] { pending.add(ns) }
    let isFound = pending.consume(10)
    #expect(isFound && pending.firstNs == .max, "one poll consumes both")
  }

  @Test("a controller that has failed need not complete a shutdown", arguments: 0..<8 as Range<UInt64>)
  func failsBeforeShutdown(seed: UInt64) {
    let world = World()
    defer { world.deallocate() }
    var simulator = Simulator(
      Scenario(seed: seed, hasFaults: true), seed: seed, world: world, recorder: NoRecorder(), host: NoRecorder(),
      goesOn: { _ in true })
    simulator.run(commands: 0)
    simulator.write(Register.cc, 0)
    var unsupported = ControllerConfiguration.enabled.rawValue
    unsupported |= 1 << 7  // MPS
    simulator.write(Register.cc, UInt64(unsupported))
    #expect(simulator.controller.csts.fatal)
    simulator.shutDown()
    #expect(world.violation == nil && simulator.controller.csts.ready)
  }

  @Test("runs include resets")
  func disturbs() throws {
    var resets: UInt64 = 0
    for seed in 100..<116 as Range<UInt64> { resets += try run(seed).result.resets }
    #expect(resets > 0)
  }
}
