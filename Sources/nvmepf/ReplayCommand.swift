import Analysis
import ArgumentParser
import Debugger
import Foundation
import Platform
import Replay
import Report
import Service
import Text
import Trace

struct ReplayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Replay a recording through the engine and compare every output.",
    usage: "nvmepf replay [<options>] [<file>]",
    discussion: """
      For a recording of the kernel's nvmet-pci-epf (record --kernel), the engine
      receives the registers, commands and lists of the driver. The driver's
      segments and completions are compared with the engine's, command by command,
      and its interrupts with the host's settings. Deliberate differences of the
      engine are marked as known and are no findings.

      --interactive opens the trace in a debugger: it goes to any event, backwards
      too, and tells what the engine, or the kernel's driver, holds there and what
      commands wait for; help lists its commands, info problems is a good first one.
      Without a terminal it reads commands like --script: the first that cannot be
      carried out ends it with status 1.

      --bisect narrows a divergence to the first event after which the engine's
      state differs from the recorded one, by the hashes of the state in the
      recording, and follows the differing fields through the replay. Certain to a
      pass of the engine if the recording was made with --state-hash-every 1.

      Exit status: 0 identical, 1 diverged, 2 the trace, or part of it, cannot be
      replayed or compared, or holds no command.
      """)

  @OptionGroup var file: TraceArgument

  @Option(help: ArgumentHelp("Replay this many times", valueName: "number"))
  var `repeat` = 1

  @Flag(help: "After a divergence continue at the next checkpoint, and list all by kind")
  var keepGoing = false

  @Flag(help: "Narrow a divergence to the first event after which the state differs")
  var bisect = false

  @Flag(help: "Print one JSON object")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Of a recording of the kernel: the identifier of the controller to replay or debug (default: the busiest)",
      valueName: "number"))
  var controller: UInt16?

  @Flag(help: "Debug the trace: go to any event and examine what was in hand there")
  var interactive = false

  @Option(
    help: ArgumentHelp(
      "Debug: perform the debugger's commands in this file, one a line; - reads standard input", valueName: "file"),
    completion: .file())
  var script: String?

  func validate() throws {
    try require(`repeat` >= 1, "--repeat must be at least 1")
    try require(!interactive || script == nil, "--interactive and --script exclude each other")
    for (option, isGiven) in [("--keep-going", keepGoing), ("--controller", controller != nil)] {
      try require(!isGiven || !bisect, "\(option) and --bisect exclude each other")
    }
    for (option, isGiven) in [
      ("--keep-going", keepGoing), ("--bisect", bisect), ("--json", json), ("--repeat", `repeat` != 1),
    ] {
      try require(!isGiven || !(interactive || script != nil), "\(option) does not apply to the debugger")
    }
  }

  func run() throws {
    let reader = try file.openTolerantly()
    if let script { return try DebuggerSession.perform(script, on: reader, controller) }
    if interactive { return try DebuggerSession.converse(on: reader, controller) }
    // Of the driver, every difference is listed anyway.
    if controller != nil || !reader.chunks.contains(where: { $0.header.id.source == .engine }) {
      guard !bisect else {
        throw Failure(
          description:
            "--bisect narrows a divergence of our endpoint, and \(file.path) holds none of its events: leave it out, and "
            + "every difference of the driver is listed")
      }
      return try replayDriver(reader)
    }
    var total = ReplayResult()
    let begin = Clock.monotonicNs()
    try ReadingProgress.show([reader]) {
      for turn in 0..<`repeat` where total.divergence == nil {
        var result = try ReplayResult(replaying: reader, keepsGoing: keepGoing)
        if turn > 0 { (result.unfinished, result.unfinishedCommands) = (0, []) }
        total.add(result)
      }
    }
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    let summary = total.unfinished > 0 && total.divergence == nil ? Summary(ofReadable: reader) : nil
    let bisection = bisect ? try bisection(total, reader) : nil
    if json {
      print(jsonText(total, seconds, reader, summary, bisection))
    } else {
      print(text(total, seconds, reader, summary))
      if bisect, total.divergence != nil { print("bisected: \(bisection?.description ?? ReplayCommand.notBisected)") }
    }
    if total.divergence != nil { throw ExitCode(1) }
    if !reader.isComplete || total.commands == 0 { throw ExitCode(2) }
  }

  // MARK: The kernel's driver

  private func replayDriver(_ reader: TraceReader) throws {
    guard let chosen = try KernelController.choose(controller, in: reader).chosen else {
      throw Failure(
        description:
          "\(file.path) holds no engine's events, nor those of a kernel's controller: there is nothing to replay")
    }
    let result = try ReadingProgress.show([reader]) {
      try DriverReplay(reader, controller: chosen.controller).run()
    }
    if result.verdict == .nothingToCompare, result.commands == 0 {
      throw Failure(
        description:
          "no command in \(file.path) can be replayed: record nvmet-pci-epf from before the host enables the "
          + "controller (nvme reset makes the host do so)")
    }
    let summary =
      result.interrupted > 0 ? Summary(ofReadable: reader, .controller(chosen.controller)) : nil
    print(json ? jsonText(result, reader, summary) : text(result, reader, summary))
    switch result.verdict {
    case .identical: if !reader.isComplete { throw ExitCode(2) }
    case .diverged: throw ExitCode(1)
    case .incomplete, .nothingToCompare: throw ExitCode(2)
    }
  }

  private func text(_ result: DriverReplayResult, _ reader: TraceReader, _ summary: Summary?) -> String {
    var lines: [String] = []
    for difference in result.differences {
      lines.append("\(difference.command), \(difference.timeNs) ns into the trace:")
      lines.append("  \(difference.what)")
      if case .knownDeparture(let why) = difference.kind { lines.append("  known: \(why)") }
    }
    let left = result.newDifferences + result.knownDifferences - result.differences.count
    if left > 0 { lines.append("and \(Quantity.count(left)) more differences") }
    lines.append(verdict(result))
    func tell(_ count: UInt64, _ what: String) {
      if count > 0 { lines.append("\(Quantity.count(count)) \(what)") }
    }
    tell(UInt64(result.knownDifferences), "known departures of the engine from the driver")
    tell(result.interrupted, "commands never completed because of a reset, the link or the end of the recording")
    tell(result.before, "commands were not compared: the controller was enabled before the recording began")
    tell(
      result.refused,
      "commands were not compared: the engine's controller had failed or was disabled, or their queue was deleted")
    tell(
      result.doubtful,
      "commands were not compared: the kernel did not run a probe meanwhile, or their lists are too long")
    if result.endsAtGap { lines.append("events were lost: nothing after them was replayed") }
    tell(
      result.afterEnd,
      "commands were not compared: they came after \(result.endsAtGap ? "lost events" : "the limit of a replay")")
    if !reader.isComplete { lines.append(ReplayCommand.notClosed) }
    return (lines + ReplayCommand.unfinished(summary)).joined(separator: "\n")
  }

  private static let notClosed =
    "the trace was not closed; its missing part was not replayed (nvmepf repair)"

  private static func unfinished(_ summary: Summary?) -> [String] {
    guard let text = summary.flatMap(UnfinishedText.init) else { return [] }
    return ["commands that did not complete before the trace ended:"] + text.lines.map { "  \($0)" }
  }

  private static func object(_ summary: Summary?) -> JSON {
    .array(summary.map { $0.oldestUnfinished.map(UnfinishedText.object) } ?? [])
  }

  private func verdict(_ result: DriverReplayResult) -> String {
    let count =
      "\(Quantity.count(result.compared)) of \(Quantity.count(result.commands)) commands compared, "
      + "\(Quantity.count(result.segments)) segments, \(Quantity.count(result.bytes)) bytes"
    return switch result.verdict {
    case .identical:
      "identical: the engine does what the driver did: \(count)"
        + (result.interrupted > 0
          ? "; but \(Quantity.count(result.interrupted, "command")) never completed" : "")
    case .diverged: "different: \(Quantity.count(result.newDifferences)) findings: \(count)"
    case .nothingToCompare: "nothing to compare: \(count)"
    case .incomplete: "no difference, but not everything could be compared: \(count)"
    }
  }

  private func jsonText(_ result: DriverReplayResult, _ reader: TraceReader, _ summary: Summary?) -> String {
    let differences = result.differences.map { difference -> JSON in
      var members: [(String, JSON)] = [
        ("time_ns", .integer(difference.timeNs)), ("command", .string(difference.command)),
        ("what", .string(difference.what)),
      ]
      if case .knownDeparture(let why) = difference.kind { members.append(("known", .string(why))) }
      return .object(members)
    }
    let object: JSON = [
      "format": "nvmepf-replay/1", "subject": "kernel",
      "result": .string(result.verdict.rawValue), "complete": .boolean(reader.isComplete),
      "commands": .integer(result.commands), "compared": .integer(result.compared),
      "new_differences": .integer(result.newDifferences), "known_differences": .integer(result.knownDifferences),
      "unseen": .integer(result.afterEnd), "segments": .integer(result.segments), "bytes": .integer(result.bytes),
      "interrupted": .integer(result.interrupted), "not_replayed": .integer(result.before + result.refused),
      "not_compared": .integer(result.uncompared), "doubtful": .integer(result.doubtful),
      "ends_at_gap": .boolean(result.endsAtGap), "differences": .array(differences),
      "unfinished_commands": ReplayCommand.object(summary),
    ]
    return object.line
  }

  // MARK: Our endpoint

  private func text(_ result: ReplayResult, _ seconds: Double, _ reader: TraceReader, _ summary: Summary?) -> String {
    let count = "\(Quantity.count(result.commands, "command")), \(Quantity.count(result.events, "event"))"
    if let divergence = result.divergence {
      return keepGoing ? text(result, count, reader) : "\(divergence)\nreplayed \(count) before it"
    }
    let speed = Quantity.decimal(Double(result.commands) / max(seconds, 1e-9), 0)
    var lines = [
      result.commands == 0
        ? "nothing to compare: the trace holds no command; \(Quantity.count(result.events, "other event")) agree"
        : "identical: \(count) in \(Quantity.decimal(seconds, 2)) s (\(speed) commands/s)"
          + ReplayCommand.neverCompleted(result)
    ]
    if !reader.isComplete { lines.append(ReplayCommand.notClosed) }
    return (lines + ReplayCommand.unfinished(summary)).joined(separator: "\n")
  }

  /// "; but 3 commands never completed: 1/5 (read) waits for its backend, …".
  private static func neverCompleted(_ result: ReplayResult) -> String {
    guard result.unfinished > 0 else { return "" }
    let names = result.unfinishedCommands.prefix(3).joined(separator: ", ")
    return "; but \(Quantity.count(result.unfinished, "command")) never completed: \(names)"
      + (result.unfinished > 3 ? ", …" : "")
  }

  /// All divergences: the report of the first of each kind, then the list.
  private func text(_ result: ReplayResult, _ count: String, _ reader: TraceReader) -> String {
    var lines = result.groups.map { "\($0.first)" }
    let total = result.groups.reduce(UInt64(0)) { $0 + $1.count }
    lines.append(
      "\(Quantity.count(total, "divergence")) of \(Quantity.count(result.groups.count, "kind")); replayed \(count)"
        + (result.skipped > 0
          ? "; \(Quantity.count(result.skipped, "event")) up to the next checkpoints not compared" : ""))
    for group in result.groups {
      let numbers =
        group.events.map { "#\($0)" }.joined(separator: " ") + (group.count > UInt64(group.events.count) ? " …" : "")
      lines.append("  \(Quantity.count(group.count)) × \(group.first.summary): \(numbers)")
    }
    if !reader.isComplete { lines.append(ReplayCommand.notClosed) }
    return lines.joined(separator: "\n")
  }

  private func jsonText(
    _ result: ReplayResult, _ seconds: Double, _ reader: TraceReader, _ summary: Summary?, _ bisection: Bisection?
  ) -> String {
    let verdict: DriverReplayResult.Verdict =
      result.divergence != nil ? .diverged : result.commands == 0 ? .nothingToCompare : .identical
    var members: [(String, JSON)] = [
      ("format", "nvmepf-replay/1"), ("subject", "endpoint"),
      ("complete", .boolean(reader.isComplete)), ("result", .string(verdict.rawValue)),
      ("commands", .integer(result.commands)), ("events", .integer(result.events)), ("seconds", .number(seconds)),
      ("commands_per_second", .number(Double(result.commands) / max(seconds, 1e-9))),
      ("unfinished_commands", ReplayCommand.object(summary)), ("never_completed", .integer(result.unfinished)),
    ]
    if keepGoing {
      members.append(("divergences", .array(result.groups.map(object))))
      members.append(("not_compared", .integer(result.skipped)))
    }
    if let divergence = result.divergence { members.append(("divergence", object(divergence))) }
    if let bisection {
      members.append(("bisection", object(bisection)))
    } else if bisect, result.divergence != nil {
      members.append(("not_bisected", .string(ReplayCommand.notBisected)))
    }
    return JSON.object(members).line
  }

  private func object(_ group: DivergenceGroup) -> JSON {
    [
      "count": .integer(group.count), "summary": .string(group.first.summary),
      "events": .array(group.events.map { .integer($0) }), "first": object(group.first),
    ]
  }

  func object(_ past: Divergence.Before) -> JSON {
    ["event": .integer(past.event), "time_ns": .integer(past.timeNs), "text": .string(past.text)]
  }

  private func object(_ fields: [Divergence.Field]) -> JSON {
    .array(
      fields.map {
        ["name": .string($0.name), "expected": .string($0.recorded), "came": .string($0.engine)]
      })
  }

  private func object(_ divergence: Divergence) -> JSON {
    let later = divergence.later.map { later -> JSON in
      [
        "event": .integer(later.event), "kind": .string(later.kind.description.name),
        "fields": object(later.fields), "came": .string(later.engine),
      ]
    }
    return [
      "kind": .string(divergence.kind.rawValue), "summary": .string(divergence.summary),
      "event": .integer(divergence.event), "stream": .integer(divergence.stream),
      "time_ns": .integer(divergence.timeNs), "expected": .string(divergence.recorded),
      "came": .string(divergence.engine), "fields": object(divergence.fields),
      "later": later ?? .literal("null"),
      "notes": .array(divergence.notes.map(JSON.string)), "waits": .array(divergence.waits.map(JSON.string)),
      "in_flight": .array((divergence.inFlight ?? []).map(JSON.string)),
      "queues": .array(divergence.queues.map { .integer($0) }),
      "agreed": divergence.agreed.map(object) ?? .literal("null"),
      "before": .array(divergence.before.map { .string($0.text) }), "history": .array(divergence.before.map(object)),
    ]
  }
}
