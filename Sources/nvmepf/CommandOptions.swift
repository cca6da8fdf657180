import Analysis
import ArgumentParser
import Service
import Text
import Trace

/// Which commands of a trace to print or to report on, common to `dump` and `report`.
struct CommandOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Only commands that took longer than this, as in 100us", valueName: "time"))
  var slowerThan: TraceTime?

  @Option(
    name: .customLong("stage"),
    help: ArgumentHelp(
      "Only commands with such a stage or total, as in 'execute>50us' or 'total<=1ms'; may be repeated",
      valueName: "condition"),
    transform: condition)
  var conditions: [TimeCondition] = []

  @Flag(help: "Only commands that completed with an error")
  var failed = false

  @Option(
    help: ArgumentHelp(
      "Only commands with this status: a name such as lba-out-of-range, or type and code such as 0x80 or 0x281",
      valueName: "status"), transform: status)
  var status: UInt16?

  @Option(
    help: ArgumentHelp("Only commands with this opcode: a name such as read, or a number", valueName: "opcode"),
    transform: opcodes)
  var opcode: CommandFilter.Opcodes?

  @Option(help: ArgumentHelp("Only commands of this namespace", valueName: "number"))
  var nsid: UInt32?

  @Option(
    help: ArgumentHelp(
      "Only commands that use one of these blocks: 100, 100-199 or 100+8", valueName: "range"), transform: blocks)
  var lba: ClosedRange<UInt64>?

  @Option(
    help: ArgumentHelp(
      "Use this controller of the kernel's target (default: our endpoint, else the busiest controller)",
      valueName: "number"))
  var controller: UInt16?

  func validate() throws {
    try require(
      !failed || status != 0, "--failed and --status success exclude each other: a command with success has not failed")
  }

  /// The options as a filter.
  var filter: CommandFilter {
    var filter = CommandFilter()
    filter.times = conditions + (slowerThan.map { [TimeCondition(.total, .above, ns: $0.ns)] } ?? [])
    (filter.failed, filter.status, filter.opcode) = (failed, status, opcode)
    (filter.nsid, filter.blocks) = (nsid, lba)
    return filter
  }

  private static func condition(_ text: String) throws -> TimeCondition {
    guard let condition = TimeCondition(text) else {
      throw ValidationError(
        "it must be a name, <, <=, > or >=, and a time, as in 'execute>50us'; the names are "
          + TimeCondition.Part.names.joined(separator: ", "))
    }
    return condition
  }

  private static func status(_ text: String) throws -> UInt16 {
    guard let status = CommandFilter.status(text) else {
      throw ValidationError(
        "it must be a name such as lba-out-of-range, as dump prints them, or a number up to 0x7ff, type and code")
    }
    return status
  }

  private static func opcodes(_ text: String) throws -> CommandFilter.Opcodes {
    guard let opcodes = CommandFilter.Opcodes(text) else {
      throw ValidationError("it must be a name such as read or identify, as dump prints them, or a number up to 0xff")
    }
    return opcodes
  }

  private static func blocks(_ text: String) throws -> ClosedRange<UInt64> {
    guard let blocks = CommandFilter.blocks(text) else {
      throw ValidationError("it must be a block, the first and the last (100-199), or the first and a number (100+8)")
    }
    return blocks
  }
}

/// A point in a trace, or a time: nanoseconds, or a number with ns, us, ms or s.
struct TraceTime: ExpressibleByArgument {
  let ns: UInt64

  init?(argument: String) {
    guard let ns = Quantity.nanoseconds(argument) else { return nil }
    self.ns = ns
  }
}
