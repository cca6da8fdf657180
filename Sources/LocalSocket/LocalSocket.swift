import Glibc

/// Why a socket cannot be had, in one line that says what to do.
public struct LocalSocketError: Error, CustomStringConvertible, Sendable {
  public enum Kind: Equatable, Sendable {
    case system(Int32)
    /// Somebody listens there already.
    case inUse
    case pathTooLong
  }

  public let kind: Kind
  public let description: String

  static func system(_ what: String, _ error: Int32) -> LocalSocketError {
    LocalSocketError(kind: .system(error), description: "\(what): \(String(cString: strerror(error)))")
  }
}

/// Stream sockets in the file system (unix(7)).
public enum LocalSocket {
  /// A new socket, not connected.
  public static func make() throws(LocalSocketError) -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .system("cannot make a socket", errno) }
    return descriptor
  }

  /// - Returns: a descriptor that the caller closes.
  public static func connect(_ path: String) throws(LocalSocketError) -> Int32 {
    let descriptor = try make()
    do throws(LocalSocketError) {
      let error = try withAddress(path) { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
      guard error == 0 else { throw .system("cannot connect to \(path)", error) }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  package static func withAddress<Result>(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) throws(LocalSocketError) -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < room, !path.isEmpty else {
      throw LocalSocketError(
        kind: .pathTooLong, description: "socket path '\(path)' must have 1 to \(room - 1) bytes: choose another")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }
}
