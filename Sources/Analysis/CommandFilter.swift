import NVMe
import Text

/// Selects commands: those that meet every condition which is not nil.
public struct CommandFilter: Sendable {
  public var qid: UInt16?
  public var cid: UInt16?
  public var nsid: UInt32?
  public var opcode: Opcodes?
  /// Status Code Type and Status Code of the completion.
  public var status: UInt16?
  /// Logical blocks of which a command must use at least one.
  public var blocks: ClosedRange<UInt64>?
  /// The command must have completed with an error.
  public var failed = false
  /// Conditions on the command's times.
  public var times: [TimeCondition] = []
  /// When the command must have ended: nanoseconds since the trace began, up to but not including `to`.
  public var from: UInt64 = 0
  public var to = UInt64.max

  public init() {}

  /// No condition: every command is selected.
  public var isEmpty: Bool {
    qid == nil && cid == nil && nsid == nil && opcode == nil && status == nil && blocks == nil && !failed
      && times.isEmpty && from == 0 && to == .max
  }

  /// Whether it selects a finished command.
  public func selects(_ command: borrowing CommandTimes) -> Bool {
    guard selects(command.facts), command.end >= from, command.end < to else { return false }
    for condition in times where !condition.holds(for: command) { return false }
    return true
  }

  /// Whether it selects a command that has no end in the trace: only by what is known of it.
  public func selectsUnfinished(_ command: CommandFacts) -> Bool {
    times.isEmpty && from == 0 && to == .max && selects(command)
  }

  private func selects(_ command: CommandFacts) -> Bool {
    if let qid, command.qid != qid { return false }
    if let cid, command.cid != cid { return false }
    if let nsid, command.request.nsid != nsid { return false }
    if let opcode, !opcode.contains(command) { return false }
    if let status, command.status?.code != status { return false }
    if failed, !command.hasFailed { return false }
    if let blocks { return command.request.range?.overlaps(blocks) ?? false }
    return true
  }
}

extension CommandFilter {
  /// Opcodes with a name or a number: admin and I/O commands have their own.
  public struct Opcodes: Equatable, Sendable {
    public let io: UInt8?
    public let admin: UInt8?

    /// - Parameter text: a name such as `read` or `identify`, or a number such as `2` or `0x02`.
    public init?(_ text: String) {
      if let number = number(text).flatMap({ UInt8(exactly: $0) }) {
        (io, admin) = (number, number)
        return
      }
      io = NVMeName.opcode(text, isAdmin: false)
      admin = NVMeName.opcode(text, isAdmin: true)
      if io == nil && admin == nil { return nil }
    }

    func contains(_ command: CommandFacts) -> Bool {
      guard let opcode = command.opcode else { return false }
      return opcode == (command.isAdmin ? admin : io)
    }
  }

  /// A status: a name such as `lba-out-of-range`, or Status Code Type × 256 + Status Code, such as `0x80` or `0x281`.
  public static func status(_ text: String) -> UInt16? {
    if let number = number(text) { return UInt16(exactly: number).flatMap { $0 <= 0x7ff ? $0 : nil } }
    return NVMeName.status(named: text)
  }

  /// Logical blocks: `100`, `100-199` (both inclusive) or `100+8` (eight from 100 on).
  public static func blocks(_ text: String) -> ClosedRange<UInt64>? {
    if let first = number(text) { return first...first }
    guard let place = text.firstIndex(where: { $0 == "-" || $0 == "+" }), let first = number(String(text[..<place])),
      let second = number(String(text[text.index(after: place)...]))
    else { return nil }
    if text[place] == "-" { return first <= second ? first...second : nil }
    guard second > 0, first <= .max - (second - 1) else { return nil }
    return first...(first + (second - 1))
  }
}

/// A condition on a command's latency or one of its stages: `execute>50us`, `total<=1ms`.
public struct TimeCondition: Equatable, Sendable {
  /// What it compares.
  public enum Part: Equatable, Sendable {
    case total, unexplained
    case stage(Stage)

    init?(_ name: Substring) {
      switch name {
      case "total": self = .total
      case "unexplained": self = .unexplained
      default:
        guard let stage = Stage.allCases.first(where: { $0.name == name }) else { return nil }
        self = .stage(stage)
      }
    }

    /// As in a condition's text, in order.
    public static var names: [String] { ["total"] + Stage.allCases.map(\.name) + ["unexplained"] }
  }

  /// How it compares.
  public enum Comparison: String, CaseIterable, Sendable {
    case atLeast = ">="
    case atMost = "<="
    case above = ">"
    case below = "<"
  }

  public let part: Part
  public let comparison: Comparison
  public let ns: UInt64

  public init(_ part: Part, _ comparison: Comparison, ns: UInt64) {
    (self.part, self.comparison, self.ns) = (part, comparison, ns)
  }

  /// - Returns: nil unless the text is a name, a comparison and a time.
  public init?(_ text: String) {
    guard let sign = text.firstIndex(where: { $0 == "<" || $0 == ">" }), let part = Part(text[..<sign].trimmed),
      let comparison = Comparison.allCases.first(where: { text[sign...].hasPrefix($0.rawValue) }),
      let ns = Quantity.nanoseconds(String(text[sign...].dropFirst(comparison.rawValue.count).trimmed))
    else { return nil }
    self.init(part, comparison, ns: ns)
  }

  func holds(for command: borrowing CommandTimes) -> Bool {
    let time =
      switch part {
      case .total: command.total
      case .unexplained: command.unexplained
      case .stage(let stage): command.stages[stage]
      }
    return switch comparison {
    case .atLeast: time >= ns
    case .atMost: time <= ns
    case .above: time > ns
    case .below: time < ns
    }
  }
}

extension Substring {
  fileprivate var trimmed: Substring {
    var text = drop { $0 == " " }
    while text.last == " " { text.removeLast() }
    return text
  }
}

/// A number in decimal, or in hexadecimal after `0x`.
private func number(_ text: String) -> UInt64? {
  let isHexadecimal = text.hasPrefix("0x")
  let digits = isHexadecimal ? text.dropFirst(2) : Substring(text)
  guard let first = digits.first, first.isHexDigit else { return nil }
  return UInt64(digits, radix: isHexadecimal ? 16 : 10)
}
