import CPlatform
import Glibc
import Synchronization

/// Serves a device on a UNIX socket, to one client at a time.
public final class Server: @unchecked Sendable {
  public let path: String
  private let listener: Int32
  /// Signalled to end the serving.
  private let wake: Int32
  /// What the socket file was when it was made: another's is not removed.
  private let identity: (dev_t, ino_t)

  /// Listen at `path`. A socket file that nobody listens on any more is replaced.
  public init(path: String) throws(VFIOUserError) {
    self.path = path
    let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard listener >= 0 else { throw .system("cannot make a socket", errno) }
    do throws(VFIOUserError) {
      try Server.bind(listener, path)
    } catch {
      close(listener)
      throw error
    }
    self.listener = listener
    var status = stat()
    stat(path, &status)
    identity = (status.st_dev, status.st_ino)
    wake = nvmepf_eventfd()
  }

  deinit {
    close(listener)
    close(wake)
    var status = stat()
    if stat(path, &status) == 0, (status.st_dev, status.st_ino) == identity { unlink(path) }
  }

  private static func bind(_ listener: Int32, _ path: String) throws(VFIOUserError) {
    var result = try withSocketAddress(path) { Glibc.bind(listener, $0, $1) == 0 ? 0 : errno }
    if result == EADDRINUSE, try isStale(path) {
      unlink(path)
      result = try withSocketAddress(path) { Glibc.bind(listener, $0, $1) == 0 ? 0 : errno }
    }
    if result == EADDRINUSE {
      throw VFIOUserError(.inUse, "socket \(path) is in use: stop who serves there, or choose another path")
    }
    guard result == 0 else { throw .system("cannot listen at \(path)", result) }
    guard listen(listener, 8) == 0 else { throw .system("cannot listen at \(path)", errno) }
  }

  /// Whether `path` is a socket that nobody listens on.
  private static func isStale(_ path: String) throws(VFIOUserError) -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return false }
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard probe >= 0 else { return false }
    defer { close(probe) }
    return try withSocketAddress(path) { connect(probe, $0, $1) != 0 && errno == ECONNREFUSED }
  }

  /// End `serve`, from any thread or a signal handler.
  public func stop() {
    var one: UInt64 = 1
    _ = write(wake, &one, 8)
  }

  /// Wait for a client and serve it until it leaves.
  /// - Returns: false when `stop` ended it.
  /// - Throws: what the client did against the protocol; it is disconnected, and the next can be served.
  public func serve(_ device: some Device) throws(VFIOUserError) -> Bool {
    guard waitReadable(listener) else { return false }
    let socket = accept(listener, nil, nil)
    guard socket >= 0 else {
      if errno == ECONNABORTED || errno == EINTR { return true }
      throw .system("cannot accept a client", errno)
    }
    var session = Session(Connection(socket))
    // The device lets go of the client's memory before the session unmaps it.
    defer { device.disconnected() }
    while waitReadable(socket) {
      guard try session.handleNext(device) else { return true }
    }
    return false
  }

  /// - Returns: false when `stop` was called.
  private func waitReadable(_ descriptor: Int32) -> Bool {
    var polled = [
      pollfd(fd: wake, events: Int16(POLLIN), revents: 0), pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let count = poll(&polled, 2, -1)
      if polled[0].revents != 0 { return false }
      if count > 0 { return true }
    }
  }
}
