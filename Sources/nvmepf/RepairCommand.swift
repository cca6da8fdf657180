import ArgumentParser
import Trace

struct RepairCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "repair",
    abstract: "Close a trace whose recorder was killed: keep every whole chunk and what the rings still hold.")

  @OptionGroup var file: TraceFile

  @Option(name: [.short, .customLong("output")], help: "Write here, and leave the trace as it is.")
  var output: String?

  func run() throws {
    let (path, target) = (file.path, output ?? file.path)
    let outcome = try Failure.wrap { () throws(TraceError) in try TraceRepair.repair(path, output: target) }
    print(
      "\(target): \(outcome.chunks) chunks kept, \(grouped(outcome.recovered)) events recovered from rings, "
        + "\(grouped(outcome.droppedBytes)) bytes given up; \(grouped(outcome.events)) events in all")
  }
}
