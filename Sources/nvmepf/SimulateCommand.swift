import ArgumentParser
import Endpoint
import Foundation
import Platform
import Simulation
import Text
import Trace

struct SimulateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate",
    abstract: "Run the engine with a host, a backend and faults that a seed makes, in virtual time.",
    discussion: """
      Records and replays every run, and checks the engine's state, every
      completion and all data. A seed fixes a run: the same command gives the
      same trace again, byte for byte.

      Exit status: 0 everything held, 1 something did not (its trace is kept),
      2 the simulation could not run.
      """)

  @Option(help: ArgumentHelp("What the run is made from (default: drawn, and printed).", valueName: "number"))
  var seed: UInt64?

  @Option(help: ArgumentHelp("Commands of a run.", valueName: "number"))
  var commands: UInt64 = 10_000

  @Option(help: ArgumentHelp("Runs, each with the seed after the one before.", valueName: "number"))
  var seeds: UInt64 = 1

  @Flag(inversion: .prefixedNo, help: "Let backends, interrupts, memory, link and namespaces fail.")
  var faults = true

  @Option(
    name: [.customShort("o"), .long], help: ArgumentHelp("Keep the recording, of a single run.", valueName: "file"))
  var output: String?

  @Flag(help: "Print one JSON object.")
  var json = false

  #if MUTANTS
    @Option(help: "Plant this fault in the engine.", transform: SimulateCommand.mutant)
    var mutant: Mutant?

    private static func mutant(_ name: String) throws -> Mutant {
      guard let mutant = Mutant(rawValue: name) else {
        throw ValidationError("the mutants are \(Mutant.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      return mutant
    }
  #endif

  func validate() throws {
    guard commands >= 1, commands <= 1 << 40 else { throw ValidationError("--commands: from 1 to 2^40 are possible") }
    guard seeds >= 1 else { throw ValidationError("--seeds: at least 1 is needed") }
    guard output == nil || seeds == 1 else { throw ValidationError("-o keeps one run: leave out --seeds") }
  }

  func run() throws {
    let first = seed ?? .random(in: 0...0xffff_ffff)
    #if MUTANTS
      Mutant.planted = mutant
    #endif
    let begin = Clock.monotonicNs()
    var total = Totals()
    for number in 0..<seeds {
      let seed = first &+ number
      let result = try run(seed)
      total.add(result)
      if let failure = result.failure { try fail(seed, failure) }
      if seeds > 1, isatty(STDERR_FILENO) == 1, number % 16 == 0 {
        showProgress("seed \(seed): \(grouped(total.commands)) commands so far")
      }
    }
    if seeds > 1, isatty(STDERR_FILENO) == 1 { showProgress("") }
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    print(json ? total.jsonText(first, seeds, seconds) : total.text(first, seeds, seconds))
  }

  private func path(_ seed: UInt64) -> String {
    output ?? "\(NSTemporaryDirectory())/nvmepf-simulate-\(getpid())-\(seed).nvpt"
  }

  private func run(_ seed: UInt64) throws -> Simulation.Result {
    var simulation = Simulation(seed: seed, commands: commands)
    simulation.hasFaults = faults
    let path = path(seed)
    let result = try Failure.wrap { () throws(TraceError) in try simulation.run(path: path) }
    if output == nil, result.failure == nil { unlink(path) }
    return result
  }

  private func fail(_ seed: UInt64, _ failure: String) throws -> Never {
    let options = (faults ? "" : " --no-faults") + " --commands \(commands)"
    throw Failure(
      lines: [
        "seed \(seed): \(failure)",
        "version \(Nvmepf.configuration.version): nvmepf simulate --seed \(seed)\(options) repeats it",
        "its recording is \(path(seed))",
      ], status: 1)
  }

  private struct Totals {
    var commands: UInt64 = 0
    var resets: UInt64 = 0
    var ns: UInt64 = 0
    var events: UInt64 = 0

    mutating func add(_ result: Simulation.Result) {
      commands += result.commands
      resets += result.resets
      ns += result.ns
      events += result.replay.events
    }

    func text(_ first: UInt64, _ seeds: UInt64, _ seconds: Double) -> String {
      let which = seeds == 1 ? "seed \(first)" : "seeds \(first) to \(first &+ seeds - 1)"
      let speed = grouped(UInt64(Double(commands) / max(seconds, 1e-9)))
      return String(
        format:
          "%@: everything held: %@ commands, %@ events, %@ resets, %.3f s of virtual time in %.2f s (%@ commands/s)",
        which, grouped(commands), grouped(events), grouped(resets), Double(ns) / 1e9, seconds, speed)
    }

    func jsonText(_ first: UInt64, _ seeds: UInt64, _ seconds: Double) -> String {
      let object: JSON = [
        "first_seed": .integer(first), "seeds": .integer(seeds), "commands": .integer(commands),
        "events": .integer(events), "resets": .integer(resets), "virtual_ns": .integer(ns), "seconds": .number(seconds),
      ]
      return object.line
    }
  }
}
