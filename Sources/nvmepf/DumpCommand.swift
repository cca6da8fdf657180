import ArgumentParser
import EventTable
import Events
import Foundation
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
    var events = try MergedEvents(reader)
    var left = limit ?? .max
    while left > 0, let (record, id) = try events.next() {
      guard isWanted(record.pointee) else { continue }
      left -= 1
      print(json ? object(record, id) : line(record, id))
    }
  }

  private func isWanted(_ record: Record) -> Bool {
    if let qid, record.value(of: ["qid", "cqid"]) != UInt64(qid) { return false }
    if let cid, record.value(of: ["cid"]) != UInt64(cid) { return false }
    if !kinds.isEmpty, !kinds.contains(where: { record.event == $0 }) { return false }
    if let from, record.time < from.ns { return false }
    if let to, record.time >= to.ns { return false }
    return true
  }

  private func values(_ record: UnsafePointer<Record>, _ source: Source) -> [(
    name: String, text: String, value: UInt64
  )] {
    var values: [(name: String, text: String, value: UInt64)] = []
    for field in record.pointee.event?.description.fields ?? [] {
      guard let value = record.value(of: field) else { continue }
      if field.name != "slba" {
        values.append((field.name, field.text(value), value))
      } else if record.pointee.value(of: ["qid"]) == 0 {
        // Admin commands have no blocks; they use these fields of the entry for other purposes.
        guard case .tail = field.place else { continue }
        for (name, part) in [("cdw10", value & 0xffff_ffff), ("cdw11", value >> 32)] {
          values.append((name, part.hex, part))
        }
      } else if source != .host {
        // Our own host does not record the blocks that it requests.
        values.append((field.name, field.text(value), value))
      }
    }
    return values
  }

  private func line(_ record: UnsafePointer<Record>, _ id: StreamID) -> String {
    let name = record.pointee.event?.description.name ?? "unknown-\(record.pointee.kind)"
    let fields = values(record, id.source).map { "\($0.name)=\($0.text)" }
    let time = String(record.pointee.time)
    let padding = String(repeating: " ", count: max(0, 13 - time.count))
    return "\(padding)\(time) \(id.source)/\(id.stream) \(([name] + fields).joined(separator: " "))"
  }

  private func object(_ record: UnsafePointer<Record>, _ id: StreamID) -> String {
    let name = record.pointee.event?.description.name ?? "unknown-\(record.pointee.kind)"
    let members: [(String, JSON)] = [
      ("time_ns", .integer(record.pointee.time)), ("source", .string("\(id.source)")), ("stream", .integer(id.stream)),
      ("event", .string(name)),
    ]
    return JSON.object(members + values(record, id.source).map { ($0.name, .integer($0.value)) }).line
  }
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
