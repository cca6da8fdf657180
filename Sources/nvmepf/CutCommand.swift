import Analysis
import ArgumentParser
import Editing
import Replay
import Service
import Text
import Trace

struct CutCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cut",
    abstract: "Write a part of a trace as a smaller one that still replays.",
    usage: "nvmepf cut [<options>] --output <file> <file>",
    discussion: """
      The new trace begins between two passes of the engine, with its state there,
      and ends between two: it contains all passes with events in the period. Times
      stay as they are. Times are nanoseconds since the trace began, or have a unit,
      as in --from 1.5ms. A recording of the kernel is cut by time alone, and its
      driver replays only from before the host enables the controller.

      With --qid the engine's state forgets the commands of other queues. If the
      rest does not replay without them, because queues share a completion queue or
      a fused operation or a Flush waits for all, nothing is written.

        nvmepf cut run.nvpt --from 2s --to 2.1s -o part.nvpt

      Exit status: 0 the new trace is complete and replays like the old one, 2
      nothing was written.
      """)

  @OptionGroup var options: EditOptions

  @Option(help: ArgumentHelp("Keep events from this time on (default: the beginning)", valueName: "time"))
  var from: TraceTime?

  @Option(help: ArgumentHelp("Keep events before this time (default: the end)", valueName: "time"))
  var to: TraceTime?

  @Option(
    name: .customLong("qid"),
    help: ArgumentHelp(
      "Keep only this submission queue, its completion queue and the admin queue; may be repeated",
      valueName: "number"))
  var qids: [UInt16] = []

  func validate() throws {
    try require(from != nil || to != nil || !qids.isEmpty, "--from, --to or --qid is required")
    if let from, let to { try require(from.ns < to.ns, "--from must be before --to") }
  }

  func run() throws {
    let input = try options.open()
    let reader = input.reader
    let period = (from?.ns ?? 0)..<(to?.ns ?? .max)
    let (cut, edited) = try ReadingProgress.show([reader]) {
      guard var cut = try TraceCut(input, period) else {
        let end = reader.chunks.map(\.header.lastTime).max() ?? 0
        throw Failure(
          description: "\(options.path) has no events in this period; it ends at \(Quantity.time(end))")
      }
      if !qids.isEmpty { try cut.keepQueues(Set(qids)) }
      return (cut, try cut.write(to: options.output, note: note(reader)))
    }
    let end = cut.end == .max ? [] : [("end_ns", JSON.integer(cut.end))]
    options.report(edited, of: reader, [("begin_ns", .integer(cut.begin))] + end)
    if let problem = cut.problem { complain("\(options.output) begins at a recorded checkpoint: \(problem)") }
    if edited.replay == nil { try reportDriver() }
  }

  private func note(_ reader: TraceReader) -> String {
    let times = [from.map { "from \($0.ns) ns" }, to.map { "to \($0.ns) ns" }].compactMap { $0 }
    let queues = qids.isEmpty ? [] : ["with queue \(qids.map { "\($0)" }.joined(separator: ", "))"]
    return (times + queues + ["of \(reader.header.id)"]).joined(separator: " ")
  }

  /// Whether the kernel's driver can be replayed from the new trace.
  private func reportDriver() throws {
    let reader = try TraceReader(path: options.output)
    guard let chosen = try KernelController.choose(nil, in: reader).chosen else { return }
    let result = try DriverReplay(reader, controller: chosen.controller).run()
    if result.compared == 0 {
      complain(
        "\(options.output) does not replay: it begins after the host enabled the controller, whose state only the "
          + "kernel knows")
    }
  }
}
