import Text

/// Why a text is not an expression, in one line.
public struct ExpressionError: Error, Equatable, CustomStringConvertible {
  /// What is wrong and what to write instead.
  public let message: String
  /// Where it is, in characters from 1.
  public let column: Int
  private let text: String

  /// - Parameter offset: of the mistake, in bytes of the text.
  init(_ message: String, at offset: Int, of text: String) {
    let before = text.utf8.prefix(offset)
    (self.message, self.text) = (message, text)
    // A byte 10xxxxxx continues a character.
    column = before.count { $0 & 0xc0 != 0x80 } + 1
  }

  public var description: String { "column \(column): \(message)" }

  /// Two lines: the expression, and a caret below the mistake.
  public var marked: String {
    let line = String(text.map { $0.isWhitespace ? " " : $0 }).printable(limit: 400)
    return "\(line)\n\(String(repeating: " ", count: column - 1))^"
  }
}
