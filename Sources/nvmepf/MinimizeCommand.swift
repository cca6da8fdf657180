import ArgumentParser
import Editing
import Service
import Trace

struct MinimizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "minimize",
    abstract: "Reduce a trace that does not replay to the passes that show it.",
    discussion: """
      Replays parts of the trace, each from the engine's state at its beginning,
      and writes the shortest whose replay diverges at the same kind of event in
      the same fields, without queues that do not matter for it. Ctrl-C ends the
      search; the shortest part found so far is written.

        nvmepf minimize run.nvpt --expect diverged -o small.nvpt
        nvmepf replay small.nvpt

      Exit status: 0 the new trace is complete and replays to the same divergence,
      2 nothing was written.
      """)

  @OptionGroup var options: EditOptions

  @Option(
    help: ArgumentHelp("What the new trace must still show: diverged", valueName: "what"),
    transform: { text in
      guard text == "diverged" else { throw ValidationError("it must be diverged") }
      return text
    })
  var expect: String

  func run() throws {
    let input = try options.open()
    let reader = input.reader
    guard reader.chunks.contains(where: { $0.header.id.source == .engine }) else {
      throw Failure(description: "\(options.path) holds no events of our endpoint: only those are minimized")
    }
    let edited = try ReadingProgress.show([reader]) {
      guard let minimum = try Minimum(input) else {
        throw Failure(description: "\(options.path) replays identically: there is no divergence to keep")
      }
      return try minimum.write(to: options.output, note: "\(expect), of \(reader.header.id)")
    }
    options.report(edited, of: reader)
  }
}
