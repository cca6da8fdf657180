import Glibc
import LocalSocket

/// Why a vfio-user connection fails, in one line that includes a remedy.
public struct VFIOUserError: Error, CustomStringConvertible, Sendable {
  /// What failed, for callers that distinguish it.
  public enum Kind: Equatable, Sendable {
    case system(Int32)
    /// The socket cannot be used.
    case socket(LocalSocketError.Kind)
    /// The other side has disconnected.
    case disconnected
    /// The other side violated the protocol.
    case protocolViolation
    /// The server answered a request with this error number.
    case refused(Int32)
  }

  public let kind: Kind
  public let description: String

  init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }

  static func system(_ what: String, _ error: Int32) -> VFIOUserError {
    VFIOUserError(.system(error), "\(what): \(String(cString: strerror(error)))")
  }

  /// Convert the errors of an expression to this type.
  static func wrap<Result>(_ body: @autoclosure () throws(LocalSocketError) -> Result) throws(VFIOUserError) -> Result {
    do throws(LocalSocketError) { return try body() } catch {
      throw VFIOUserError(.socket(error.kind), error.description)
    }
  }
}
