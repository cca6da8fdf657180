import Glibc

/// Why a trace or a ring cannot be used, in one line that includes a remedy.
public struct TraceError: Error, CustomStringConvertible, Sendable {
  /// What is wrong, for callers that distinguish it.
  public enum Kind: Sendable {
    /// The file is missing, or not readable or writable.
    case system(Int32)
    /// The file is not a trace.
    case notATrace
    /// Another version wrote the file in a way that this version cannot read.
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

  static func system(_ what: String, _ error: Int32) -> TraceError {
    TraceError(.system(error), "\(what): \(String(cString: strerror(error)))")
  }
}
