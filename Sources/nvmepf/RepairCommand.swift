import ArgumentParser
import Service
import Text
import Trace

struct RepairCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "repair",
    abstract: "Close a trace whose recorder was killed, with every intact chunk and the events left in its rings.",
    discussion: "Exit status: 0 repaired, 2 not repaired; then the trace is unchanged.")

  @OptionGroup var file: TraceArgument

  @Option(
    name: [.short, .customLong("output")], help: "Write here and keep the damaged trace (default: replace it)",
    completion: .trace)
  var output: String?

  func run() throws {
    let (path, output) = (file.path, output)
    let report = try TraceRepair.repair(path, output: output)
    _ = RecordingDirectory.sweep()
    for problem in report.problems { complain(problem.description) }
    print(
      "\(report.path): \(Quantity.count(report.chunksKept)) chunks kept, \(Quantity.count(report.eventsRecovered)) events recovered from "
        + "rings, \(Quantity.count(report.bytesDropped)) bytes discarded; \(Quantity.count(report.events)) events in total"
    )
  }
}
