import NVMe
import Text

/// Why the driver cannot use a controller, in one line.
public struct HostError: Error, CustomStringConvertible, Sendable {
  public enum Kind: Sendable {
    case other
    /// The device has closed its end.
    case gone
    /// The device takes longer than it may.
    case late
  }

  public let description: String
  public let kind: Kind

  public init(_ description: String, kind: Kind = .other) {
    self.description = description
    self.kind = kind
  }
}

extension HostError {
  static func failed(_ what: String, _ status: Status) -> HostError {
    HostError("\(what) failed with status \(status.rawValue.hex)")
  }
}
