import Analysis
import ArgumentParser
import Evidence
import Expressions
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

      --where takes an expression that compares names with values:

        --where 'total >= 1ms || failed'         --where 'slba in 100..200'
        --where 'opcode == read && stage.execute > 50us'

      A comparison with a value that a command lacks is false, != too. An unknown
      name is refused with all names. docs/expressions.md explains them.
      """)

  @OptionGroup var file: TraceArgument

  @Flag(help: "Print one JSON object")
  var json = false

  @Option(help: "Add a table for each queue or opcode")
  var by: Grouping?

  @OptionGroup(title: "Commands to report on") var commands: CommandOptions

  @Option(help: "Only commands of this queue")
  var qid: UInt16?

  @Option(help: "Only commands with this command identifier")
  var cid: UInt16?

  @Option(help: ArgumentHelp("Only commands that end at this time or later, as in 1.5ms", valueName: "time"))
  var from: TraceTime?

  @Option(help: ArgumentHelp("Only commands that end before this time", valueName: "time"))
  var to: TraceTime?

  @Option(help: ArgumentHelp("Add a line for each window of time of this length", valueName: "time"))
  var window: TraceTime?

  @Option(help: ArgumentHelp("Add the events of the slowest commands, at most 1000", valueName: "number"))
  var slowest: Int?

  @Option(
    help: ArgumentHelp(
      "Print only the events of the command with this name that was in flight at this time",
      valueName: "qid:cid@time"))
  var command: CommandName?

  func validate() throws {
    if let from, let to { try require(from.ns < to.ns, "--from must be before --to") }
    try require(window?.ns ?? 1 > 0, "--window must be longer than 0")
    try require((1...CommandLife.commandsMax).contains(slowest ?? 1), "--slowest must be between 1 and 1000")
    try require(
      command == nil || (try filter().isEmpty && slowest == nil && window == nil && by == nil),
      "--command prints one command and excludes --slowest, --window, --by and every filter")
  }

  func run() throws {
    let reader = try file.openTolerantly()
    let subject = try Subject(of: reader, controller: commands.controller, isQuiet: json)
    if let command { try printLife(of: command, reader, subject) } else { try printReport(reader, subject) }
    try file.requireComplete(reader)
  }

  private func printReport(_ reader: TraceReader, _ subject: Subject) throws {
    let slow = Collected(SlowestCommands(slowest ?? 0))
    func keep(_ command: borrowing CommandTimes) {
      if command.qid != .admin { slow.value.add(command) }
    }
    let filter = try filter()
    let windowNs = window.map { min($0.ns, StageAnalyzer.timeMax) }
    let (summary, lives) = try ReadingProgress.show([reader]) {
      let summary = try Summary(
        of: reader, subject, by: by, filter: filter.isEmpty ? nil : filter, windowNs: windowNs,
        onCommand: slowest == nil ? nil : keep)
      try checkWindows(summary)
      return (summary, try CommandLife.read(slow.value.commands, of: reader, subject))
    }
    print(json ? Report.json(summary, lives) : Report.text(summary, lives, path: file.path))
  }

  private func filter() throws -> CommandFilter {
    let own = [
      qid.map { "qid == \($0)" }, cid.map { "cid == \($0)" }, from.map { "end >= \($0.ns)" },
      to.map { "end < \($0.ns)" },
    ]
    return CommandFilter(
      try commands.filter().conditions + own.compactMap(\.self).map { try Expression($0, .commands) })
  }

  private func checkWindows(_ summary: Summary) throws {
    guard let windows = summary.windows, windows.values == nil else { return }
    let least = Quantity.time(windows.lengthNs * (windows.count / UInt64(TimeWindows.countMax) + 1))
    throw Failure(
      description: "--window makes \(Quantity.count(windows.count)) windows of the commands, and a report has "
        + "\(TimeWindows.countMax) at most; use at least \(least), or --from and --to")
  }

  private func printLife(of name: CommandName, _ reader: TraceReader, _ subject: Subject) throws {
    let filter = try CommandFilter("qid == \(name.qid)", "cid == \(name.cid)", "end >= \(name.ns)")
    let found = Collected([CommandTimes]())
    _ = try Summary(of: reader, subject, filter: filter) { command in
      if command.begin <= name.ns, found.value.isEmpty { found.value.append(copy command) }
    }
    guard let life = try CommandLife.read(found.value, of: reader, subject).first else {
      throw Failure(
        description: "\(file.path): no command \(name.cid) of queue \(name.qid) that is in the trace from beginning to "
          + "end was in flight at \(name.ns) ns; nvmepf dump --qid \(name.qid) --cid \(name.cid) prints its events")
    }
    if json { print(Report.object(life)) } else { print(Report.text(life)) }
  }
}

/// What an analysis has collected so far, for its closure and its caller.
final class Collected<Value> {
  var value: Value
  init(_ value: Value) { self.value = value }
}

/// A command at a time: `1:17@1.5ms`.
struct CommandName: ExpressibleByArgument {
  let qid: UInt16
  let cid: UInt16
  let ns: UInt64

  init?(argument: String) {
    let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
    let name = parts[0].split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, name.count == 2, let qid = UInt16(name[0]), let cid = UInt16(name[1]),
      let ns = Quantity.nanoseconds(String(parts[1]))
    else { return nil }
    (self.qid, self.cid, self.ns) = (qid, cid, ns)
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
