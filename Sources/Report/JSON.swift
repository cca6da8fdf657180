import Trace

/// A JSON value whose objects keep their order (RFC 8259).
enum JSON {
  case object([(String, JSON)])
  case array([JSON])
  case string(String)
  case boolean(Bool)
  case integer(UInt64)
  /// Written so that reading it gives the same number. Finite.
  case number(Double)

  /// Objects of plain values stand on one line.
  var text: String { text(indent: "") }

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
    case .string(let string): return JSON.quoted(string)
    case .boolean(let value): return value ? "true" : "false"
    case .integer(let value): return String(value)
    case .number(let value):
      precondition(value.isFinite)
      return value.description
    }
  }

  private var isPlain: Bool {
    switch self {
    case .object, .array: false
    case .string, .boolean, .integer, .number: true
    }
  }

  private static func quoted(_ string: String) -> String {
    var text = "\""
    for scalar in string.unicodeScalars {
      if scalar == "\"" || scalar == "\\" { text += "\\" }
      // Line feeds are the only control characters that JSON's own layout has.
      text += scalar == "\n" ? "\\u000a" : String(scalar)
    }
    return text.printableJSON + "\""
  }
}
