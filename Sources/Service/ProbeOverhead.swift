import FioGuard
import Foundation
import Platform
import Probe
import Text
import Trace

/// The cost of the kernel's probes for a command: how much longer it takes with them.
public struct ProbeOverhead: CustomStringConvertible {
  /// By pair of runs: the additional time with probes as a share of the time without.
  let costs: [Double]

  init(_ costs: [Double]) { self.costs = costs }

  /// Run the command alternately without and with probes.
  public init(
    of command: RecordedCommand, pairs: Int, _ options: Probes.Options, subsystem: String?
  ) throws {
    let folder = try RecordingDirectory.scratch()
    defer { folder.remove() }
    let path = folder.file("overhead.nvpt")
    let watch = Watch("measuring the cost of the probes")
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
    let interval = 1.96 * deviation / pairs.squareRoot()
    return "with probes the command takes \(Quantity.decimal(100 * mean, 1))% longer "
      + "(±\(Quantity.decimal(100 * interval, 1))%, 95% confidence, \(costs.count) pairs)"
  }
}
