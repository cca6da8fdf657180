import Text

/// The words of a command line, taken one after the other.
struct TypedWords {
  private var words: [Substring]
  /// What follows the command's name.
  let line: String

  init(_ line: String) {
    self.line = line
    words = line.split { $0 == " " || $0 == "\t" }
  }

  var isEmpty: Bool { words.isEmpty }

  mutating func next() -> String? { words.isEmpty ? nil : String(words.removeFirst()) }

  /// The rest of the line, as written.
  var rest: String { words.joined(separator: " ") }

  /// - Throws: if a word is left.
  func end() throws(DebuggerError) {
    guard let word = words.first else { return }
    throw DebuggerError("'\(String(word).printable(limit: 40))' is one word too many; see help")
  }

  /// The next word if it is a number.
  mutating func number() -> UInt64? {
    guard let word = words.first, let number = TypedWords.number(word) else { return nil }
    words.removeFirst()
    return number
  }

  /// A number in decimal, or in hexadecimal after `0x`.
  static func number(_ text: some StringProtocol) -> UInt64? {
    if text.hasPrefix("0x") { return UInt64(text.dropFirst(2), radix: 16) }
    return text.first?.isNumber == true ? UInt64(text) : nil
  }
}

/// A command as people write it: `5`, `0x140`, `1/0x140`.
struct QueueAndCommand {
  /// Nil if only the identifier is given.
  let qid: UInt16?
  let cid: UInt16

  init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let cid = parts.last.flatMap(TypedWords.number).flatMap(UInt16.init(exactly:))
    else { return nil }
    self.cid = cid
    if parts.count == 1 {
      qid = nil
    } else {
      guard let qid = TypedWords.number(parts[0]).flatMap(UInt16.init(exactly:)) else { return nil }
      self.qid = qid
    }
  }
}
