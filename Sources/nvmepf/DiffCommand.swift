import Analysis
import ArgumentParser
import Diff
import Report
import Service
import Text
import Trace

struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare recordings: what changed, what explains it, and what is noise.",
    usage: """
      nvmepf diff <file> <file> ... [<options>]
      nvmepf diff --a <file> ... --b <file> ... [<options>]
      """,
    discussion: """
      Compare two recordings, or better several of each side, so that the spread
      between runs counts:

        nvmepf diff before.nvpt after.nvpt
        nvmepf diff --a a1.nvpt a2.nvpt a3.nvpt --b b1.nvpt b2.nvpt b3.nvpt

      More than two files are each compared with the first one.

      With --fail-if, the exit status says whether a statistic changed too much.
      STATISTIC is iops, mean, p50, p90, p99 or p99.9 (of the latency), a stage as
      in report (its mean), a stage's quantile such as execute.p99, the part of a
      stage in which the command waited, such as detect.waiting, or the rest of it,
      detect.service:

        nvmepf diff old.nvpt new.nvpt --fail-if 'p99 > +5%' --fail-if 'iops < -3%'

      Exit status: 0 no limit is exceeded; 1 one is, with confidence; 2 the
      recordings cannot be compared; 3 the recordings cannot tell.
      """)

  @Argument(help: ArgumentHelp("The recordings to compare, at most 26", valueName: "file"), completion: .trace)
  var files: [String] = []

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Recordings of the first side, instead of two files", valueName: "file"), completion: .trace)
  var a: [String] = []

  @Option(
    parsing: .upToNextOption, help: ArgumentHelp("Recordings of the second side", valueName: "file"),
    completion: .trace)
  var b: [String] = []

  @Option(
    parsing: .singleValue,
    help: ArgumentHelp("Exit with 1 if this change is certain, such as 'p99 > +5%'; repeatable", valueName: "limit"))
  var failIf: [ChangeLimit] = []

  @Option(
    help: ArgumentHelp(
      "Compare this controller of the kernel's target (default: our endpoint, else the busiest controller)",
      valueName: "number"))
  var controller: UInt16?

  @Flag(help: "Print one JSON object")
  var json = false

  func validate() throws {
    if a.isEmpty && b.isEmpty {
      try require(files.count >= 2, "give two recordings to compare, or several with --a and --b")
      try require(files.count <= DiffSeries.recordingsMax, "give at most \(DiffSeries.recordingsMax) recordings")
    } else {
      try require(!a.isEmpty && !b.isEmpty, "--a and --b belong together")
      try require(files.isEmpty, "give either files, or --a and --b")
      try require(
        (a.count > 1) == (b.count > 1),
        "give one recording of each side, or at least two of each: one does not show the spread between runs")
    }
  }

  func run() throws {
    let traces = try (a.isEmpty ? files : a + b).map(trace)
    let recordings = try ReadingProgress.show(traces.map(\.reader)) { try traces.map(recording) }
    let verdicts: [ChangeLimit.Verdict]
    if a.isEmpty {
      let series = DiffSeries(recordings[0], Array(recordings.dropFirst()), limits: failIf)
      print(json ? series.json : series.text, terminator: "")
      verdicts = series.comparisons.flatMap { $0.limits.map(\.verdict) }
    } else {
      let report = DiffReport(Array(recordings.prefix(a.count)), Array(recordings.dropFirst(a.count)), limits: failIf)
      print(json ? report.json : report.text, terminator: "")
      verdicts = report.limits.map(\.verdict)
    }
    for (file, reader) in traces { try file.requireComplete(reader) }
    if verdicts.contains(.exceeded) { throw ExitCode(1) }
    if verdicts.contains(.unknown) { throw ExitCode(3) }
  }

  private func trace(_ path: String) throws -> (file: TraceArgument, reader: TraceReader) {
    var file = TraceArgument()
    file.path = path
    return (file, try file.openTolerantly())
  }

  private func recording(_ file: TraceArgument, _ reader: TraceReader) throws -> DiffReport.Recording {
    let subject = try Subject(of: reader, controller: controller, isQuiet: json)
    let summary = try Summary(of: reader, subject)
    guard summary.io.commands > 0 else {
      throw Failure(description: "\(file.path) holds no complete I/O command, so there is nothing to compare")
    }
    return DiffReport.Recording(name: file.path, notes: reader.header.metadata, summary: summary)
  }
}

extension ChangeLimit: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}
