import Text

/// A command of the debugger: its names, what `help` says, and what it does.
struct DebuggerCommand: Sendable {
  let name: String
  var aliases: [String] = []
  /// Its arguments.
  var arguments = ""
  let help: String
  /// An empty line repeats it.
  var isRepeated = false
  let perform: @Sendable (Debugger, inout TypedWords) throws -> Void

  /// The command with this name, an alias, or an unambiguous beginning of a name.
  static func named(_ text: String) throws(DebuggerError) -> DebuggerCommand {
    if let exact = all.first(where: { $0.name == text || $0.aliases.contains(text) }) { return exact }
    let matches = all.filter { $0.name.hasPrefix(text) }
    if matches.count == 1 { return matches[0] }
    let word = text.printable(limit: 40)
    guard matches.isEmpty else {
      throw DebuggerError("'\(word)' may mean \(matches.map(\.name).joined(separator: ", "))")
    }
    throw DebuggerError("there is no command '\(word)'; help lists them")
  }

  static let all: [DebuggerCommand] = movement + breaking + information + others

  private static let movement = [
    DebuggerCommand(
      name: "step", aliases: ["s"], arguments: "[N] [event|command|pass]",
      help: "Move N events on, to the Nth next fetched command, or to the end of\nthe Nth pass of the engine.",
      isRepeated: true
    ) { debugger, words in try debugger.step(&words, .forward) },
    DebuggerCommand(
      name: "next", aliases: ["n"], arguments: "[N]", help: "The same as step N command.", isRepeated: true
    ) { debugger, words in try debugger.next(&words, .forward) },
    DebuggerCommand(
      name: "finish", arguments: "[[QID/]CID]", help: "Move to the completion of the command."
    ) { debugger, words in try debugger.finish(&words, .forward) },
    DebuggerCommand(
      name: "continue", aliases: ["c"], help: "Move to the next breakpoint, a divergence, or the end.",
      isRepeated: true
    ) { debugger, words in try debugger.continue(&words, .forward) },
    DebuggerCommand(
      name: "reverse-step", aliases: ["rs"], arguments: "[N] [event|command|pass]", help: "The same backwards.",
      isRepeated: true
    ) { debugger, words in try debugger.step(&words, .backward) },
    DebuggerCommand(
      name: "reverse-next", aliases: ["rn"], arguments: "[N]", help: "To the Nth command fetched before.",
      isRepeated: true
    ) { debugger, words in try debugger.next(&words, .backward) },
    DebuggerCommand(
      name: "reverse-finish", aliases: ["rf"], arguments: "[[QID/]CID]", help: "Move to the fetch of the command."
    ) { debugger, words in try debugger.finish(&words, .backward) },
    DebuggerCommand(
      name: "reverse-continue", aliases: ["rc"], help: "Move back to a breakpoint, or to the beginning.",
      isRepeated: true
    ) { debugger, words in try debugger.continue(&words, .backward) },
    DebuggerCommand(
      name: "goto", aliases: ["g"], arguments: "TIME|#EVENT|QID/CID|begin|end",
      help:
        "Move there: to the last event up to a time such as 1.5ms, to an event\nby its number, to the fetch of a command."
    ) { debugger, words in try debugger.goto(&words) },
  ]

