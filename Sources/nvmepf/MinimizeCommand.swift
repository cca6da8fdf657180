import ArgumentParser
import Editing
import Service
import Trace

struct MinimizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "minimize",
    abstract: "Reduce a trace to the passes that show a divergence or an event.",
    usage: "nvmepf minimize [<options>] --expect <what> --output <file> <file>",
    discussion: """
      Replays parts of the trace, each from the engine's state at its beginning,
      and writes the shortest whose replay diverges at the same kind of event in
      the same fields, without queues that do not matter for it. Ctrl-C ends the
      search; the shortest part found so far is written.

      With a condition on events or commands (see docs/expressions.md), the new
      trace is the pass with the first such event, or the passes from submission to
      completion of the first such command, without other queues if it replays so.

        nvmepf minimize run.nvpt --expect diverged -o small.nvpt
        nvmepf minimize run.nvpt --expect 'total > 1ms' -o slow.nvpt

      Exit status: 0 the new trace is complete and replays like the old one, 2
      nothing was written.
      """)

  @OptionGroup var options: EditOptions

  @Option(
    help: ArgumentHelp(
      "What the new trace must show: diverged, or as in 'event == completion && status != 0' or 'total > 1ms'",
      valueName: "what"), completion: .list(["diverged"]))
  var expect: String

  func run() throws {
    let expectation = try Expectation(expect)
    let input = try options.open()
    let reader = input.reader
    guard reader.chunks.contains(where: { $0.header.id.source == .engine }) else {
      throw Failure(description: "\(options.path) holds no events of our endpoint: only those are minimized")
    }
    let note = "\(expect), of \(reader.header.id)"
    let edited = try ReadingProgress.show([reader]) {
      if case .divergence = expectation {
        guard let minimum = try Minimum(input) else {
          throw Failure(description: "\(options.path) replays identically: there is no divergence to keep")
        }
        return try minimum.write(to: options.output, note: note)
      }
      guard let (period, qid) = try expectation.firstPeriod(in: reader), let cut = try TraceCut(input, period) else {
        throw Failure(description: "\(options.path): nothing in it is \(expect)")
      }
      return try smallest(cut, qid).write(to: options.output, as: "minimized", note: note)
    }
    options.report(edited, of: reader)
  }

  /// Without other queues, if the cut replays so.
  private func smallest(_ cut: TraceCut, _ qid: UInt16?) -> TraceCut {
    var smaller = cut
    guard let qid, (try? smaller.keepQueues([qid])) != nil else { return cut }
    return smaller
  }
}
