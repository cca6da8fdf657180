import Glibc

/// Why creating, connecting or listening failed, in one line that includes a remedy.
public struct LocalSocketError: Error, CustomStringConvertible, Sendable {
  /// What failed.
  public enum Kind: Equatable, Sendable {
    case system(Int32)
    /// Another process listens there.
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
    guard descriptor >= 0 else { throw .system("cannot create a socket", errno) }
    return descriptor
  }

  /// - Parameter timeoutMs: maximum time for the listener to accept; later, for a `send`.
  /// - Returns: a descriptor that the caller closes.
  public static func connect(_ path: String, timeoutMs: Int = 10_000) throws(LocalSocketError) -> Int32 {
    let descriptor = try make()
    limit(descriptor, SO_SNDTIMEO, timeoutMs)
    do throws(LocalSocketError) {
      var error: Int32
      // The kernel does not restart a wait with a time limit (signal(7)); nothing is connected then.
      repeat {
        error = try withAddress(path) { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
      } while error == EINTR
      guard error != EAGAIN else {
        throw LocalSocketError(
          kind: .system(error),
          description: "cannot connect to \(path): the process that listens there does not accept; restart it")
      }
      guard error == 0 else { throw .system("cannot connect to \(path)", error) }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Make waits on a socket end with EAGAIN.
  /// - Parameter direction: `SO_RCVTIMEO`, or `SO_SNDTIMEO`, which includes `connect` (socket(7)).
  public static func limit(_ descriptor: Int32, _ direction: Int32, _ milliseconds: Int) {
    var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
    setsockopt(descriptor, SOL_SOCKET, direction, &time, socklen_t(MemoryLayout<timeval>.size))
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
