import Text

extension Divergence: CustomStringConvertible {
  /// The report of the divergence: where, what, which fields, what the engine holds and waits for, which events before.
  public var description: String {
    var lines = [
      "diverged at event #\(event) of stream \(stream), \(Divergence.moment(timeNs)) into the trace: \(summary)",
      "  recorded: \(recorded)",
      "  engine:   \(engine)",
    ]
    lines += fields.map { "  differs:  \(Divergence.text($0))" }
    if let later { lines += Divergence.lines(later) }
    lines += notes.map { "  note:     \($0)" }
    if let agreed {
      let ago = Quantity.time(timeNs - min(agreed.timeNs, timeNs))
      lines.append(
        "  the states agreed at #\(agreed.event), \(event - min(agreed.event, event)) events and \(ago) before")
    }
    if !waits.isEmpty {
      lines.append("  the engine waits:")
      lines += waits.map { "    \($0)" }
    }
    if let inFlight {
      lines.append("  commands in flight (\(inFlight.count))\(inFlight.isEmpty ? ": none" : ":")")
      lines += inFlight.prefix(Divergence.commandsMax).map { "    \($0)" }
      let left = inFlight.count - Divergence.commandsMax
      if left > 0 { lines.append("    and \(Quantity.count(left)) more") }
    }
    let names = queues.map { "\($0)" }.joined(separator: " and ")
    lines.append(queues.isEmpty ? "  before it:" : "  before it, of queue \(names):")
    if before.isEmpty { lines.append("    nothing") }
    lines += before.map { past in
      "    #\(past.event) \(Quantity.time(timeNs - min(past.timeNs, timeNs))) before: \(past.text)"
    }
    return lines.joined(separator: "\n")
  }

  private static func lines(_ later: Later) -> [String] {
    let what = later.kind == .checkpoint ? "the next checkpoint" : "the first output that differs"
    return ["  at #\(later.event), \(what):"]
      + (later.fields.isEmpty ? ["    engine: \(later.engine)"] : later.fields.map { "    differs: \(text($0))" })
  }

  /// Commands in flight that the text lists.
  private static let commandsMax = 32

  /// Since the trace began: "0.012345678 s", as the debugger writes it.
  static func moment(_ ns: UInt64) -> String {
    let nanoseconds = String(ns % 1_000_000_000)
    return "\(ns / 1_000_000_000)." + String(repeating: "0", count: 9 - nanoseconds.count) + nanoseconds + " s"
  }
}
