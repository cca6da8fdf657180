import ArgumentParser
import Faults
import Foundation
import Host
import Service
import Text

struct TormentCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "torment",
    abstract: "Try a driver under every fault, with a trace of each.",
    discussion: """
      The driver is the built-in workload, a COMMAND that is started once for each
      fault and uses the endpoint like that of record, or a client of --socket that
      connects again for each fault. The table shows what the controller saw: how
      often the fault struck, commands, errors, aborts, resets; what the driver
      could not cope with; and whether the trace replays.

        nvmepf torment
        nvmepf torment -- fio job.fio
        nvmepf torment --inject drop-completion,every=100 --inject wrong-phase,once

      Exit status: 0 the driver came through every fault; 1 it did not, or a replay
      diverged; 2 nothing ran.

      Without --inject each of about twenty faults strikes in turn; without
      --backend the namespace is memory:64MiB.
      """)

  @Option(
    name: [.short, .customLong("output")],
    help: ArgumentHelp("Write the traces into this folder", valueName: "folder"), completion: .directory)
  var output = "nvmepf-torment"

  @Option(help: ArgumentHelp("Serve a client on this socket", valueName: "path"), completion: .file())
  var socket: String?

  @OptionGroup var endpoint: EndpointOptions

  @Option(help: ArgumentHelp("Built-in workload: commands for each fault", valueName: "commands"))
  var number: UInt64 = 2000

  @Option(
    help: ArgumentHelp("With --socket: duration of each fault, from its first command", valueName: "seconds"))
  var runtime = 10.0

  @Option(
    help: ArgumentHelp(
      "Time limit of a command for the built-in workload, which then aborts it, and for fio", valueName: "seconds"))
  var timeout = 0.5

  @Flag(help: "Print one JSON object")
  var json = false

  @Argument(parsing: .postTerminator, help: "Command to run, after --")
  var command: [String] = []

  func validate() throws {
    try require(socket == nil || command.isEmpty, "a command and --socket exclude each other")
    try require(
      number >= 1 && runtime > 0 && runtime <= 1_000_000 && timeout > 0 && timeout <= 1_000_000,
      "--number must be at least 1, --runtime and --timeout more than 0 and at most 1,000,000 seconds")
    try require(endpoint.flightRecorder == nil, "--flight-recorder does not work with torment")
  }

  func run() throws {
    var endpoint = endpoint
    // Some faults need data.
    if endpoint.backend == "null" { endpoint.backend = "memory:64MiB" }
    var configuration = try endpoint.configuration(place: socket)
    let plan = configuration.faults
    let faults = try plan.isEmpty ? Fault.trials.map { try Fault($0) } : plan.faults
    configuration.faults = .init()
    let recorded = RecordedCommand(command.map { Array($0.utf8) }, allowsRealDevices: false)
    if !command.isEmpty { try recorded.check() }
    OwnProcess.prepare()
    sweepLeftovers()
    let torment = try Torment(configuration, folder: output, driver: driver(recorded))
    var runs: [Torment.Run] = []
    if !json { print(TormentCommand.heading) }
    for (index, fault) in faults.enumerated() where !OwnProcess.isEnding {
      let run = try torment.run(fault, number: index + 1, seed: plan.seed)
      runs.append(run)
      if !json { print(TormentCommand.line(run)) }
    }
    if json { print(TormentCommand.json(runs)) }
    let failed = runs.filter { !$0.isIdentical || $0.gaveUp }
    if !json {
      print(
        "\n\(Quantity.count(runs.count - failed.count)) of \(Quantity.count(faults.count, "fault")) survived; the traces are in \(output)"
      )
    }
    if !failed.isEmpty || runs.count < faults.count { throw ExitCode(1) }
  }

  private func driver(_ recorded: RecordedCommand) -> Torment.Driver {
    if let socket { return .client(socket: socket, seconds: runtime) }
    if !command.isEmpty { return .command(recorded, timeout: timeout) }
    // Commands of this length have PRP lists.
    var workload = Workload(pattern: .randrw, blockBytes: 16384, depth: 8, length: .commands(number))
    workload.recovers = true
    return .builtIn(workload, timeoutNs: UInt64(timeout * 1e9))
  }

  // MARK: Output

  private static let heading = row(["fault", "injected", "commands", "errors", "aborts", "resets", "replay"], "driver")

  private static func line(_ run: Torment.Run) -> String {
    let tally = run.tally
    let counts = [tally.injected, tally.commands, tally.errors, tally.aborts, tally.resets].map { Quantity.count($0) }
    return row(["\(run.fault)"] + counts + [run.replay ?? "-"], run.notes ?? "came through")
  }

  private static func row(_ cells: [String], _ driver: String) -> String {
    let widths = [36, 8, 8, 6, 6, 6, 9]
    let all = zip(cells, widths).enumerated().map { index, cell in
      let fill = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
      return index == 0 || index == 6 ? cell.0 + fill : fill + cell.0
    }
    return all.joined(separator: "  ") + "  " + driver
  }

  private static func json(_ runs: [Torment.Run]) -> JSON {
    let all = runs.map { run -> JSON in
      let tally = run.tally
      return [
        "fault": .string("\(run.fault)"), "trace": .string(run.trace ?? ""), "injected": .integer(tally.injected),
        "commands": .integer(tally.commands), "errors": .integer(tally.errors), "aborts": .integer(tally.aborts),
        "resets": .integer(tally.resets), "driver": .string(run.notes ?? ""), "gave_up": .boolean(run.gaveUp),
        "replay": .string(run.replay ?? ""),
      ]
    }
    return ["format": "nvmepf-torment/1", "runs": .array(all)]
  }
}
