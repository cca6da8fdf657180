import ArgumentParser
import Foundation
import Replay
import Trace

struct ReplayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Feed a recording to the engine and compare everything it does with what it did.",
    discussion: "Exit status: 0 identical, 1 diverged, 2 the trace cannot be replayed.")

  @OptionGroup var file: TraceFile

  @Option(help: ArgumentHelp("Replay this many times.", valueName: "number"))
  var `repeat` = 1

  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    guard `repeat` >= 1 else { throw ValidationError("--repeat: 1 at least") }
  }

  func run() throws {
    let reader = try file.openTolerantly()
    var total = ReplayResult()
    let begin = Clock.monotonicNs()
    for _ in 0..<`repeat` where total.divergence == nil {
      let result = try replay(reader)
      total.commands += result.commands
      total.events += result.events
      total.divergence = result.divergence
    }
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    print(json ? try jsonText(total, seconds) : text(total, seconds))
    if total.divergence != nil { throw ExitCode(1) }
  }

  private func replay(_ reader: TraceReader) throws(Failure) -> ReplayResult {
    var total = ReplayResult()
    for (id, chunks) in reader.streams where id.source == .engine {
      let path = file.path
      let result: ReplayResult
      do throws(TraceError) {
        var replayer = try Replayer(stream: id.stream, chunks: reader.source(of: chunks))
        result = try replayer.run()
      } catch {
        throw Failure(description: "\(path): \(error.description)")
      }
      total.commands += result.commands
      total.events += result.events
      if result.divergence != nil {
        total.divergence = result.divergence
        break
      }
    }
    guard total.events > 0 else {
      throw Failure(description: "\(file.path) holds no engine's events: there is nothing to replay")
    }
    return total
  }

  private func text(_ result: ReplayResult, _ seconds: Double) -> String {
    let count = "\(grouped(result.commands)) commands, \(grouped(result.events)) events"
    if let divergence = result.divergence { return "\(divergence)\nreplayed \(count) before it" }
    let speed = grouped(UInt64(Double(result.commands) / max(seconds, 1e-9)))
    return String(format: "identical: %@ in %.2f s (%@ commands/s)", count, seconds, speed)
  }

  private func jsonText(_ result: ReplayResult, _ seconds: Double) throws -> String {
    var object: [String: Any] = [
      "result": result.divergence == nil ? "identical" : "diverged", "commands": result.commands,
      "events": result.events, "seconds": seconds,
      "commands_per_second": Double(result.commands) / max(seconds, 1e-9),
    ]
    if let divergence = result.divergence {
      object["divergence"] =
        [
          "event": divergence.event, "stream": divergence.stream, "time_ns": divergence.timeNs,
          "expected": divergence.expected, "came": divergence.came,
          "fields": divergence.fields.map { ["name": $0.name, "expected": $0.expected, "came": $0.came] },
          "in_flight": divergence.inFlight, "before": divergence.before,
        ] as [String: Any]
    }
    return try JSON.text(object)
  }
}
