/// A JSON value whose objects keep their order (RFC 8259). Its text is safe for a terminal.
public enum JSON: Sendable {
  case object([(String, JSON)])
  case array([JSON])
  case string(String)
  /// A number or a boolean, as written.
  case literal(String)

  public static func boolean(_ value: Bool) -> JSON { .literal(value ? "true" : "false") }
  public static func integer(_ value: some BinaryInteger) -> JSON { .literal("\(value)") }
  /// Round-trips: reading it gives the same number.
  /// - Precondition: `value` is finite.
  public static func number(_ value: Double) -> JSON {
    precondition(value.isFinite)
    return .literal(value.description)
  }

  /// Several lines; objects of plain values stand on one line.
  public var text: String { text(indent: "") }

  /// One line, without spaces.
  public var line: String {
    switch self {
    case .object(let members):
      "{" + members.map { "\(JSON.quoted($0)):\($1.line)" }.joined(separator: ",") + "}"
    case .array(let values): "[" + values.map(\.line).joined(separator: ",") + "]"
    case .string(let string): JSON.quoted(string)
    case .literal(let text): text
    }
  }

  private func text(indent: String) -> String {
    let inner = indent + "  "
    switch self {
    case .object(let members) where members.allSatisfy(\.1.isPlain):
      return "{" + members.map { "\(JSON.quoted($0)): \($1.text)" }.joined(separator: ", ") + "}"
    case .object(let members):
      let lines = members.map { "\(inner)\(JSON.quoted($0)): \($1.text(indent: inner))" }
      return "{\n" + lines.joined(separator: ",\n") + "\n\(indent)}"
    case .array(let values) where values.isEmpty: return "[]"
    case .array(let values):
      return "[\n" + values.map { inner + $0.text(indent: inner) }.joined(separator: ",\n") + "\n\(indent)]"
    case .string, .literal: return line
    }
  }

  private var isPlain: Bool {
    switch self {
    case .object, .array: false
    case .string, .literal: true
    }
  }

  private static func quoted(_ string: String) -> String {
    var text = "\""
    for scalar in string.unicodeScalars {
      if scalar == "\"" || scalar == "\\" { text += "\\" }
      // Line feeds are the only control characters in JSON's own layout.
      text += scalar == "\n" ? "\\u000a" : String(scalar)
    }
    return text.printableJSON + "\""
  }
}

extension JSON: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral {
  public init(dictionaryLiteral members: (String, JSON)...) { self = .object(members) }
  public init(arrayLiteral values: JSON...) { self = .array(values) }
  public init(stringLiteral string: String) { self = .string(string) }
}
