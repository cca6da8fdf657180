import Analysis
import ArgumentParser
import Report
import Trace

extension Grouping: ExpressibleByArgument {}

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Say where the latency and the throughput of a recording go.")

  @OptionGroup var file: TraceFile

  @Flag(help: "Print one JSON object.")
  var json = false

  @Option(help: "A table for each queue or each opcode too.")
  var by: Grouping?

  func run() throws {
    let reader = try file.openTolerantly()
    let summary = try Failure.wrap { () throws(TraceError) in try ReportCommand.analyse(reader, by) }
    print(json ? Report.json(summary) : Report.text(summary))
  }

  static func analyse(_ reader: TraceReader, _ grouping: Grouping?) throws(TraceError) -> Summary {
    var analyzer = StageAnalyzer(grouping: grouping)
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
      analyzer.take(record.pointee, source: id.source, stream: Int(id.stream), tail: tail)
    }
    return analyzer.summary()
  }
}
