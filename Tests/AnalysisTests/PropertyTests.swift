import Analysis
import Chance
@_spi(Places) import Events
import NVMe
import Testing
import Trace

@Suite("Traces with arbitrary events")
struct PropertyTests {
  @Test("every command's stages add up, for plausible traffic", arguments: 1...20 as ClosedRange<UInt64>)
  func plausible(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var script = Script.enabled()
    var time: UInt64 = 1000
    for number in UInt32(0)..<500 {
      var way = Way(cid: UInt16(number), slot: number, hasHost: seed % 2 == 0)
      way.turn = .random(in: 0...100, using: &random)
      way.dispatch = .random(in: 0...50, using: &random)
      way.dataIn = .random(in: 0...1000, using: &random)
      way.dataOut = .random(in: 0...1000, using: &random)
      way.execute = .random(in: 0...100_000, using: &random)
      way.afterMap = .random(in: 0...3, using: &random)
      way.interrupt = Bool.random(using: &random) ? nil : 40
      time = way.play(at: time + 100, into: &script)
    }
    let run = script.run()
    #expect(run.commands.count == 500)
    #expect(run.summary.partial == 0)
    for times in run.commands { #expect(times.stages.sum + times.unexplained == times.total) }
    let sum = run.summary.io.stages.reduce(run.summary.io.unexplained.sumNs) { $0 + $1.sumNs }
    #expect(sum == run.summary.io.latency.sumNs)
  }

  @Test(
    "events in any order and number neither stop the analysis nor break a sum", arguments: 1...30 as ClosedRange<UInt64>
  )
  func hostile(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var script = seed % 3 == 0 ? Script() : Script.enabled()
    var time: UInt64 = 0
    let kinds = EventKind.allCases
    for _ in 0..<20_000 {
      time &+= .random(in: 0...20, using: &random)
      if UInt64.random(in: 0..<5000, using: &random) == 0 { time = .random(in: 0 ... .max, using: &random) }
      var record = Record(
        time: time, kind: kinds.randomElement(using: &random)!, flags: .random(in: 0...3, using: &random),
        qid: .random(in: 0...3, using: &random), cid: .random(in: 0...15, using: &random),
        a: .random(in: 0...31, using: &random),
        b: Record.pair(.random(in: 0...3, using: &random) << 16, .random(in: 0...3, using: &random) << 16))
      if record.kind == EventKind.gap.rawValue || record.kind == EventKind.reset.rawValue,
        UInt64.random(in: 0..<100, using: &random) != 0
      {
        record.kind = EventKind.fetch.rawValue
      }
      if UInt64.random(in: 0..<200, using: &random) == 0 {
        record.a = .random(in: 0 ... .max, using: &random)
        record.b = .random(in: 0 ... .max, using: &random)
        record.qid = .random(in: 0 ... .max, using: &random)
      }
      script.add(
        record, Source.allCases.randomElement(using: &random)!, stream: .random(in: 0...2, using: &random),
        tail: record.kind == EventKind.fetch.rawValue ? [UInt8.random(in: 0...12, using: &random)] : [])
    }
    for grouping in [Grouping.queue, .opcode] {
      let run = script.run(grouping: grouping)
      for times in run.commands { #expect(times.stages.sum + times.unexplained == times.total) }
      #expect(run.summary.events == UInt64(script.events.count))
    }
  }

  @Test("a flood of fetches that never complete is held in bounded memory")
  func flood() {
    var analyzer = StageAnalyzer()
    for number in UInt32(0)..<1_200_000 {
      analyzer.ingest(
        Record(
          time: UInt64(number), kind: .fetch, qid: UInt16(truncatingIfNeeded: number >> 8),
          cid: UInt16(truncatingIfNeeded: number), a: UInt64(number & 0xff)), source: .engine)
    }
    let summary = analyzer.summary()
    #expect(summary.partial + summary.unfinished <= 1_200_000)
    #expect(summary.io.commands == 0)
  }
}
