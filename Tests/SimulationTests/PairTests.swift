import Analysis
import Diff
import Testing

@testable import Simulation

@Suite("Comparisons of whole runs")
struct PairTests {
  /// Commands of one queue at depth 4, whose backend takes `serviceNs` for each.
  private func run(seed: UInt64, serviceNs: ClosedRange<UInt64>) -> Breakdown {
    var scenario = Scenario()
    scenario.ioQueues = 1
    scenario.submissionEntries = [64]
    scenario.completionEntries = [64]
    scenario.usesInterrupts = [true]
    scenario.depth = 4
    scenario.parallelism = 4
    scenario.serviceNs = serviceNs
    let world = World(judgesQueues: false)
    defer { world.deallocate() }
    let analysis = AnalysingRecorder.Analysis()
    var simulator = Simulator(
      scenario, seed: seed, world: world,
      recorder: AnalysingRecorder(source: .engine, world: world, analysis: analysis),
      host: AnalysingRecorder(source: .host, world: world, analysis: analysis), goesOn: { _ in true })
    simulator.run(commands: 3000)
    simulator.complete()
    #expect(world.violation == nil)
    return analysis.summary.io
  }

  @Test("equal backends are not told apart, and one that is 5% slower is", arguments: 1...3 as ClosedRange<UInt64>)
  func pairs(seed: UInt64) throws {
    let a = run(seed: 3 * seed, serviceNs: 40_000...60_000)
    let equal = Comparison([a], [run(seed: 3 * seed + 1, serviceNs: 40_000...60_000)])
    let slower = Comparison([a], [run(seed: 3 * seed + 2, serviceNs: 42_000...63_000)])
    let execute = Statistic(.stage(.execute))
    #expect((equal.totals + equal.parts).filter { $0.isSeparated }.isEmpty)
    #expect(try #require(slower.parts.first { $0.statistic == execute }).isSeparated)
    let limits = try ["execute > +2%", "execute > +10%", "execute.p50 > +2%", "mean > +2%"].map {
      try #require(ChangeLimit($0))
    }
    #expect(limits.map { $0.verdict(slower, amongst: 1) } == [.exceeded, .notExceeded, .exceeded, .exceeded])
    #expect(limits.map { $0.verdict(equal, amongst: 1) } == limits.map { _ in .notExceeded })
  }
}
