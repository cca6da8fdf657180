/// A JSON text as written (RFC 8259): members of objects in order, numbers as text.
///
/// Foundation's readers do not report duplicate keys or their places, which authors of configurations need.
indirect enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([Member])

  struct Member: Equatable, Sendable {
    var key: String
    var value: JSONValue
  }

  /// As named in a message.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "true or false"
    case .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

/// Why a text is not JSON, and where.
struct JSONError: Error {
  let line: Int
  let column: Int
  let what: String
}

/// Reads one untrusted JSON text: nesting is bounded, and every byte is read once.
struct JSONReader {
  private let bytes: [UInt8]
  private var position = 0

  private static let depthMax = 64

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  static func read(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
    var reader = JSONReader(bytes)
    let value = try reader.value(depth: 0)
    reader.skipSpace()
    guard reader.position == bytes.count else { throw reader.error("unexpected text after the end") }
    return value
  }

  private func error(_ what: String) -> JSONError {
    let before = bytes[..<min(position, bytes.count)]
    let line = before.count(where: { $0 == UInt8(ascii: "\n") }) + 1
    let begin = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    return JSONError(line: line, column: before.count - begin + 1, what: what)
  }

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d { position += 1 }
  }

  private mutating func consume(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    guard depth < JSONReader.depthMax else { throw error("nested too deeply") }
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth)
    case UInt8(ascii: "["): return try array(depth)
    case UInt8(ascii: "\""): return .string(try string())
    case let byte? where "-0123456789".utf8.contains(byte): return try number()
    default: return try word()
    }
  }

  private mutating func object(_ depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var members: [JSONValue.Member] = []
    if consume("}") { return .object([]) }
    repeat {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw error("expected a key in quotation marks") }
      let key = try string()
      guard consume(":") else { throw error("expected a colon") }
      members.append(.init(key: key, value: try value(depth: depth + 1)))
    } while consume(",")
    guard consume("}") else { throw error("expected a comma or a closing brace") }
    return .object(members)
  }

  private mutating func array(_ depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    if consume("]") { return .array([]) }
    repeat { values.append(try value(depth: depth + 1)) } while consume(",")
    guard consume("]") else { throw error("expected a comma or a closing bracket") }
    return .array(values)
  }

  private mutating func word() throws(JSONError) -> JSONValue {
    for (text, value) in [("true", JSONValue.bool(true)), ("false", .bool(false)), ("null", .null)]
    where bytes[position...].starts(with: text.utf8) {
      position += text.utf8.count
      return value
    }
    throw error(position < bytes.count ? "expected a value" : "the text ends too early")
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    let begin = position
    while let byte = next, "+-.eE0123456789".utf8.contains(byte) { position += 1 }
    let text = String(decoding: bytes[begin..<position], as: UTF8.self)
    guard Double(text) != nil else { throw error("\(text) is not a number") }
    return .number(text)
  }

  private mutating func string() throws(JSONError) -> String {
    position += 1
    var text: [UInt8] = []
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
      case UInt8(ascii: "\\"): text += try escape()
      case 0..<0x20: throw error("a control character in a string")
      default: text.append(byte)
      }
    }
    throw error("the text ends within a string")
  }

  private mutating func escape() throws(JSONError) -> [UInt8] {
    guard let byte = next else { throw error("the text ends within a string") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [8]
    case UInt8(ascii: "f"): return [12]
    case UInt8(ascii: "n"): return [10]
    case UInt8(ascii: "r"): return [13]
    case UInt8(ascii: "t"): return [9]
    case UInt8(ascii: "u"): return try codePoint()
    default: throw error("an unknown escape")
    }
  }

  private mutating func codePoint() throws(JSONError) -> [UInt8] {
    var unit = try hexadecimal()
    // A surrogate must come with its other half.
    if unit & 0xfc00 == 0xd800, bytes[position...].starts(with: "\\u".utf8) {
      position += 2
      let low = try hexadecimal()
      guard low & 0xfc00 == 0xdc00 else { throw error("half a surrogate pair") }
      unit = 0x10000 + (unit & 0x3ff) << 10 + low & 0x3ff
    }
    guard let scalar = Unicode.Scalar(unit) else { throw error("half a surrogate pair") }
    return Array(String(Character(scalar)).utf8)
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    let digits = String(decoding: bytes[position...].prefix(4), as: UTF8.self)
    // An integer's initialiser also accepts a sign.
    guard digits.utf8.count == 4, digits.allSatisfy(\.isHexDigit), let unit = UInt32(digits, radix: 16) else {
      throw error("expected four hexadecimal digits")
    }
    position += 4
    return unit
  }
}
