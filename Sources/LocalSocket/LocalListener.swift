import CPlatform
import Glibc
import Synchronization

/// Listens on a socket in the file system, and removes it at its end.
public final class LocalListener: Sendable {
  public let path: String
  public let descriptor: Int32
  /// What the socket file was when it was made: another's is not removed.
  private let device: dev_t
  private let inode: ino_t
  /// Given up to turn a client away when there is no other descriptor: it would wait, and wake the listener, for ever.
  private let spare: Atomic<Int32>

  /// A socket file that nobody listens on any more is replaced.
  /// - Parameter isPrivate: only its owner may connect.
  public init(path: String, isPrivate: Bool = false) throws(LocalSocketError) {
    self.path = path
    let listener = try LocalSocket.make()
    do throws(LocalSocketError) {
      // Before anybody can see it.
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

  /// Who may wait to be accepted: more than are ever there at once, unless somebody means harm.
  private static let backlog: Int32 = 64

  private static func openSpare() -> Int32 { open("/dev/null", O_RDONLY | O_CLOEXEC) }

  deinit {
    close(descriptor)
    close(spare.load(ordering: .relaxed))
    var status = stat()
    if stat(path, &status) == 0, status.st_dev == device, status.st_ino == inode { unlink(path) }
  }

  /// The next who wants to connect.
  /// - Returns: a descriptor that does not block; nil where it has gone again.
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

  /// Close the connection of the next who wants one.
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
        throw LocalSocketError(kind: .inUse, description: "\(path) is there, and no socket: choose another path")
      }
      throw LocalSocketError(
        kind: .inUse, description: "socket \(path) is in use: stop who serves there, or choose another path")
    }
    guard result == 0 else { throw .system("cannot listen at \(path)", result) }
    guard listen(listener, LocalListener.backlog) == 0 else { throw .system("cannot listen at \(path)", errno) }
  }

  private static func isSocket(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
  }

  /// Whether `path` is a socket that nobody listens on.
  private static func isStale(_ path: String) throws(LocalSocketError) -> Bool {
    guard isSocket(path) else { return false }
    let probe = try LocalSocket.make()
    defer { close(probe) }
    // Somebody listens there, and is busy: that is an answer too.
    _ = fcntl(probe, F_SETFL, O_NONBLOCK)
    return try LocalSocket.withAddress(path) { connect(probe, $0, $1) != 0 && errno == ECONNREFUSED }
  }
}