  private static let breaking = [
    DebuggerCommand(
      name: "break", aliases: ["b"], arguments: "EXPRESSION",
      help: "Let continue stop where this holds: break event == completion && status != 0,\n"
        + "break stage.execute > 50us, break cq[1].full. An expression on the engine's\n"
        + "state stops where it becomes true. docs/expressions.md lists all names."
    ) { debugger, words in try debugger.addBreakpoint(&words) },
    DebuggerCommand(
      name: "tbreak", arguments: "EXPRESSION", help: "The same, once."
    ) { debugger, words in try debugger.addBreakpoint(&words, isTemporary: true) },
    DebuggerCommand(
      name: "watch", arguments: "NAME",
      help: "Stop where this changes: watch sq[2].head; the same as break NAME changes."
    ) { debugger, words in try debugger.addBreakpoint(&words, isWatch: true) },
    DebuggerCommand(
      name: "delete", aliases: ["d"], arguments: "[N]", help: "Remove breakpoint N, or all."
    ) { debugger, words in try debugger.deleteBreakpoints(&words) },
    DebuggerCommand(
      name: "ignore", arguments: "N COUNT", help: "Pass over the next COUNT hits of breakpoint N."
    ) { debugger, words in try debugger.ignoreBreakpoint(&words) },
    DebuggerCommand(
      name: "condition", arguments: "N [EXPRESSION]", help: "Stop at breakpoint N only if this holds too."
    ) { debugger, words in try debugger.restrictBreakpoint(&words) },
  ]

  private static let information = [
    DebuggerCommand(
      name: "info", aliases: ["i"],
      arguments:
        "[queues|queue N|commands|command [QID/]CID|registers|\n      namespaces|interrupts|timers|memory ADDRESS LENGTH|host|breakpoints]",
      help: "What the engine holds at the point; of memory, what the trace knows; of the\n"
        + "host, the commands that it waits for."
    ) { debugger, words in try debugger.inform(&words) },
    DebuggerCommand(
      name: "backtrace", aliases: ["bt"], arguments: "[[QID/]CID]",
      help: "The command's life: its events up to the point, of host and engine."
    ) { debugger, words in try debugger.backtrace(&words) },
    DebuggerCommand(
      name: "why", arguments: "[QID/]CID|interrupt VECTOR|idle",
      help:
        "What the command waits for here and since when, why there is no\ninterrupt, or why the engine has nothing to do."
    ) { debugger, words in try debugger.why(&words) },
    DebuggerCommand(
      name: "events", aliases: ["e"], arguments: "[N]", help: "The last N events up to the point (10)."
    ) { debugger, words in try debugger.listEvents(&words) },
  ]

  private static let others = [
    DebuggerCommand(name: "help", aliases: ["h", "?"], arguments: "[COMMAND]", help: "This, or more of one command.") {
      debugger, words in try debugger.help(&words)
    },
    DebuggerCommand(name: "quit", aliases: ["q", "exit"], help: "Leave.") { _, _ in },
  ]
}

extension Debugger {
  /// What the word that begins like this may be, after the beginning of its line.
  public static func completions(of word: String, after line: String) -> [String] {
    var words = TypedWords(line)
    let choices =
      switch words.next() {
      case nil: DebuggerCommand.all.map(\.name)
      case "info"?, "i"?: informationNames
      case "help"?, "h"?: DebuggerCommand.all.map(\.name)
      case "why"?: ["interrupt", "idle"]
      case "goto"?, "g"?: ["begin", "end"]
      case "step"?, "s"?, "reverse-step"?, "rs"?: ["event", "command", "pass"]
      default: [String]()
      }
    return choices.filter { $0.hasPrefix(word) }
  }

  func help(_ words: inout TypedWords) throws {
    guard let word = words.next() else {
      for command in DebuggerCommand.all { help(of: command, isShort: true) }
      tell("A unique beginning of a name suffices; an empty line repeats a movement.")
      return
    }
    try words.end()
    help(of: try DebuggerCommand.named(word), isShort: false)
  }

  private func help(of command: DebuggerCommand, isShort: Bool) {
    let names = ([command.name] + command.aliases).joined(separator: ", ")
    let lines = command.help.split(separator: "\n")
    guard !isShort else {
      let name = command.aliases.isEmpty ? command.name : "\(command.name), \(command.aliases[0])"
      let first = lines.count > 1 ? lines[0] + " …" : lines[0]
      return say("  " + name.padded(to: 21) + " \(first)")
    }
    say("\(names) \(command.arguments)")
    for line in lines { say("  \(line)") }
  }
}

extension String {
  /// Followed by spaces up to this length.
  func padded(to count: Int) -> String { self + String(repeating: " ", count: max(0, count - self.count)) }
}
