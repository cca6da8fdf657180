import Analysis
import ArgumentParser
import Report
import Service
import Text
import Trace

extension Grouping: ExpressibleByArgument {}

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show where a recording's latency and throughput go.",
    discussion: """
      The stages of a command, whose times add up to its total:

        detect     doorbell written until the fetch begins
        fetch      transfer of the submission queue entry
        dispatch   fetched until a worker starts it (the kernel's target)
        map        data pointer and lists read
        data-in    transfer of the data from the host
        execute    the backend's time
        data-out   transfer of the data to the host
        complete   ready until the completion queue entry is in host memory
        interrupt  until the interrupt that announces it
        reap       until the host's head doorbell takes the entry
      """)

  @OptionGroup var file: TraceArgument

  @Flag(help: "Print one JSON object")
  var json = false

  @Option(help: "Add a table for each queue or opcode")
  var by: Grouping?

  @Option(
    help: ArgumentHelp(
      "Report on this controller of the kernel's target (default: our endpoint, else the busiest controller)",
      valueName: "number"))
  var controller: UInt16?

  func run() throws {
    let reader = try file.openTolerantly()
    let subject = try Subject(of: reader, controller: controller, isQuiet: json)
    let summary = try Summary(of: reader, subject, by: by)
    print(json ? Report.json(summary) : Report.text(summary))
    try file.requireComplete(reader)
  }
}

extension Subject {
  /// The commands to analyse: those of the given controller of the kernel's target, else of our endpoint, else of the
  /// busiest controller, which is reported if there are others.
  init(of reader: TraceReader, controller: UInt16?, isQuiet: Bool) throws {
    self = .endpoint
    let engines = reader.chunks.contains { $0.header.id.source == .engine }
    if controller == nil, engines { return }
    let (chosen, others) = try KernelController.choose(controller, in: reader)
    guard let chosen else { return }
    self = .controller(chosen.controller)
    // Streams without a controller have no name.
    let named = others.filter { !$0.nqn.isEmpty }
    guard controller == nil, !isQuiet, !named.isEmpty else { return }
    let list = named.map { "\($0.controller) (\($0.nqn.printable()))" }.joined(separator: ", ")
    tell(
      "nvmepf: this is about controller \(chosen.controller) (\(chosen.nqn.printable())); --controller for \(list)")
  }
}
