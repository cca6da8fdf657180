import Debugger
import Platform
import Simulation
import Trace

extension BenchCommand {
  private static let commands: UInt64 = 10_000_000
  /// Movements per turn, spread over the recording.
  private static let movements: UInt64 = 20

  /// Movements of the debugger in a simulated recording of ten million commands, which takes some ten seconds to make.
  func measureDebugger() throws -> [BenchRow] {
    let folder = try RecordingDirectory.scratch()
    defer { folder.remove() }
    let path = folder.file("long.nvpt")
    _ = try Simulation(seed: 1, commands: BenchCommand.commands).run(path: path)
    let reader = try TraceReader(path: path)
    let debugger = try Debugger.open(reader, write: { _ in })
    let end = reader.chunks.last?.header.lastTime ?? 0
    var (goes, steps) = (Samples(), Samples())
    let count = UInt64(turns) * BenchCommand.movements
    for number in 0..<count {
      // Here and there, so that no movement finds what the one before has replayed.
      let time = end / count * (number * 7919 % count)
      goes.add(try BenchCommand.milliseconds { _ = try debugger.perform("goto \(time)ns") })
      steps.add(try BenchCommand.milliseconds { _ = try debugger.perform("reverse-step 5000") })
    }
    return [
      BenchRow("debugger, 10 M commands: goto a time", "ms", goes, goal: "<= 100"),
      BenchRow("  reverse-step by 5,000 events", "ms", steps, goal: "<= 100"),
    ]
  }

  private static func milliseconds(_ body: () throws -> Void) rethrows -> Double {
    let begin = Clock.monotonicNs()
    try body()
    return Double(Clock.monotonicNs() - begin) / 1e6
  }
}
