import Analysis
import ArgumentParser
import Events
import Report
import Text
import Trace

extension Grouping: ExpressibleByArgument {}

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show where a recording's latency and throughput go.",
    discussion: """
      The stages of a command, whose times add up to its total:

        detect     doorbell written until the engine turns to the command
        fetch      transfer of the submission queue entry
        dispatch   fetched until a worker takes it (the kernel's target)
        map        data pointer and lists read
        data-in    transfer of the data from the host
        execute    the backend's time
        data-out   transfer of the data to the host
        complete   ready until the completion queue entry is in host memory
        interrupt  until the interrupt that announces it
        reap       until the host's head doorbell takes the entry
      """)

  @OptionGroup var file: TraceFile

  @Flag(help: "Print one JSON object.")
  var json = false

  @Option(help: "Add a table for each queue or opcode.")
  var by: Grouping?

  @Option(
    help: ArgumentHelp(
      "Report on this controller of the kernel's target (default: our endpoint, else the busiest controller).",
      valueName: "number"))
  var controller: UInt16?

  func run() throws {
    let reader = try file.openTolerantly()
    let subject = try subject(of: reader)
    let summary = try Failure.wrap { () throws(TraceError) in try ReportCommand.analyse(reader, by, subject) }
    print(json ? Report.json(summary) : Report.text(summary))
  }

  private func subject(of reader: TraceReader) throws(Failure) -> Subject {
    let controllers = try Failure.wrap { () throws(TraceError) in try KernelController.all(in: reader) }
    if let controller {
      guard controllers.contains(where: { $0.controller == controller }) else {
        let known = controllers.map { "\($0.controller)" }.joined(separator: ", ")
        throw Failure(
          description: "there is no controller \(controller) of the kernel's target in this trace"
            + (known.isEmpty ? "" : ", only \(known)"))
      }
      return .controller(controller)
    }
    if reader.chunks.contains(where: { $0.header.id.source == .engine }) { return .endpoint }
    guard let busiest = controllers.first else { return .endpoint }
    // What belongs to no controller has no name.
    let others = controllers.dropFirst().filter { !$0.nqn.isEmpty }
    if !json, !others.isEmpty {
      let others = others.map { "\($0.controller) (\($0.nqn.printable()))" }.joined(separator: ", ")
      let nqn = busiest.nqn.printable()
      tell("nvmepf: this is about controller \(busiest.controller) (\(nqn)); --controller for \(others)")
    }
    return .controller(busiest.controller)
  }

  static func analyse(_ reader: TraceReader, _ grouping: Grouping?, _ subject: Subject = .endpoint) throws(TraceError)
    -> Summary
  {
    var analyzer = StageAnalyzer(grouping: grouping, subject: subject)
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      analyzer.take(record.pointee, source: id.source, stream: Int(id.stream), tail: record.tail)
    }
    var summary = analyzer.summary()
    let bound = reader.header.metadata.first { $0.key == TraceMerge.Key.bound }
    summary.hostClockBoundNs = bound.flatMap { Double($0.value) }.flatMap { $0.isFinite && $0 >= 0 ? $0 : nil }
    return summary
  }
}
