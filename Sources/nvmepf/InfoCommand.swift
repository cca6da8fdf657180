import Analysis
import ArgumentParser
import Foundation
import Report
import Service
import Text
import Trace

struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Show the contents of a trace and whether it is complete.",
    discussion: """
      Verifies the checksum of every chunk. Names the commands that did not
      complete before the end of a trace of at most 4 million events; report names
      those of any trace.

      Exit status: 0 the trace is complete, 2 it is not, or holds no events, or
      cannot be read.
      """)

  @OptionGroup var file: TraceArgument

  @Flag(help: "Print one JSON object")
  var json = false

  func run() throws {
    let reader = try file.open()
    let damage = try reader.findDamage()
    let isComplete = reader.isComplete && damage == nil
    if let damage {
      complain(damage.description)
    } else if !isComplete {
      complain("\(file.path) was not closed; run nvmepf repair \(file.path)")
    }
    let totals = reader.totals
    let summary = totals.events <= InfoCommand.analysedMax ? Summary(ofReadable: reader) : nil
    try show(reader, totals, summary, isComplete: isComplete)
    if !isComplete || totals.events == 0 { throw ExitCode(2) }
  }

  /// A trace with more events takes too long for a command that is used to look quickly.
  private static let analysedMax: UInt64 = 4_000_000

  private func show(_ reader: TraceReader, _ totals: TraceReader.Totals, _ summary: Summary?, isComplete: Bool) throws {
    let perEvent = Double(reader.bytes) / Double(max(totals.events, 1))
    let perCommand = Double(reader.bytes) / Double(max(totals.commands, 1))
    let sources = totals.sources.map { "\($0)" }
    if json {
      let unfinished = summary?.oldestUnfinished.map(UnfinishedText.object)
      return print([
        "format": "nvmepf-info/1",
        "commands": .integer(totals.commands), "events": .integer(totals.events), "lost": .integer(totals.lost),
        "chunks": .integer(reader.chunks.count), "bytes": .integer(reader.bytes),
        "bytes_per_event": .number(perEvent), "bytes_per_command": .number(perCommand),
        "complete": .boolean(isComplete), "repaired": .boolean(isRepaired(reader)),
        "sources": .array(sources.map(JSON.string)), "id": .string("\(reader.header.id)"),
        "date": .string(date(reader)),
        "metadata": .object(reader.header.metadata.map { ($0.key, .string($0.value)) }),
        "unfinished_commands": unfinished.map { .array($0) } ?? .literal("null"),
      ])
    }
    for (key, value) in reader.header.metadata where !value.isEmpty {
      row(key.printable(limit: 100), value.printable())
    }
    row("date", date(reader))
    row("sources", sources.isEmpty ? "none" : sources.joined(separator: ", "))
    row("commands", Quantity.count(totals.commands))
    row("events", "\(Quantity.count(totals.events)), \(totals.lost == 0 ? "none" : Quantity.count(totals.lost)) lost")
    row("duration", "\(Quantity.decimal(Double(reader.chunks.map(\.header.lastTime).max() ?? 0) / 1e9, 3)) s")
    row("chunks", Quantity.count(reader.chunks.count))
    var size = Quantity.bytes(reader.bytes)
    if totals.events > 0 { size += ": \(Quantity.decimal(perEvent, 2)) B an event" }
    if totals.commands > 0 { size += ", \(Quantity.decimal(perCommand, 1)) B a command" }
    row("size", size)
    row("complete", isComplete ? isRepaired(reader) ? "as far as a repair could make it" : "yes" : "no")
    if let lines = summary.flatMap(UnfinishedText.init)?.lines {
      row("unfinished", lines[0])
      for line in lines.dropFirst() { row("", line) }
    }
  }

  /// When the recording began, in UTC.
  private func date(_ reader: TraceReader) -> String {
    Date(timeIntervalSince1970: Double(reader.header.startRealtime) / 1e9).formatted(.iso8601)
  }

  /// A recorder that closes a trace has seen its end; a repair has not.
  private func isRepaired(_ reader: TraceReader) -> Bool { reader.isComplete && !reader.isClosed }

  private func row(_ name: String, _ value: String) {
    print(name.padding(toLength: max(10, name.count), withPad: " ", startingAt: 0), value)
  }
}
