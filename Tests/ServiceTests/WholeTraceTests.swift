import Analysis
import Foundation
import Replay
import Testing
import Trace

@testable import Service
@testable import record_golden

@Suite("Whole traces")
struct WholeTraceTests {
  private static let traces =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path + "/traces"

  private func golden(_ name: String) throws -> TraceReader { try TraceReader(path: "\(Self.traces)/\(name).nvpt") }

  @Test("the golden traces of our engine replay", arguments: GoldenScenario.allCases)
  func replays(scenario: GoldenScenario) throws {
    let result = try ReplayResult(replaying: golden(scenario.rawValue))
    #expect(result.divergence == nil && result.commands > 0)
  }

  @Test("a golden trace that is recorded now replays too", arguments: GoldenScenario.allCases)
  func records(scenario: GoldenScenario) throws {
    let folder = try Folder()
    let path = folder.path + "/a.nvpt"
    try scenario.record(to: path)
    let result = try ReplayResult(replaying: TraceReader(path: path))
    #expect(result.divergence == nil && result.commands > 0)
  }

  @Test("the kernel's trace has nothing of our engine to replay")
  func hasNoEngine() throws {
    let result = try ReplayResult(replaying: golden("nvmet-pci-epf"))
    #expect(result.events == 0 && result.divergence == nil)
  }

  @Test("the requested controller of the kernel is replayed, by default the busiest")
  func choosesController() throws {
    let reader = try golden("nvmet-pci-epf")
    let (chosen, others) = try KernelController.choose(nil, in: reader)
    let busiest = try #require(chosen)
    #expect(others.allSatisfy { $0.events <= busiest.events && $0.controller != busiest.controller })
    #expect(try KernelController.choose(busiest.controller, in: reader).chosen?.nqn == busiest.nqn)
    let error = #expect(throws: Failure.self) { try KernelController.choose(999, in: reader) }
    #expect(
      error?.description.hasPrefix("\(reader.path) has no controller 999 of the kernel's target, only ") == true)
    #expect(try KernelController.choose(nil, in: golden("qd1-read")).chosen == nil)
    #expect(throws: Failure.self) { try KernelController.choose(1, in: golden("qd1-read")) }
  }

  @Test("what probes cost is a mean with its confidence")
  func overhead() {
    #expect(
      ProbeOverhead([0.1, 0.1, 0.1]).description
        == "with probes the command takes 10.0% longer (±0.0%, 95% confidence, 3 pairs)")
    #expect(
      ProbeOverhead([0, 0.02]).description
        == "with probes the command takes 1.0% longer (±2.0%, 95% confidence, 2 pairs)")
  }
}
