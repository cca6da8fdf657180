import Glibc
import LocalSocket

/// Why a vfio-user connection cannot be made or does not go on, in one line that says what to do.
public struct VFIOUserError: Error, CustomStringConvertible, Sendable {
  public enum Kind: Equatable, Sendable {
    case system(Int32)
    /// Somebody serves on this socket already.
    case inUse
    case pathTooLong
    /// The other side is gone.
    case disconnected
    /// The other side broke the protocol.
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

  /// Run `body`, and give what it throws the kind that it has here.
  static func wrap<Result>(_ body: () throws(LocalSocketError) -> Result) throws(VFIOUserError) -> Result {
    do throws(LocalSocketError) {
      return try body()
    } catch {
      switch error.kind {
      case .system(let number): throw VFIOUserError(.system(number), error.description)
      case .inUse: throw VFIOUserError(.inUse, error.description)
      case .pathTooLong: throw VFIOUserError(.pathTooLong, error.description)
      }
    }
  }
}
