import Foundation
import Simulation
import Testing
import Trace

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

  @Test("everything holds, with faults and without", arguments: 0..<24 as Range<UInt64>)
  func holds(seed: UInt64) throws {
    for hasFaults in [false, true] {
      let result = try run(seed, hasFaults: hasFaults).result
      #expect(result.failure == nil, "seed \(seed): nvmepf simulate --seed \(seed) --commands 400 repeats it")
      #expect(result.commands >= 400)
      #expect(result.replay.commands >= 400)
    }
  }

  @Test("a seed fixes the recording to the byte")
  func repeats() throws {
    for (seed, payload) in [(5, false), (11, true)] as [(UInt64, Bool)] {
      let first = try run(seed, payload: payload).trace
      #expect(try run(seed, payload: payload).trace == first)
      #expect(try run(seed + 1, payload: payload).trace != first)
    }
  }

  @Test("faults happen: commands fail, the controller is reset, and all of it is survived")
  func disturbs() throws {
    var resets: UInt64 = 0
    for seed in 100..<116 as Range<UInt64> { resets += try run(seed).result.resets }
    #expect(resets > 0)
  }
}
