/// A word of an expression.
struct Token: Equatable {
  let value: Value
  /// In bytes of the text.
  let range: Range<Int>

  enum Value: Equatable {
    /// A name; `[]` in it had this index.
    case name(String, index: UInt64?)
    case number(UInt64, Unit)
    case comparison(Relation)
    case and, or, not, isIn, changes
    case open, close, comma, range, plus, mask
    case end
  }

  /// Of a number.
  enum Unit {
    case none, time, bytes

    /// With its article, as errors say it.
    var name: String {
      switch self {
      case .none: "a number"
      case .time: "a time"
      case .bytes: "a number of bytes"
      }
    }
  }

  /// Whether it may be a part of one value: `read`, `50us`, `100..200`.
  var isOfValue: Bool {
    switch value {
    case .name, .number, .range, .plus, .end: true
    default: false
    }
  }
}

/// How two values compare.
enum Relation: String, CaseIterable {
  case equal = "=="
  case notEqual = "!="
  case atMost = "<="
  case atLeast = ">="
  case below = "<"
  case above = ">"

  /// The same comparison with its sides exchanged.
  var mirrored: Relation {
    switch self {
    case .equal, .notEqual: self
    case .atMost: .atLeast
    case .atLeast: .atMost
    case .below: .above
    case .above: .below
    }
  }

  @inline(__always)
  func holds(_ one: UInt64, _ other: UInt64) -> Bool {
    switch self {
    case .equal: one == other
    case .notEqual: one != other
    case .atMost: one <= other
    case .atLeast: one >= other
    case .below: one < other
    case .above: one > other
    }
  }
}
