import Analysis
import ArgumentParser
import CPlatform
import EventTable
import Events
import Evidence
import Expressions
import Glibc
import Report
import Service
import Text
import Trace

struct DumpCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump",
    abstract: "Print the events of a trace in time order, one per line.",
    usage: "nvmepf dump [<options>] [<file>]",
    discussion:
      """
      Times are nanoseconds since the trace began; --from and --to also accept us, ms
      and s, as in --from 1.5ms.

      --where selects commands and prints all their events, --events-where selects
      single events. Both take an expression, which compares names with values:

        --where 'total >= 1ms || failed'         --where 'slba in 100..200'
        --where 'opcode == read && stage.execute > 50us'
        --events-where 'event == completion && status != 0'
        --events-where 'register == CC && EN changes'

      A comparison with a value that an event or command lacks is false, != too. An
      unknown name is refused with all names. docs/expressions.md explains them.
      """)

  @OptionGroup var file: TraceArgument

  @OptionGroup(title: "Events of commands") var commands: CommandOptions

  @Option(help: "Print only events of this queue")
  var qid: UInt16?

  @Option(help: "Print only events with this command identifier")
  var cid: UInt16?

  @Option(
    name: .customLong("event"),
    help: ArgumentHelp("Print only events of this kind; may be repeated", valueName: "name"))
  var kinds: [EventKind] = []

  @Option(
    name: .customLong("events-where"),
    help: ArgumentHelp(
      "Print only events for which this holds, as in 'event == completion && status != 0'", valueName: "expression"),
    transform: { try expression($0, .events) })
  var eventCondition: Expression<EventValue>?

  @Option(help: "Print only events from this time on")
  var from: TraceTime?

  @Option(help: "Print only events before this time")
  var to: TraceTime?

  @Option(help: ArgumentHelp("Stop after this many events", valueName: "number"))
  var limit: Int?

  @Flag(help: "Print one JSON object per event")
  var json = false

  func validate() throws {
    if let from, let to { try require(from.ns < to.ns, "--from must be before --to") }
    try require(limit ?? 0 >= 0, "--limit must not be negative")
    for (option, isGiven, has) in [("--qid", qid != nil, \EventKind.hasQueue), ("--cid", cid != nil, \.hasCommand)] {
      try require(
        !isGiven || kinds.isEmpty || kinds.contains { $0[keyPath: has] },
        "\(option) selects none of these events: they have no such field")
    }
  }

  func run() throws {
    let reader = try file.openTolerantly()
    let filter = try commands.filter()
    // Events on a terminal show by themselves that there is progress.
    let isShown = isatty(STDERR_FILENO) == 1 && isatty(STDOUT_FILENO) != 1
    try ReadingProgress.show([reader], isShown: isShown) {
      if filter.isEmpty { try dump(reader, selection) { _, _ in true } } else { try dump(reader, filter) }
    }
    try file.requireComplete(reader)
  }

  private func dump(_ reader: TraceReader, _ filter: CommandFilter) throws {
    let subject = try Subject(of: reader, controller: commands.controller, isQuiet: json)
    var finder = CommandEventFinder(try wanted(filter, reader, subject), subject)
    // The finder counts the events, so no chunk may be left out.
    try dump(reader, ChunkSelection()) { record, id in
      var isFound = false
      finder.ingest(record, id) { _ in isFound = true }
      return isFound
    }
  }

  /// The commands that the filter selects, unfinished ones included, with events in the wanted time.
  private func wanted(_ filter: CommandFilter, _ reader: TraceReader, _ subject: Subject) throws
    -> [CommandEventFinder.Wanted]
  {
    let found = Collected((commands: [CommandEventFinder.Wanted](), isTooMuch: false))
    func add(_ facts: CommandFacts) {
      if found.value.commands.count < CommandEventFinder.commandsMax {
        found.value.commands.append(CommandEventFinder.Wanted(facts))
      } else {
        found.value.isTooMuch = true
      }
    }
    var analyzer = StageAnalyzer(subject: subject, filter: filter)
    analyzer.onCommand = { [from, to] in
      if $0.end >= from?.ns ?? 0, $0.begin - ($0.hostSubmit ?? 0) < to?.ns ?? .max { add($0.facts) }
    }
    analyzer.onLoss = { if filter.selectsUnfinished($0) { add($0) } }
    try analyzer.ingestAll(of: reader)
    analyzer.forEachUnfinished { if filter.selectsUnfinished($0) { add($0) } }
    guard !found.value.isTooMuch else {
      throw Failure(
        description: "\(file.path): the filter selects more than "
          + "\(Quantity.count(CommandEventFinder.commandsMax)) commands; give a narrower one, or --from and --to")
    }
    return found.value.commands
  }

  private func dump(
    _ reader: TraceReader, _ selection: ChunkSelection,
    _ isSelected: (UnsafePointer<Record>, StreamID) -> Bool
  ) throws(TraceError) {
    var events = try MergedEvents(reader, selection)
    var text = EventText(json ? .json : .line)
    // Also before the error of a damaged chunk.
    defer { _ = write(&text.buffer) }
    var left = limit ?? .max
    var earlier = eventCondition.map { WatchedValues($0) }
    while left > 0, let (record, id) = try events.next() {
      guard isSelected(record, id), isWanted(record.pointee) else { continue }
      if let eventCondition {
        let values = EventValues(record, source: id.source, stream: id.stream)
        guard eventCondition.holds(&earlier!, { values.value(of: $0) }) else { continue }
      }
      left -= 1
      text.append(record, source: id.source, stream: id.stream)
      if text.buffer.count >= 1 << 16, !write(&text.buffer) { return }
    }
  }

  private var selection: ChunkSelection {
    var selection = ChunkSelection()
    (selection.from, selection.to, selection.qid) = (from?.ns ?? 0, to?.ns ?? .max, qid)
    return selection
  }

  private func isWanted(_ record: Record) -> Bool {
    if let from, record.time < from.ns { return false }
    if let to, record.time >= to.ns { return false }
    if let qid, record.queue != qid { return false }
    if let cid, record.command != cid { return false }
    return kinds.isEmpty || kinds.contains { record.is($0) }
  }
}

/// Print text without anything that needs an escape, and forget it.
/// - Returns: false if it cannot be written.
private func write(_ text: inout TextBuffer) -> Bool {
  defer { text.removeAll() }
  return nvmepf_write_output(text.bytes.baseAddress, text.count)
}

extension EventKind: ExpressibleByArgument {
  public init?(argument: String) { self.init(name: argument) }
  public static var allValueStrings: [String] { allCases.map(\.description.name) }
}
