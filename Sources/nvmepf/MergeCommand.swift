import ArgumentParser
import Foundation
import Merge
import Service
import Text
import Trace

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Merge the traces of a target and its host, recorded on two machines.",
    discussion: """
      Both are recordings of the kernel (record --kernel). The clocks need not
      agree: the commands that both recorded show their offset, which is printed
      with its accuracy and kept in the trace. In a report of the merged trace,
      every command begins with the host's submission and ends with its completion.
      It has the notes of both recordings. The clocks are compared by the first two
      million commands of each side; if there are more, merge says where that ends.

        nvmepf merge host.nvpt board.nvpt -o both.nvpt
      """)

  @Argument(help: ArgumentHelp("The host's trace", valueName: "host"), completion: .trace)
  var host: String

  @Argument(help: ArgumentHelp("The target's trace", valueName: "target"), completion: .trace)
  var target: String

  @Option(name: [.short, .customLong("output")], help: "Write this trace", completion: .trace)
  var output = "merged.nvpt"

  @Flag(help: "Print one JSON object")
  var json = false

  func run() throws {
    OwnProcess.prepare()
    let readers = (try TraceReader(path: host), try TraceReader(path: target))
    for reader in [readers.0, readers.1] where !reader.streams.contains(where: { $0.id.source == .kernel }) {
      throw Failure(
        description: "\(reader.path) is not a recording of a kernel (record --kernel): merge takes two of those")
    }
    let merge = try ReadingProgress.show([readers.0, readers.1]) { try TraceMerge(host: readers.0, target: readers.1) }
    guard let merge else {
      throw Failure(
        description: "\(host) and \(target) have no commands in common: record both sides while the same commands run")
    }
    let summary = try ReadingProgress.show([readers.0, readers.1]) {
      try merge.write(to: output) { OwnProcess.nextArrival(withinMs: 0)?.isEnding ?? false }
    }
    for problem in summary.problems { complain(problem.description) }
    if let error = summary.error { throw Failure(description: error.description, status: 1) }
    let fit = merge.match.fit
    if json {
      var members: [(String, JSON)] = [
        ("format", "nvmepf-merge/1"), ("commands", .integer(fit.commands)),
        ("offset_ns", .number(fit.offsetNs)), ("drift", .number(fit.drift)),
        ("bound_ns", .number(fit.boundNs)), ("controller", .integer(merge.match.controller)),
        ("host_instance", .integer(merge.match.instance)), ("events", .integer(summary.events)),
        ("outliers", .integer(fit.outliers)),
      ]
      if let end = merge.match.comparedUntilNs { members.append(("compared_until_ns", .integer(end))) }
      print(JSON.object(members))
    } else {
      print(
        "\(Quantity.count(fit.commands)) commands in both traces: the host's clock is \(Quantity.decimal(fit.offsetNs, 0)) ns "
          + "behind the target's and \(Quantity.decimal(fit.drift * 1e6, 3)) ppm slow, within "
          + "\(Quantity.decimal(fit.boundNs, 0)) ns")
      if fit.outliers > 0 {
        print(
          "\(Quantity.count(fit.outliers, "pair")) of commands contradicted all others and were left out as mismatched")
      }
      if let end = merge.match.comparedUntilNs {
        print(
          "the clocks were compared until \(Quantity.time(end)) into the target's trace, by as many commands as merge takes; "
            + "behind that the same line continues, and the accuracy above is not assured")
      }
      print("wrote \(output); now: nvmepf report \(output)")
    }
  }
}
