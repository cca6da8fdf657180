import NVMe
import Text
import VFIOUser

/// Why the driver cannot use a controller, in one line.
public struct HostError: Error, CustomStringConvertible, Sendable {
  /// What failed, for callers that distinguish it.
  public enum Kind: Sendable {
    case other
    /// The device has closed the connection.
    case gone
    /// The device exceeds a time limit.
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
  /// Convert the errors of an expression to this type.
  static func wrap<Result>(_ body: @autoclosure () throws(VFIOUserError) -> Result) throws(HostError) -> Result {
    do throws(VFIOUserError) { return try body() } catch { throw HostError(error.description) }
  }

  static func failed(_ what: String, _ status: Status) -> HostError {
    HostError("\(what) failed with status \(status.rawValue.hex)")
  }
}
