import ArgumentParser
import CPlatform
import Foundation
import Host
import Platform
import Replay
import Service
import Text
import Trace

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure the engine, the recorder, traces and replay on this machine.",
    discussion: """
      The engine runs on core 0, the built-in host in another process on core 1,
      and the recorder's writer on any core. Recording alternates between off and
      on; each figure is the median of the turns, followed by its quartiles.
      """)

  @Option(help: ArgumentHelp("Turns per measurement", valueName: "number"))
  var turns = 7

  @Option(help: ArgumentHelp("Length of a turn", valueName: "seconds"))
  var seconds = 0.5

  @Flag(help: "Print one JSON object")
  var json = false

  @Flag(help: "Measure the kernel's probes instead: the cost of an event, and the event rate that reaches a file")
  var kernel = false

  func validate() throws {
    try require(turns >= 1 && seconds > 0, "--turns and --seconds must be more than 0")
  }

  func run() throws {
    sweepLeftovers()
    var rows: [BenchRow] = try kernel ? measureProbes() : []
    for (backend, depth) in kernel ? [] : [("null", 1), ("null", 32), ("memory", 32)] {
      rows += try measure(backend, depth)
    }
    if !kernel { rows += try measureDebugger() }
    if json {
      return print([
        "format": "nvmepf-bench/1", "machine": .string(BenchCommand.machine()), "rows": .array(rows.map(\.object)),
      ])
    }
    print("\(BenchCommand.machine()); nvmepf \(productVersion); \(turns) turns of \(seconds) s\n")
    print(BenchRow.heading)
    for row in rows { print(row.line) }
  }

  /// One backend and depth: recording alternately off and on, then the properties of the recordings.
  private func measure(_ backend: String, _ depth: Int) throws -> [BenchRow] {
    let name = "4 KiB random read, \(backend) backend, QD \(depth)"
    var (off, engineOnly, on) = (Samples(), Samples(), Samples())
    var (perEvent, perCommand, replaySpeed) = (Samples(), Samples(), Samples())
    var lost: UInt64 = 0
    for _ in 0..<turns {
      off.add(try BenchTurn(backend, depth, seconds, .none).run())
      engineOnly.add(try BenchTurn(backend, depth, seconds, .discarded).run())
      let folder = try RecordingDirectory.scratch()
      defer { folder.remove() }
      let path = folder.file("bench.nvpt")
      on.add(try BenchTurn(backend, depth, seconds, .trace(path)).run())
      let reader = try TraceReader(path: path)
      let totals = reader.totals
      lost += totals.lost
      perEvent.add(Double(reader.bytes) / Double(max(totals.events, 1)))
      perCommand.add(Double(reader.bytes) / Double(max(totals.commands, 1)))
      replaySpeed.add(try BenchCommand.replaySpeed(reader))
    }
    let engineCost = Samples(zip(engineOnly.values, off.values).map { $0 - $1 })
    let cost = Samples(zip(on.values, off.values).map { $0 - $1 })
    return [
      BenchRow(name, "ns a command", off, goal: depth == 1 ? "<= 1,000" : backend == "null" ? "<= 500" : "<= 1,250"),
      BenchRow("  with recording on, all of it", "ns a command", on),
      BenchRow("  cost of recording, engine's thread", "ns a command", engineCost, goal: "<= 150"),
      BenchRow("  cost of recording, all on two cores", "ns a command", cost),
      BenchRow("  trace size", "B an event", perEvent, goal: "<= 2.5"),
      BenchRow("  trace size", "B a command", perCommand, goal: "<= 24"),
      BenchRow("  events lost", "events", Samples([Double(lost)]), goal: "0"),
      BenchRow("  replay, every output compared", "commands/s", replaySpeed, goal: ">= 1,000,000"),
    ]
  }

  /// Target rate, in events per second.
  private static let probeRate = 2e6

  private func measureProbes() throws -> [BenchRow] {
    var (cost, throughput, unpaced) = (Samples(), Samples(), Samples())
    var lost: UInt64 = 0
    for _ in 0..<turns {
      let paced = try ProbeTurn(rate: BenchCommand.probeRate, seconds: seconds)
      cost.add(paced.nsPerEvent)
      throughput.add(paced.eventsPerSecond)
      lost += paced.lost
      unpaced.add(try ProbeTurn(rate: nil, seconds: seconds).eventsPerSecond)
    }
    return [
      BenchRow("kernel probe, in the kernel", "ns an event", cost, goal: "<= 200"),
      BenchRow("kernel events into a file, at 2 M/s", "events/s", throughput, goal: ">= 2,000,000"),
      BenchRow("  events lost", "events", Samples([Double(lost)]), goal: "0"),
      BenchRow("  at full speed, the rest is lost", "events/s", unpaced),
    ]
  }

  private static func replaySpeed(_ reader: TraceReader) throws -> Double {
    let begin = Clock.monotonicNs()
    let result = try ReplayResult(replaying: reader)
    if let divergence = result.divergence { throw Failure(description: "\(divergence)", status: 1) }
    return Double(result.commands) / Double(Clock.monotonicNs() - begin) * 1e9
  }

  private static func machine() -> String {
    let model = processorModel() ?? "unknown processor"
    return "\(model), \(sysconf(Int32(_SC_NPROCESSORS_ONLN))) cores"
  }
}

