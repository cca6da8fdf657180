import Analysis
import EventWords
import Expressions
import Report
import Text

/// A command of the debugger: its names, what `help` says, and what it does.
struct DebuggerCommand: Sendable {
  let name: String
  var aliases: [String] = []
  /// Its arguments.
  var arguments = ""
  /// One line.
  let help: String
  /// Lines that only the help of this command has.
  var more = ""
  /// An empty line repeats it.
  var isRepeated = false
  /// On traces without our engine, instead of those.
  var ofKernel: (arguments: String?, help: String, more: String)?
  /// It asks for the state of our engine.
  var isOfEngine = false
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
      help: "Move N events, commands or passes on.",
      more:
        "Commands as they are fetched; passes of our engine's poll loop. The default is\none event.",
      isRepeated: true,
      ofKernel: ("[N] [event|command]", "Move N events or commands on.", "The default is one event.")
    ) { debugger, words in try debugger.step(&words, .forward) },
    DebuggerCommand(
      name: "next", aliases: ["n"], arguments: "[N]", help: "Move to the Nth next fetched command.", isRepeated: true
    ) { debugger, words in try debugger.next(&words, .forward) },
    DebuggerCommand(
      name: "finish", aliases: ["f"], arguments: "[[QID/]CID|oldest]", help: "Move to the completion of the command."
    ) { debugger, words in try debugger.finish(&words, .forward) },
    DebuggerCommand(
      name: "continue", aliases: ["c"], arguments: "[N]", help: "Move to a breakpoint, a divergence, or the end.",
      more: "To the Nth hit of any breakpoint.", isRepeated: true,
      ofKernel: (nil, "Move to a breakpoint, or the end.", "To the Nth hit of any breakpoint.")
    ) { debugger, words in try debugger.continue(&words, .forward) },
    DebuggerCommand(
      name: "reverse-step", aliases: ["rs"], arguments: "[N] [event|command|pass]",
      help: "Move N events, commands or passes back.",
      isRepeated: true, ofKernel: ("[N] [event|command]", "Move N events or commands back.", "")
    ) { debugger, words in try debugger.step(&words, .backward) },
    DebuggerCommand(
      name: "reverse-next", aliases: ["rn"], arguments: "[N]", help: "Move to the Nth command fetched before.",
      isRepeated: true
    ) { debugger, words in try debugger.next(&words, .backward) },
    DebuggerCommand(
      name: "reverse-finish", aliases: ["rf"], arguments: "[[QID/]CID|oldest]",
      help: "Move to the first event of the command."
    ) { debugger, words in try debugger.finish(&words, .backward) },
    DebuggerCommand(
      name: "reverse-continue", aliases: ["rc"], arguments: "[N]",
      help: "Move back to a breakpoint, or to the beginning.", isRepeated: true
    ) { debugger, words in try debugger.continue(&words, .backward) },
    DebuggerCommand(
      name: "goto", aliases: ["g"], arguments: "TIME|#EVENT|QID/CID|begin|end", help: "Move there.",
      more:
        "To the last event up to a time such as 1.5ms or 0.0015s, to an event by its\nnumber, to the first event of a command."
    ) { debugger, words in try debugger.goto(&words) },
  ]

  private static let breaking = [
    DebuggerCommand(
      name: "break", aliases: ["b"], arguments: "EXPRESSION", help: "Let continue stop where this holds.",
      more: "As in break event == completion && status != 0, break cq[1].full, or\n"
        + "break stage.execute > 50us. One on the engine's state stops where it becomes\n"
        + "true; one on the times of commands stops at their completions. help expressions\nlists the names.",
      ofKernel: (
        nil, "Let continue stop where this holds.",
        "As in break event == completion && status != 0, or\nbreak stage.execute > 50us. One on the times of commands stops "
          + "at their\ncompletions. help expressions lists the names."
      )
    ) { debugger, words in try debugger.addBreakpoint(&words) },
    DebuggerCommand(
      name: "tbreak", arguments: "EXPRESSION", help: "Let continue stop where this holds, once."
    ) { debugger, words in try debugger.addBreakpoint(&words, isTemporary: true) },
    DebuggerCommand(
      name: "watch", arguments: "NAME", help: "Stop where this changes, as in watch sq[2].head.", isOfEngine: true
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
      name: "info", aliases: ["i"], arguments: "[SUBJECT]",
      help: "Show what was in hand at the point; help info lists it."
    ) { debugger, words in try debugger.inform(&words) },
    DebuggerCommand(
      name: "backtrace", aliases: ["bt"], arguments: "[[QID/]CID|oldest]",
      help: "Show the command's events up to the point.",
      more: "From its submission on, and where it took longest."
    ) { debugger, words in try debugger.backtrace(&words) },
    DebuggerCommand(
      name: "why", arguments: "[[QID/]CID|oldest|interrupt VECTOR|idle]", help: "Explain what something waits for.",
      more: "What a command waits for here and since when; oldest is the one for which a\n"
        + "host has waited longest. Why there is no interrupt; why there is nothing to\ndo."
    ) { debugger, words in try debugger.why(&words) },
    DebuggerCommand(
      name: "events", aliases: ["e"], arguments: "[N]", help: "List the last N events up to the point (10).",
      more: "With those of hosts between them."
    ) { debugger, words in try debugger.listEvents(&words) },
  ]

  private static let others = [
    DebuggerCommand(
      name: "help", aliases: ["h", "?"], arguments: "[COMMAND|expressions]", help: "This, or more of one command."
    ) { debugger, words in try debugger.help(&words) },
    DebuggerCommand(name: "quit", aliases: ["q", "exit"], help: "Leave.") { _, _ in },
  ]
}

