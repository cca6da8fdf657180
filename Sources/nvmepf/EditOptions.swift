import ArgumentParser
import Editing
import Service
import Text
import Trace

/// Options of every command that makes a trace from another one.
struct EditOptions: ParsableArguments {
  @Argument(help: ArgumentHelp("Trace to read", valueName: "file"), completion: .trace)
  var path: String

  @Option(
    name: [.short, .customLong("output")],
    help: ArgumentHelp("Write this trace; a previous one is kept as .old", valueName: "file"), completion: .trace)
  var output: String

  @Flag(help: "Print one JSON object")
  var json = false

  /// Open the trace, and report missing parts. From here on a signal ends the edit in order.
  func open() throws -> EditInput {
    OwnProcess.prepare()
    let reader = try TraceReader(path: path)
    if let damage = reader.damage { complain(damage.description) }
    guard !reader.chunks.isEmpty else { throw Failure(description: "\(path) holds no events") }
    return EditInput(reader) { OwnProcess.nextArrival(withinMs: 0)?.isEnding ?? false }
  }

  /// What was written, and how it replays.
  func report(_ edited: EditedTrace, of reader: TraceReader, _ members: [(String, JSON)] = []) {
    let replay: JSON =
      edited.replay.map { .string($0.divergence == nil ? "identical" : "diverged") } ?? .literal("null")
    guard !json else {
      return print(
        JSON.object(
          [
            ("format", "nvmepf-edit/1"), ("path", .string(edited.path)), ("commands", .integer(edited.commands)),
            ("events", .integer(edited.events)), ("bytes", .integer(edited.bytes)), ("replay", replay),
          ] + members))
    }
    let (before, size) = (reader.totals, Quantity.bytes(edited.bytes))
    print(
      "\(edited.path): \(Quantity.count(edited.commands)) of \(Quantity.count(before.commands)) commands, "
        + "\(Quantity.count(edited.events)) of \(Quantity.count(before.events)) events, \(size)"
        + (edited.replay.map { $0.divergence == nil ? "; replays identically" : "; replays to the same divergence" }
          ?? ""))
  }
}
