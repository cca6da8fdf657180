import ArgumentParser
import CPlatform
import EventTable
import Events
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
      "Times are nanoseconds since the trace began; --from and --to also accept us, ms\nand s, as in --from 1.5ms.")

  @OptionGroup var file: TraceArgument

  @Option(help: "Print only events of this queue")
  var qid: UInt16?

  @Option(help: "Print only events with this command identifier")
  var cid: UInt16?

  @Option(
    name: .customLong("event"),
    help: ArgumentHelp("Print only events of this kind; may be repeated", valueName: "name"))
  var kinds: [EventKind] = []

  @Option(help: "Print only events from this time on")
  var from: TraceTime?

  @Option(help: "Print only events before this time")
  var to: TraceTime?

  @Option(help: ArgumentHelp("Stop after this many events", valueName: "number"))
  var limit: Int?

  @Flag(help: "Print one JSON object per event")
  var json = false

  func run() throws {
    let reader = try file.openTolerantly()
    try dump(reader)
    try file.requireComplete(reader)
  }

  func validate() throws {
    if let from, let to, from.ns >= to.ns { throw ValidationError("--from must be before --to") }
  }

  private func dump(_ reader: TraceReader) throws(TraceError) {
    var events = try MergedEvents(reader, selection)
    var text = EventText(json ? .json : .line)
    var left = limit ?? .max
    while left > 0, let (record, id) = try events.next() {
      guard isWanted(record.pointee) else { continue }
      left -= 1
      text.append(record, source: id.source, stream: id.stream)
      if text.buffer.count >= 1 << 16, !write(&text.buffer) { return }
    }
    _ = write(&text.buffer)
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

/// A point in a trace: nanoseconds, or a number with ns, us, ms or s.
struct TraceTime: ExpressibleByArgument {
  let ns: UInt64

  init?(argument: String) {
    for (suffix, factor) in [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1.0)]
    where argument.hasSuffix(suffix) {
      guard let number = Double(argument.dropLast(suffix.count)), number >= 0, number * factor < 1.8e19 else {
        return nil
      }
      ns = UInt64(number * factor)
      return
    }
    return nil
  }
}

extension EventKind: ExpressibleByArgument {
  public init?(argument: String) { self.init(name: argument) }
  public static var allValueStrings: [String] { allCases.map(\.description.name) }
}
