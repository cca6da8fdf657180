import Glibc

/// Why a trace or a ring cannot be used, in one line that says what to do.
public struct TraceError: Error, CustomStringConvertible, Sendable {
  public enum Kind: Sendable {
    /// The file is missing, not readable or not writable.
    case system(Int32)
    /// It is not a trace.
    case notATrace
    /// Another version wrote it in a way that this one cannot read.
    case otherVersion
    /// Its bytes contradict each other or their checksum.
    case damaged
  }

  public let kind: Kind
  public let description: String

  public init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }

  /// A number in words of three digits, as errors and reports show it.
  static func grouped(_ value: UInt64) -> String {
    var digits = Array(String(value).utf8)
    var place = digits.count - 3
    while place > 0 {
      digits.insert(UInt8(ascii: " "), at: place)
      place -= 3
    }
    return String(decoding: digits, as: UTF8.self)
  }

  static func system(_ what: String, _ error: Int32) -> TraceError {
    TraceError(.system(error), "\(what): \(String(cString: strerror(error)))")
  }
}
