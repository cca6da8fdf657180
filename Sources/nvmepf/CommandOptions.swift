import Analysis
import ArgumentParser
import Expressions
import Service
import Text
import Trace

/// Which commands of a trace to print or to report on, common to `dump` and `report`.
struct CommandOptions: ParsableArguments {
  @Option(
    name: .customLong("where"),
    help: ArgumentHelp(
      "Only commands for which this holds, as in 'opcode == read && stage.execute > 50us'; docs/expressions.md lists all names",
      valueName: "expression"), transform: commandExpression)
  var condition: Expression<CommandValue>?

  @Option(help: ArgumentHelp("Only commands that took longer than this, as in 100us", valueName: "time"))
  var slowerThan: TraceTime?

  @Option(
    name: .customLong("stage"),
    help: ArgumentHelp(
      "Only commands with such a stage or total, as in 'execute>50us' or 'total<=1ms'; may be repeated",
      valueName: "condition"),
    transform: stageCondition)
  var stageConditions: [Expression<CommandValue>] = []

  @Flag(help: "Only commands that completed with an error")
  var failed = false

  @Option(
    help: ArgumentHelp(
      "Only commands with this status: a name such as lba-out-of-range, or type and code such as 0x80 or 0x281",
      valueName: "status"), transform: status)
  var status: Expression<CommandValue>?

  @Option(
    help: ArgumentHelp("Only commands with this opcode: a name such as read, or a number", valueName: "opcode"),
    transform: opcode)
  var opcode: Expression<CommandValue>?

  @Option(help: ArgumentHelp("Only commands of this namespace", valueName: "number"))
  var nsid: UInt32?

  @Option(
    help: ArgumentHelp(
      "Only commands that use one of these blocks: 100, 100-199 or 100+8", valueName: "range"), transform: blocks)
  var lba: Expression<CommandValue>?

  @Option(
    help: ArgumentHelp(
      "Use this controller of the kernel's target (default: our endpoint, else the busiest controller)",
      valueName: "number"))
  var controller: UInt16?

  func validate() throws {
    let isSuccess = status?.holds { $0 == .status ? 0 : nil } ?? false
    try require(
      !failed || !isSuccess, "--failed and --status success exclude each other: a command with success has not failed")
  }

  /// The options as a filter.
  func filter() throws -> CommandFilter {
    let plain = [slowerThan.map { "total > \($0.ns)" }, failed ? "failed" : nil, nsid.map { "nsid == \($0)" }]
    return CommandFilter(
      try stageConditions + plain.compactMap(\.self).map { try Expression($0, .commands) }
        + [status, opcode, lba, condition].compactMap(\.self))
  }

  private static func commandExpression(_ text: String) throws -> Expression<CommandValue> {
    let expression = try expression(text, .commands)
    guard !expression.hasChanges else {
      throw ValidationError("changes compares events or states of an engine; commands have no earlier values")
    }
    return expression
  }

  private static func stageCondition(_ text: String) throws -> Expression<CommandValue> {
    let plain = ["total", "unexplained"]
    if let place = text.firstIndex(where: { $0 == "<" || $0 == ">" }) {
      let name = text[..<place].filter { $0 != " " }
      let sign = text[place...].hasPrefix("\(text[place])=") ? "\(text[place])=" : "\(text[place])"
      let value = String(text[place...].dropFirst(sign.count))
      let known = plain.contains(name) ? name : "stage.\(name)"
      if let condition = try? Expression(known, sign, value: value, .commands) { return condition }
    }
    throw ValidationError(
      "it must be a name, <, <=, > or >=, and a time, as in 'execute>50us'; the names are "
        + (["total"] + Stage.allCases.map(\.name) + ["unexplained"]).joined(separator: ", "))
  }

  private static func status(_ text: String) throws -> Expression<CommandValue> {
    guard let condition = try? Expression("status", "==", value: text, .commands) else {
      throw ValidationError(
        "it must be a name such as lba-out-of-range, as dump prints them, or a number up to 0x7ff, type and code")
    }
    return condition
  }

  private static func opcode(_ text: String) throws -> Expression<CommandValue> {
    guard let condition = try? Expression("opcode", "==", value: text, .commands) else {
      throw ValidationError("it must be a name such as read or identify, as dump prints them, or a number up to 0xff")
    }
    return condition
  }

  private static func blocks(_ text: String) throws -> Expression<CommandValue> {
    let range = text.replacing("-", with: "..", maxReplacements: 1)
    guard let condition = try? Expression("slba", "in", value: range, .commands) else {
      throw ValidationError("it must be a block, the first and the last (100-199), or the first and a number (100+8)")
    }
    return condition
  }
}

/// An option's expression; a mistake is an error of one line.
func expression<Place>(_ text: String, _ vocabulary: Vocabulary<Place>) throws -> Expression<Place> {
  do { return try Expression(text, vocabulary) } catch { throw ValidationError(error.description) }
}

/// A point in a trace, or a time: nanoseconds, or a number with ns, us, ms or s.
struct TraceTime: ExpressibleByArgument {
  let ns: UInt64

  init?(argument: String) {
    guard let ns = Quantity.nanoseconds(argument) else { return nil }
    self.ns = ns
  }
}