/// The host of a benchmark's turn.
struct BenchHostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "bench-host", shouldDisplay: false)

  @Option var iodepth: Int
  @Option var seconds: Double
  @Flag var fill = false

  func run() throws {
    nvmepf_pin_thread(1)
    guard let path = ProcessInfo.processInfo.environment["NVMEPF_SOCKET"] else {
      throw Failure(description: "bench-host runs only under nvmepf bench")
    }
    let controller = try HostController(path: path, recording: .fromEnvironment())
    // Unwritten memory is not allocated: write every block once, so that reads cause no page faults.
    if fill {
      let bytes = controller.maxTransferBytes
      let count = controller.namespace.bytes / UInt64(bytes)
      _ = try Workload(pattern: .write, blockBytes: bytes, depth: 1, length: .commands(count))
        .run(on: controller)
    }
    let workload = Workload(pattern: .randread, blockBytes: 4096, depth: iodepth, length: .seconds(seconds))
    let result = try workload.run(on: controller)
    guard result.errors == 0 else { throw Failure(description: "\(result.errors) commands failed", status: 1) }
    print(Double(result.ns) / Double(max(result.commands, 1)))
  }
}

/// Samples of one measurement.
struct Samples {
  private(set) var values: [Double] = []

  init(_ values: [Double] = []) { self.values = values }

  mutating func add(_ value: Double) { values.append(value) }

  /// The value below which this share of the samples lies.
  func quantile(_ share: Double) -> Double {
    let sorted = values.sorted()
    guard let last = sorted.indices.last else { return 0 }
    return sorted[Int((Double(last) * share).rounded())]
  }
}

struct BenchRow {
  let name: String
  let unit: String
  let samples: Samples
  let goal: String

  init(_ name: String, _ unit: String, _ samples: Samples, goal: String = "") {
    (self.name, self.unit, self.samples, self.goal) = (name, unit, samples, goal)
  }

  static let heading = columns("measured", "median", "quartiles", "unit", "goal")

  var line: String {
    BenchRow.columns(
      name, BenchRow.number(samples.quantile(0.5)),
      "\(BenchRow.number(samples.quantile(0.25)))..\(BenchRow.number(samples.quantile(0.75)))", unit, goal)
  }

  var object: JSON {
    [
      "name": .string(name.trimmingCharacters(in: .whitespaces)), "unit": .string(unit),
      "median": .number(samples.quantile(0.5)), "q1": .number(samples.quantile(0.25)),
      "q3": .number(samples.quantile(0.75)), "goal": .string(goal), "samples": .array(samples.values.map(JSON.number)),
    ]
  }

  private static func number(_ value: Double) -> String {
    Quantity.decimal(value, value.magnitude < 100 ? 2 : 0)
  }

  private static func columns(_ name: String, _ median: String, _ range: String, _ unit: String, _ goal: String)
    -> String
  {
    func left(_ text: String, _ width: Int) -> String { text.padding(toLength: width, withPad: " ", startingAt: 0) }
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    return "\(left(name, 46))\(right(median, 12))\(right(range, 24))  \(left(unit, 14))\(goal)"
  }
}
