import Foundation
import Platform
import Probe
import Trace

/// Measures the cost and throughput of the kernel's probes: a program in the kernel emits events on core 0 at a given
/// rate, and they are recorded into a file as usual.
public struct ProbeTurn {
  /// Time per event in the kernel.
  public let nsPerEvent: Double
  /// Events that reached the file.
  public let eventsPerSecond: Double
  public let lost: UInt64

  /// Measure it.
  /// - Parameter rate: events a second; nil for as many as there can be.
  public init(rate: Double?, seconds: Double) throws {
    let probes = try Probes(measuring: 8 << 20)
    let folder = try RecordingDirectory.scratch()
    defer { folder.remove() }
    let recording = try KernelRecording(probes, output: folder.file("bench.nvpt"), command: ["bench"])
    let begin = Clock.monotonicNs()
    let producer = try WorkerThread(name: "nvmepf-events", core: 0) {
      var events = 0.0
      while true {
        let elapsed = Double(Clock.monotonicNs() - begin) / 1e9
        if elapsed >= seconds { return }
        if let rate, events > elapsed * rate { continue }
        probes.emitForMeasurement()
        events += Double(Probes.measuredEvents)
      }
    }
    producer.join()
    let elapsed = Double(Clock.monotonicNs() - begin) / 1e9
    let cost = probes.costs().first
    try recording.finish()
    nsPerEvent = Double(cost?.ns ?? 0) / Double(max(cost?.runs ?? 1, 1)) / Double(Probes.measuredEvents)
    eventsPerSecond = Double(recording.kernel.events) / elapsed
    lost = recording.kernel.lost
  }
}
