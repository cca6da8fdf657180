/// What the values of a variable are. It determines what a variable may be compared with.
public enum ValueKind: Sendable {
  /// A count, an index, an identifier.
  case number
  /// Nanoseconds.
  case time
  /// A number of bytes.
  case bytes
  /// True unless 0; a condition by itself.
  case flag
  /// One of several named values.
  case choice(Choices)

  /// With its article, as errors say it.
  var name: String {
    switch self {
    case .number: "a number"
    case .time: "a time"
    case .bytes: "a number of bytes"
    case .flag: "a flag"
    case .choice: "a choice of names"
    }
  }

  /// A condition on a variable of this kind.
  func example(_ variable: String) -> String {
    switch self {
    case .number: "\(variable) == 1"
    case .time: "\(variable) > 50us"
    case .bytes: "\(variable) > 4KiB"
    case .flag: variable
    case .choice(let choices): "\(variable) == \(choices.names.first ?? "1")"
    }
  }

  /// Whether two variables of these kinds can be compared.
  func isComparable(with other: ValueKind) -> Bool {
    switch (self, other) {
    case (.number, .number), (.time, .time), (.bytes, .bytes): true
    case (.choice(let one), .choice(let other)): one.names == other.names
    default: false
    }
  }
}

/// The named values of a variable.
public struct Choices: Sendable {
  /// In the order in which errors and pages list them. A name may stand for several values.
  public let values: [(name: String, value: UInt64)]
  /// The bits of a value that a number is compared with. Names are compared with all bits.
  public let numberMask: UInt64

  public init(_ values: [(name: String, value: UInt64)], numberMask: UInt64 = .max) {
    (self.values, self.numberMask) = (values, numberMask)
  }

  /// Each once.
  public var names: [String] {
    var seen = Set<String>()
    return values.map(\.name).filter { seen.insert($0).inserted }
  }

  func values(of name: String) -> [UInt64] { values.filter { $0.name == name }.map(\.value) }
}
