import CPlatform
import Glibc
import LocalSocket

/// Serves a device on a UNIX socket, to one client at a time.
public final class Server: @unchecked Sendable {
  private let listener: LocalListener
  /// Signalled to end the serving.
  private let wake: Int32

  /// How long a client may leave a message half sent or a reply unread: it sends a message at once, or it is stuck.
  private static let patienceMs: Int32 = 10_000

  /// Listen at `path`. A socket file that nobody listens on any more is replaced.
  public init(path: String) throws(VFIOUserError) {
    listener = try VFIOUserError.wrap { () throws(LocalSocketError) in try LocalListener(path: path) }
    wake = nvmepf_eventfd()
  }

  deinit { close(wake) }

  public var path: String { listener.path }

  /// End `serve`, from any thread or a signal handler.
  public func stop() {
    var one: UInt64 = 1
    _ = write(wake, &one, 8)
  }

  /// Wait for a client and serve it until it leaves.
  /// - Returns: false when `stop` ended it.
  /// - Throws: what the client did against the protocol; it is disconnected, and the next can be served.
  public func serve(_ device: some Device) throws(VFIOUserError) -> Bool {
    guard waitReadable(listener.descriptor) else { return false }
    guard let socket = try VFIOUserError.wrap({ () throws(LocalSocketError) in try listener.accept() }) else {
      return true
    }
    var session = Session(Connection(socket, wake: wake, patienceMs: Server.patienceMs))
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
