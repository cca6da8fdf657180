import ArgumentParser
import Foundation
import Platform
import Service
import Simulation
import Text
import Trace

struct SimulateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate",
    abstract: "Run the engine with a host, a backend and faults generated from a seed.",
    usage: "nvmepf simulate [<options>]",
    discussion: """
      Time is virtual. Each run is recorded and replayed; the engine's state,
      every completion and all data are checked. The same seed gives the same
      trace, byte for byte. A failure prints the command that repeats it, and
      keeps its trace.

      Ctrl-C ends a run early. The part so far is checked, and kept with -o.

        nvmepf simulate --seed 7 --commands 100000 -o seven.nvpt
        nvmepf simulate --seed 1 --seeds 1000 --commands 1000

      With --truth, add 1 µs and 1 ms at each of many points of host, engine and
      backend, in commands of every shape, and check that the report shows exactly
      this time in exactly one place. One line per point: runs in which it did, and
      all runs.

      Exit status: 0 no violation, 1 a violation or divergence, 2 the simulation
      could not run, 130 interrupted without a violation.
      """)

  @Option(help: ArgumentHelp("Generate the run from this seed (default: random, printed)", valueName: "number"))
  var seed: UInt64?

  @Option(help: ArgumentHelp("Commands per run", valueName: "number"))
  var commands: UInt64 = 10_000

  @Option(help: ArgumentHelp("Number of runs with consecutive seeds", valueName: "number"))
  var seeds: UInt64 = 1

  @Flag(inversion: .prefixedNo, help: "Inject faults of backends, interrupts, memory, link and namespaces")
  var faults = true

  @Option(
    name: [.customShort("o"), .long], help: ArgumentHelp("Keep the recording of a single run", valueName: "file"),
    completion: .trace)
  var output: String?

  @Option(help: StateHashInterval.help)
  var stateHashEvery: UInt64?

  @Flag(help: "Check the report against time added at known points")
  var truth = false

  @Flag(help: "Print one JSON object")
  var json = false

  func validate() throws {
    try require((1...1 << 40).contains(commands), "--commands must be between 1 and 2^40")
    try require(seeds >= 1, "--seeds must be at least 1")
    try StateHashInterval.check(stateHashEvery)
    try require(
      !truth || seed == nil && commands == 10_000 && seeds == 1 && faults && output == nil && stateHashEvery == nil,
      "--truth runs a fixed table: it takes no other option than --json")
    try require(output == nil || seeds == 1, "-o and --seeds exclude each other: -o keeps a single run")
  }

  func run() throws {
    OwnProcess.prepare()
    if truth { return try runTruth() }
    var total = Totals(first: seed ?? .random(in: 0...0xffff_ffff))
    let watch = Watch()
    for number in 0..<seeds where !watch.isInterrupted {
      let seed = total.first &+ number
      let result = try run(seed, watch, total.commands)
      total.add(result)
      if let failure = result.failure {
        watch.end()
        try fail(seed, failure, total)
      }
    }
    watch.end()
    print(json ? total.jsonText(watch) : total.text(watch))
    if watch.isInterrupted { throw ExitCode(128 + SIGINT) }
  }

  private func path(_ seed: UInt64) -> String {
    output ?? "\(NSTemporaryDirectory())/nvmepf-simulate-\(getpid())-\(seed).nvpt"
  }

  private func run(_ seed: UInt64, _ watch: Watch, _ before: UInt64) throws -> Simulation.Result {
    var simulation = Simulation(seed: seed, commands: commands)
    simulation.hasFaults = faults
    simulation.stateHashEvery = stateHashEvery
    let path = path(seed)
    let result = try simulation.run(path: path) { watch.goesOn("seed \(seed)", $0, before) }
    if output == nil, result.failure == nil { unlink(path) }
    return result
  }

  // MARK: Truth

  private func runTruth() throws {
    if !json { print(TruthTable.Row.heading) }
    var rows: [TruthTable.Row] = []
    var table = TruthTable()
    while let row = table.nextRow(), OwnProcess.nextArrival(withinMs: 0)?.isEnding != true {
      rows.append(row)
      if !json { print(row.text) }
    }
    let isWhole = rows.count == TruthTable.points
    let failures = rows.flatMap { row in row.failures.map { "\(row.point): \($0)" } }
    if json {
      print(
        JSON.object([
          ("format", "nvmepf-truth/1"), ("points", .array(rows.map(\.json))), ("interrupted", .boolean(!isWhole)),
        ]).line)
    }
    guard failures.isEmpty else { throw Failure(lines: Array(failures.prefix(20)), status: 1) }
    guard isWhole else { throw ExitCode(128 + SIGINT) }
  }

  // MARK: Failures

  /// The command that repeats the run.
  private func repetition(_ seed: UInt64) -> String {
    "nvmepf simulate --seed \(seed) --commands \(commands)\(faults ? "" : " --no-faults")"
  }

  private func fail(_ seed: UInt64, _ failure: String, _ total: Totals) throws -> Never {
    if json {
      print([
        "format": "nvmepf-simulate/1", "failure": .string(failure), "seed": .string("\(seed)"),
        "version": .string(productVersion),
        "repeat": .string(repetition(seed)), "trace": .string(path(seed)),
      ])
    }
    let lines = [
      "seed \(seed): \(failure)", "version \(productVersion), to repeat it: \(repetition(seed))",
      "its trace: \(path(seed))",
    ]
    guard json else { throw Failure(lines: lines, status: 1) }
    // The object above already contains the failure.
    for line in lines { complain(line) }
    throw ExitCode(1)
  }

  // MARK: Progress

  /// Progress on the terminal, and signals that end a run early.
  private final class Watch {
    private let begin = Clock.monotonicNs()
    private var nextNs: UInt64
    private(set) var isInterrupted = false
    private let isShown = isatty(STDERR_FILENO) == 1

    init() { nextNs = begin + 1_000_000_000 }

    var seconds: Double { Double(Clock.monotonicNs() - begin) / 1e9 }

    func goesOn(_ what: String, _ progress: Simulation.Progress, _ before: UInt64) -> Bool {
      if OwnProcess.nextArrival(withinMs: 0)?.isEnding ?? false { isInterrupted = true }
      let now = Clock.monotonicNs()
      if isShown, now >= nextNs {
        nextNs = now + 200_000_000
        switch progress {
        case .simulating(let commands): showProgress("\(what): \(Quantity.count(before + commands)) commands so far")
        case .replaying: showProgress("\(what): replaying")
        }
      }
      return !isInterrupted
    }

    func end() { if isShown { showProgress("") } }
  }

  // MARK: Results

  private struct Totals {
    let first: UInt64
    var runs: UInt64 = 0
    var commands: UInt64 = 0
    var resets: UInt64 = 0
    var ns: UInt64 = 0
    var events: UInt64 = 0
    var simulationNs: UInt64 = 0
    var replayNs: UInt64 = 0

    init(first: UInt64) { self.first = first }

    mutating func add(_ result: Simulation.Result) {
      runs += 1
      commands += result.commands
      resets += result.resets
      ns += result.ns
      events += result.replay.events
      simulationNs += result.simulationNs
      replayNs += result.replayNs
    }

    func text(_ watch: Watch) -> String {
      let what = watch.isInterrupted ? "interrupted without a violation" : "no violation"
      let which = runs == 1 ? "seed \(first)" : "seeds \(first) to \(first &+ runs &- 1)"
      return "\(which): \(what): \(Quantity.count(commands)) commands, \(Quantity.count(events)) events, "
        + "\(Quantity.count(resets)) resets, \(Quantity.decimal(Double(ns) / 1e9, 3)) s of virtual time in "
        + "\(Quantity.decimal(watch.seconds, 2)) s; simulated and recorded at \(speed(simulationNs)), "
        + "replayed at \(speed(replayNs))"
    }

    private func speed(_ ns: UInt64) -> String {
      "\(Quantity.decimal(Double(commands) * 1e9 / Double(max(ns, 1)), 0)) commands/s"
    }

    func jsonText(_ watch: Watch) -> String {
      let object: JSON = [
        "format": "nvmepf-simulate/1", "first_seed": .string("\(first)"),
        "seeds": .integer(runs), "commands": .integer(commands),
        "events": .integer(events), "resets": .integer(resets), "virtual_ns": .integer(ns),
        "seconds": .number(watch.seconds), "simulation_seconds": .number(Double(simulationNs) / 1e9),
        "replay_seconds": .number(Double(replayNs) / 1e9), "interrupted": .boolean(watch.isInterrupted),
      ]
      return object.line
    }
  }
}

extension TruthTable.Row {
  fileprivate static var heading: String {
    line("time added at", "shown as", TruthTable.depths.map { "QD \($0)" })
  }

  fileprivate var text: String {
    let cells = TruthTable.depths.map { depth in
      runs.first { $0.depth == depth }.map { "\($0.right)/\($0.all)" } ?? "-"
    }
    return TruthTable.Row.line(point, place, cells)
  }

  fileprivate var json: JSON {
    let runs = runs.map {
      JSON.object([("depth", .integer($0.depth)), ("right", .integer($0.right)), ("all", .integer($0.all))])
    }
    return .object([
      ("point", .string(point)), ("shown_as", .string(place)), ("runs", .array(runs)),
      ("failures", .array(failures.map(JSON.string))),
    ])
  }

  private static func line(_ point: String, _ place: String, _ cells: [String]) -> String {
    let words = [(point, 24), (place, 24)] + cells.map { ($0, 8) }
    return words.map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined()
  }
}
