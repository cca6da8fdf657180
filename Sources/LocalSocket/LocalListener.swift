import CPlatform
import Glibc
import Synchronization

/// Listens on a socket in the file system, and removes the socket file at its end.
public final class LocalListener: Sendable {
  public let path: String
  public let descriptor: Int32
  /// Identity of our socket file: another one is not removed.
  private let device: dev_t
  private let inode: ino_t
  /// Closed to turn a client away when no other descriptor is available; otherwise the client would wait and wake the
  /// listener for ever.
  private let spare: Atomic<Int32>

  /// Replaces a socket file without a listener.
  /// - Parameter isPrivate: only its owner may connect.
  public init(path: String, isPrivate: Bool = false) throws(LocalSocketError) {
    self.path = path
    let listener = try LocalSocket.make()
    do throws(LocalSocketError) {
      // Before anyone can connect.
      if isPrivate { fchmod(listener, 0o600) }
      try LocalListener.bind(listener, path)
    } catch {
      close(listener)
      throw error
    }
    descriptor = listener
    var status = stat()
    stat(path, &status)
    (device, inode) = (status.st_dev, status.st_ino)
    spare = Atomic(LocalListener.openSpare())
  }

  /// Backlog of connections: more than ever occur at once, except in an attack.
  private static let backlog: Int32 = 64

  private static func openSpare() -> Int32 { open("/dev/null", O_RDONLY | O_CLOEXEC) }

  deinit {
    close(descriptor)
    close(spare.load(ordering: .relaxed))
    var status = stat()
    if stat(path, &status) == 0, status.st_dev == device, status.st_ino == inode { unlink(path) }
  }

  /// Accept the next connection.
  /// - Returns: a nonblocking descriptor; nil if the connection has gone.
  public func accept() throws(LocalSocketError) -> Int32? {
    let socket = nvmepf_accept(descriptor)
    if socket >= 0 { return socket }
    let error = -socket
    if error == EMFILE || error == ENFILE {
      turnAway()
      throw .system("a client was turned away", error)
    }
    guard error == ECONNABORTED || error == EINTR || error == EAGAIN else {
      throw .system("cannot accept a client", error)
    }
    return nil
  }

  /// Accept the next connection and close it.
  private func turnAway() {
    close(spare.load(ordering: .relaxed))
    close(nvmepf_accept(descriptor))
    spare.store(LocalListener.openSpare(), ordering: .relaxed)
  }

  private static func bind(_ listener: Int32, _ path: String) throws(LocalSocketError) {
    var result = try LocalSocket.withAddress(path) { Glibc.bind(listener, $0, $1) == 0 ? 0 : errno }
    if result == EADDRINUSE, try isStale(path) {
      unlink(path)
      result = try LocalSocket.withAddress(path) { Glibc.bind(listener, $0, $1) == 0 ? 0 : errno }
    }
    if result == EADDRINUSE {
      guard isSocket(path) else {
        throw LocalSocketError(kind: .inUse, description: "\(path) exists and is not a socket; choose another path")
      }
      throw LocalSocketError(
        kind: .inUse,
        description: "socket \(path) is in use; stop the process that serves there, or choose another path")
    }
    guard result == 0 else { throw .system("cannot listen at \(path)", result) }
    guard listen(listener, LocalListener.backlog) == 0 else { throw .system("cannot listen at \(path)", errno) }
  }

  private static func isSocket(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
  }

  /// Whether `path` is a socket without a listener.
  private static func isStale(_ path: String) throws(LocalSocketError) -> Bool {
    guard isSocket(path) else { return false }
    let probe = try LocalSocket.make()
    defer { close(probe) }
    // A busy listener is a listener too.
    _ = fcntl(probe, F_SETFL, O_NONBLOCK)
    return try LocalSocket.withAddress(path) { connect(probe, $0, $1) != 0 && errno == ECONNREFUSED }
  }
}
