import Foundation
import Platform
import Probe
import Trace

/// What the kernel's probes cost and carry: a program in the kernel emits events on core 0 at a given rate, and they go
/// the way of every recording, into a file.
struct ProbeBench {
  let turns: Int
  let seconds: Double

  /// Events a second, the figure to reach.
  private static let rate = 2e6

  func run() throws(Failure) -> [BenchRow] {
    var cost = Samples()
    var throughput = Samples()
    var lost: UInt64 = 0
    var unpaced = Samples()
    for _ in 0..<turns {
      let paced = try turn(rate: ProbeBench.rate)
      cost.add(paced.nsPerEvent)
      throughput.add(paced.eventsPerSecond)
      lost += paced.lost
      unpaced.add(try turn(rate: nil).eventsPerSecond)
    }
    return [
      BenchRow("kernel probe, in the kernel", "ns an event", cost, goal: "<= 200"),
      BenchRow("kernel events into a file, at 2 M/s", "events/s", throughput, goal: ">= 2,000,000"),
      BenchRow("  events lost", "events", Samples([Double(lost)]), goal: "0"),
      BenchRow("  as fast as they come, the rest is lost", "events/s", unpaced),
    ]
  }

  private struct Turn {
    var nsPerEvent: Double
    var eventsPerSecond: Double
    var lost: UInt64
  }

  private func turn(rate: Double?) throws(Failure) -> Turn {
    let probes = try Failure.wrap { () throws(ProbeError) in try Probes(measuring: 8 << 20) }
    let id = TraceID.random()
    let directory = try Failure.wrap { () throws(TraceError) in
      try RecordingDirectory(creating: id, tracePath: nil, ringBytes: KernelRecorder.Budget().bytes)
    }
    defer { directory.remove() }
    let path = directory.file("bench.nvpt")
    var writing = TraceWriter.Options()
    writing.clocks = { .now(.monotonic) }
    let recorder = try Failure.wrap { [writing] () throws(TraceError) in
      try RecorderThread(
        TraceWriter(path: path, id: id, scale: .monotonicFromNow(), directory: directory, options: writing))
    }
    let kernel = try Failure.wrap { () throws(ProbeError) in
      try KernelRecorder(probes, directory: directory.path, traceID: id, clock: .same)
    }
    let begin = Clock.monotonicNs()
    let producer = try Failure.wrap { [seconds] () throws(SystemError) in
      try WorkerThread(name: "nvmepf-events", core: 0) {
        var events = 0.0
        while true {
          let elapsed = Double(Clock.monotonicNs() - begin) / 1e9
          if elapsed >= seconds { return }
          if let rate, events > elapsed * rate { continue }
          probes.emitForMeasurement()
          events += Double(Probes.measuredEvents)
        }
      }
    }
    producer.join()
    let elapsed = Double(Clock.monotonicNs() - begin) / 1e9
    let cost = probes.costs().first
    kernel.stop()
    let summary = recorder.stop()
    if let error = summary.error { throw Failure(description: error.description, status: 1) }
    return Turn(
      nsPerEvent: Double(cost?.ns ?? 0) / Double(max(cost?.runs ?? 1, 1)) / Double(Probes.measuredEvents),
      eventsPerSecond: Double(kernel.events) / elapsed, lost: kernel.lost)
  }
}
