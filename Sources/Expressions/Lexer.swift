import Text

/// Divides a text into tokens.
struct Lexer {
  private let text: String
  private let bytes: [UInt8]
  private var place = 0

  /// - Throws: if the text is too long, or contains something that the language does not have.
  static func tokens(of text: String) throws(ExpressionError) -> [Token] {
    guard text.utf8.count <= expressionBytesMax else {
      throw ExpressionError(
        "the expression is longer than \(expressionBytesMax) bytes", at: 0, of: String(text.prefix(80)))
    }
    var lexer = Lexer(text)
    var tokens: [Token] = []
    repeat { tokens.append(try lexer.next()) } while tokens.last?.value != .end
    return tokens
  }

  private init(_ text: String) {
    self.text = text
    bytes = Array(text.utf8)
  }

  private func byte(_ ahead: Int = 0) -> UInt8 { place + ahead < bytes.count ? bytes[place + ahead] : 0 }

  private func error(_ message: String, at offset: Int) -> ExpressionError {
    ExpressionError(message, at: offset, of: text)
  }

  private func written(from begin: Int) -> String { String(decoding: bytes[begin..<place], as: UTF8.self) }

  private mutating func skipSpaces() {
    while [0x20, 0x09, 0x0a, 0x0d].contains(byte()) { place += 1 }
  }

  private mutating func next() throws(ExpressionError) -> Token {
    skipSpaces()
    let begin = place
    let value: Token.Value
    if place == bytes.count {
      value = .end
    } else if byte().isDigit {
      value = try number()
    } else if byte().isLetter {
      value = try name()
    } else {
      value = try sign()
    }
    return Token(value: value, range: begin..<place)
  }

  // MARK: Signs

  private static let signs: [(text: String, value: Token.Value)] =
    Relation.allCases.map { ($0.rawValue, .comparison($0)) } + [
      ("&&", .and), ("||", .or), ("!", .not), ("(", .open), (")", .close), (",", .comma), ("..", .range),
      ("+", .plus), ("&", .mask),
    ]

  private mutating func sign() throws(ExpressionError) -> Token.Value {
    for sign in Lexer.signs where bytes[place...].starts(with: sign.text.utf8) {
      place += sign.text.utf8.count
      return sign.value
    }
    switch byte() {
    case UInt8(ascii: "="): throw error("write == for equal", at: place)
    case UInt8(ascii: "|"): throw error("write || for or", at: place)
    case UInt8(ascii: "-"):
      throw error("there are no negative numbers and no differences; a range is 100..200", at: place)
    default:
      let rest = String(decoding: bytes[place...].prefix(4), as: UTF8.self).first.map(String.init) ?? ""
      throw error("'\(rest.printable())' is no part of an expression", at: place)
    }
  }

  // MARK: Names

  /// Letters, digits and underscores; within the name also hyphens and dots, and one index in brackets.
  private mutating func name() throws(ExpressionError) -> Token.Value {
    var name = ""
    var index: UInt64?
    while true {
      let begin = place
      while byte().isLetter || byte().isDigit || (byte().isJoint && (byte(1).isLetter || byte(1).isDigit)) {
        place += 1
      }
      name += written(from: begin)
      guard byte() == UInt8(ascii: "[") else { break }
      guard index == nil else { throw error("a name has one index", at: place) }
      index = try bracketed()
      name += "[]"
    }
    switch name {
    case "and": return .and
    case "or": return .or
    case "not": return .not
    case "in": return .isIn
    case "changes": return .changes
    default: return .name(name, index: index)
    }
  }

  private mutating func bracketed() throws(ExpressionError) -> UInt64 {
    place += 1
    skipSpaces()
    let begin = place
    guard byte().isDigit, case .number(let index, .none) = try number() else {
      throw error("an index is a number, as in cq[1]", at: begin)
    }
    skipSpaces()
    guard byte() == UInt8(ascii: "]") else { throw error("] is missing after the index", at: place) }
    place += 1
    return index
  }

  // MARK: Numbers

  private static let units: [(text: String, factor: UInt64, unit: Token.Unit)] = [
    ("", 1, .none), ("ns", 1, .time), ("us", 1_000, .time), ("µs", 1_000, .time), ("ms", 1_000_000, .time),
    ("s", 1_000_000_000, .time), ("B", 1, .bytes), ("kB", 1_000, .bytes), ("KB", 1_000, .bytes),
    ("MB", 1_000_000, .bytes), ("GB", 1_000_000_000, .bytes), ("TB", 1_000_000_000_000, .bytes),
    ("KiB", 1 << 10, .bytes), ("MiB", 1 << 20, .bytes), ("GiB", 1 << 30, .bytes), ("TiB", 1 << 40, .bytes),
  ]

  private mutating func number() throws(ExpressionError) -> Token.Value {
    let begin = place
    if byte() == UInt8(ascii: "0"), byte(1) == UInt8(ascii: "x") {
      place += 2
      return .number(try hexadecimal(from: begin), .none)
    }
    var (whole, fraction, scale): (UInt128, UInt128, UInt128) = (0, 0, 1)
    func digit() -> UInt128 { UInt128(byte() - UInt8(ascii: "0")) }
    while byte().isDigit {
      whole = min(whole * 10 + digit(), 1 << 64)
      place += 1
    }
    if byte() == UInt8(ascii: "."), byte(1).isDigit {
      place += 1
      while byte().isDigit {
        // Later digits are below a nanosecond or a byte.
        if scale < 1_000_000_000_000_000_000 { (fraction, scale) = (fraction * 10 + digit(), scale * 10) }
        place += 1
      }
    }
    let unitBegin = place
    while byte().isLetter || byte().isDigit || byte() >= 0x80 { place += 1 }
    let suffix = written(from: unitBegin)
    // U+03BC is another µ.
    guard let unit = Lexer.units.first(where: { $0.text == (suffix == "\u{3bc}s" ? "µs" : suffix) }) else {
      throw error(
        "'\(suffix.printable(limit: 40))' is no unit: write ns, us, ms, s, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB",
        at: unitBegin)
    }
    guard scale == 1 || unit.factor > 1 else {
      throw error("\(written(from: begin).printable(limit: 60)) is not a whole number", at: begin)
    }
    let factor = UInt128(unit.factor)
    guard let value = UInt64(exactly: whole * factor + (fraction * factor + scale / 2) / scale) else {
      throw tooLarge(from: begin)
    }
    return .number(value, unit.unit)
  }

  private mutating func hexadecimal(from begin: Int) throws(ExpressionError) -> UInt64 {
    let digits = place
    while byte().isLetter || byte().isDigit { place += 1 }
    let text = written(from: digits)
    guard !text.isEmpty, text.allSatisfy(\.isHexDigit) else {
      throw error("'\(written(from: begin).printable(limit: 60))' is no hexadecimal number", at: begin)
    }
    guard let value = UInt64(text, radix: 16) else { throw tooLarge(from: begin) }
    return value
  }

  private func tooLarge(from begin: Int) -> ExpressionError {
    error("\(written(from: begin).printable(limit: 60)) is too large: a number has 64 bits", at: begin)
  }
}

/// Longest text of an expression, in bytes.
let expressionBytesMax = 4096

extension UInt8 {
  fileprivate var isDigit: Bool { self >= 0x30 && self <= 0x39 }
  /// ASCII, or an underscore.
  fileprivate var isLetter: Bool { self | 0x20 >= 0x61 && self | 0x20 <= 0x7a || self == 0x5f }
  /// A hyphen or a dot.
  fileprivate var isJoint: Bool { self == 0x2d || self == 0x2e }
}