extension Debugger {
  /// What the word that begins like this may be, after the beginning of its line.
  /// - Parameter subjects: what `info` can show, as `subjectNames` has it.
  public static func completions(of word: String, after line: String, _ subjects: [String]) -> [String] {
    var words = TypedWords(line)
    let choices =
      switch words.next() {
      case nil: DebuggerCommand.all.map(\.name)
      case "info"?, "i"?: subjects
      case "help"?, "h"?: DebuggerCommand.all.map(\.name)
      case "why"?: ["oldest", "interrupt", "idle"]
      case "goto"?, "g"?: ["begin", "end"]
      case "step"?, "s"?, "reverse-step"?, "rs"?: ["event", "command", "pass"]
      default: [String]()
      }
    return choices.filter { $0.hasPrefix(word) }
  }

  /// What `info` can show of this trace.
  public var subjectNames: [String] { type(of: self).subjects.map(\.name) }

  func help(_ words: inout TypedWords) throws {
    guard let word = words.next() else {
      for command in DebuggerCommand.all where hasEngine || !command.isOfEngine {
        let name = command.aliases.isEmpty ? command.name : "\(command.name), \(command.aliases[0])"
        say("  " + name.padded(to: 21) + " " + (hasEngine ? command.help : command.ofKernel?.help ?? command.help))
      }
      tell("Begin with info problems. A unique beginning of a name suffices; an empty line repeats a movement.")
      return
    }
    try words.end()
    if word == "expressions" { return helpOnExpressions() }
    let command = try DebuggerCommand.named(word)
    let own = hasEngine ? nil : command.ofKernel
    let (help, more) = own.map { ($0.help, $0.more) } ?? (command.help, command.more)
    say("\(([command.name] + command.aliases).joined(separator: ", ")) \(own?.arguments ?? command.arguments)")
    for line in ([help] + more.split(separator: "\n").map(String.init)) { say("  \(line)") }
    if command.name == "info" { helpOnInformation() }
  }

  private func helpOnExpressions() {
    tell(
      "Comparisons (== != < <= > >=), in 1..5, changes, && || ! and parentheses, between names and values such as 17, "
        + "0x11, 50us, 4KiB, read, lba-out-of-range. docs/expressions.md explains each name.")
    func list(_ heading: String, _ names: [String]) {
      say(heading)
      tell("  ", names.joined(separator: " "))
    }
    if hasEngine { list("of the engine's state:", Vocabulary.engine.definitions.map(\.usage)) }
    list("of commands and their times:", Vocabulary.commands.definitions.map(\.usage))
    list("of events:", Vocabulary.events.definitions.map(\.usage))
  }
}
