import Analysis
import Events
import NVMe
import Recording
import Target
import Testing
import Trace

@testable import Simulation

@Suite("A report's stages, when time is added at a known point")
struct TruthTests {
  /// Keeps the events of a run in memory.
  private struct Collector: Recorder, ~Copyable {
    final class Events {
      var all: [(record: Record, tail: [UInt8])] = []
    }

    static var isOn: Bool { true }
    let time: VirtualTime
    let events: Events
    var keepsPayload: Bool { false }
    func append(_ record: Record) { events.all.append((record, [])) }
    func append(_ record: Record, entry: SubmissionEntry) {
      events.all.append((record, withUnsafeBytes(of: entry, Array.init)))
    }
    func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) { events.all.append((record, Array(bytes))) }
    func isCheckpointDue(now: UInt64) -> Bool { false }
    func checkpoint(_ state: UnsafeRawBufferPointer) {}
    func finish() {}
  }

  /// A finished I/O command, and how often it passed each point.
  private struct Told {
    let times: CommandTimes
    let passes: [DelayPoint: UInt64]
  }

  /// Commands of one host at QD 1, in order; nothing but `delays` takes time beside reading the clock.
  private func run(_ delays: [DelayPoint: UInt64]) -> [Told] {
    var scenario = Scenario()
    scenario.ioQueues = 1
    scenario.submissionEntries = [64]
    scenario.completionEntries = [64]
    scenario.usesInterrupts = [true]
    let world = World()
    defer { world.deallocate() }
    let events = Collector.Events()
    var simulator = Simulator(
      scenario, seed: 11, world: world, recorder: Collector(time: world.time, events: events), goesOn: { _ in true })
    for (point, ns) in delays { simulator.port.inner.delays[point] = ns }
    simulator.run(commands: 400)
    #expect(world.violation == nil)
    return told(events)
  }

  private func told(_ events: Collector.Events) -> [Told] {
    var passes: [UInt16: [DelayPoint: UInt64]] = [:]
    var told: [Told] = []
    var analyzer = StageAnalyzer()
    analyzer.onCommand = { times in
      guard times.qid != .admin else { return }
      told.append(Told(times: times, passes: passes.removeValue(forKey: times.cid.rawValue) ?? [:]))
    }
    for (record, tail) in events.all {
      if let (cid, point) = point(of: record) { passes[cid, default: [:]][point, default: 0] += 1 }
      tail.withUnsafeBytes { analyzer.ingest(record, source: .engine, tail: $0) }
    }
    return told
  }

  /// The I/O command that an event is about, and the point that it shows to be passed.
  private func point(of record: Record) -> (cid: UInt16, DelayPoint)? {
    switch record.event {
    case .fetch where Event.Fetch(record).qid != 0: (Event.Fetch(record).cid, .fetch)
    case .read where Event.Read(record).qid != 0: (Event.Read(record).cid, .read)
    case .map where Event.Map(record).qid != 0: (Event.Map(record).cid, .map)
    case .executeBegin where Event.ExecuteBegin(record).qid != 0: (Event.ExecuteBegin(record).cid, .execute)
    case .segment:
      (
        Event.Segment(record).cid,
        Event.Segment(record).flags.contains(.fromHost) ? .transferFromHost : .transferToHost
      )
    default: nil
    }
  }

  private func stage(of point: DelayPoint) -> Stage {
    switch point {
    case .fetch: .fetch
    case .begin: .dispatch
    case .read, .map: .map
    case .transferFromHost: .dataIn
    case .transferToHost: .dataOut
    case .execute: .execute
    case .prepare: .complete
    case .interrupt: .interrupt
    }
  }

  @Test(
    "the added time is in the stage of that name, to the nanosecond, and no other stage changes",
    arguments: DelayPoint.allCases, [1000, 1_000_000] as [UInt64])
  func attribution(point: DelayPoint, ns: UInt64) {
    let before = run([:])
    let after = run([point: ns])
    #expect(before.count >= 399 && after.count == before.count)
    var seen: UInt64 = 0
    for (plain, delayed) in zip(before, after) {
      // One turn, one completion and one interrupt each.
      let passes = [.begin, .prepare, .interrupt].contains(point) ? 1 : delayed.passes[point] ?? 0
      seen += passes
      for stage in Stage.allCases {
        let expected = stage == self.stage(of: point) ? passes * ns : 0
        let added = Int64(delayed.times.stages[stage]) - Int64(plain.times.stages[stage])
        #expect(added == Int64(expected), "\(stage) of a command with opcode \(delayed.times.opcode ?? 0)")
      }
      #expect(plain.times.unexplained == delayed.times.unexplained)
    }
    #expect(seen > 0, "no command passed this point")
  }
}
