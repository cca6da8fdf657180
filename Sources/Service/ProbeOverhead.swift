import FioGuard
import Foundation
import Platform
import Probe
import Trace

/// What the kernel's probes cost a command: how much longer it takes with them.
public struct ProbeOverhead: CustomStringConvertible {
  /// Of each pair of runs, what share of the time without probes the one with probes took beyond it.
  let costs: [Double]

  init(_ costs: [Double]) { self.costs = costs }

  /// Run the command without and with probes, in turn.
  public init(
    of command: RecordedCommand, pairs: Int, _ options: Probes.Options, subsystem: String?
  ) throws {
    let folder = try RecordingDirectory.scratch()
    defer { folder.remove() }
    let path = folder.file("overhead.nvpt")
    let watch = Watch("measuring what the probes cost")
    func seconds() throws -> Double {
      let begin = Clock.monotonicNs()
      let status = try Child(command.words).wait(watch)
      guard status == 0 else {
        throw Failure(description: "\(command.words[0].text) ended with status \(status)", status: status)
      }
      return Double(Clock.monotonicNs() - begin) / 1e9
    }
    var costs: [Double] = []
    for _ in 0..<pairs {
      let off = try seconds()
      let recording = try KernelRecording(options, subsystem: subsystem, output: path, command: [])
      var on = Double.nan
      let result = recording.record { _ in
        on = try seconds()
        return 0
      }
      if let failure = result.failure { throw failure }
      costs.append(on / off - 1)
    }
    self.costs = costs
  }

  public var description: String {
    let pairs = Double(costs.count)
    let mean = costs.reduce(0, +) / pairs
    let deviation = (costs.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (pairs - 1)).squareRoot()
    return String(
      format: "with probes the command takes %.1f %% longer (± %.1f, 95 %% of %d pairs)", 100 * mean,
      100 * 1.96 * deviation / pairs.squareRoot(), costs.count)
  }
}
