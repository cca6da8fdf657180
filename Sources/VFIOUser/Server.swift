import CPlatform
import Glibc
import LocalSocket
import Platform

/// Serves a device on a UNIX socket, to one client at a time.
public final class Server: @unchecked Sendable {
  private let listener: LocalListener
  /// Signalled to stop serving.
  private let wake: EventDescriptor

  /// How long a client may leave a message half sent or a reply unread: it sends messages in one piece, or it is stuck.
  private static let timeoutMs: Int32 = 10_000

  /// How long a new client may take for its first message.
  private let silenceMs: Int32
  private let tell: @Sendable (ServingEvent) -> Void
  private let clock: MonotonicClock
  /// Connected clients that have not sent anything yet; owned by the serving thread.
  private var silent: [(socket: Int32, deadlineNs: UInt64)] = []
  /// When serving the current client began; 0 before the first.
  private var servingSinceNs: UInt64 = 0

  /// Listen at `path`. A socket file without a listener is replaced.
  /// - Parameters:
  ///   - silenceMs: how long a new client may take for its first message.
  ///   - tell: called on the serving thread.
  public convenience init(
    path: String, silenceMs: Int32 = 5000, tell: @escaping @Sendable (ServingEvent) -> Void = { _ in }
  ) throws(VFIOUserError) {
    try self.init(path: path, silenceMs: silenceMs, clock: MonotonicClock(), tell: tell)
  }

  init(
    path: String, silenceMs: Int32 = 5000, clock: MonotonicClock, tell: @escaping @Sendable (ServingEvent) -> Void
  ) throws(VFIOUserError) {
    self.tell = tell
    self.clock = clock
    self.silenceMs = silenceMs
    listener = try VFIOUserError.wrap(try LocalListener(path: path))
    do throws(SystemError) { wake = try EventDescriptor() } catch {
      throw .system("cannot create an event descriptor", error.code)
    }
  }

  deinit { for client in silent { close(client.socket) } }

  /// End `serve`, from any thread or a signal handler.
  public func stop() { wake.raise() }

  /// Wait for a client and serve it until it disconnects.
  /// - Returns: false if `stop` ended it.
  /// - Throws: the client's protocol violation; the client is disconnected, and the next one can be served.
  public func serve(_ device: some Device) throws(VFIOUserError) -> Bool {
    guard let socket = try nextClient() else { return false }
    var session = ClientSession(Connection(socket, wake: wake.descriptor, timeoutMs: Server.timeoutMs), tell: tell)
    guard device.connected() else {
      throw VFIOUserError(.protocolViolation, "a client was turned away: no memory for its doorbells")
    }
    // The device releases the client's memory before the session unmaps it.
    tell(.clientCame)
    defer {
      device.disconnected()
      tell(.clientLeft)
    }
    while true {
      switch waitForMessage(socket, device) {
      case .message: guard try session.handleNext(device) else { return true }
      // Messages that the client left unread are discarded.
      case .left: return true
      case .alarm:
        guard let reason = device.consumeAlarm() else { continue }
        throw VFIOUserError(.protocolViolation, "the client is disconnected: \(reason)")
      case .stopped: return false
      }
    }
  }

  // MARK: Waiting

  /// Maximum number of silent clients.
  private static let silentMax = 16

  /// The first client to send anything, so that a silent one delays nobody.
  /// - Returns: a descriptor; nil if `stop` was called.
  private func nextClient() throws(VFIOUserError) -> Int32? {
    passOver()
    while true {
      var polled = [wake.descriptor, listener.descriptor].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      polled += silent.map { pollfd(fd: $0.socket, events: Int16(POLLIN), revents: 0) }
      let count = poll(&polled, nfds_t(polled.count), clock.milliseconds(until: silent.map(\.deadlineNs).min()))
      guard count >= 0 else { continue }
      if polled[0].revents != 0 { return nil }
      if let place = silent.indices.first(where: { polled[2 + $0].revents != 0 }) {
        servingSinceNs = clock.now()
        return silent.remove(at: place).socket
      }
      dropSilent()
      if polled[1].revents != 0 { try admit() }
    }
  }

  /// Time during which another client was served does not count as silence: no answer was possible.
  private func passOver() {
    guard servingSinceNs != 0 else { return }
    let served = clock.now() - servingSinceNs
    for place in silent.indices { silent[place].deadlineNs += served }
    servingSinceNs = 0
  }

  /// Disconnect clients that have been silent too long.
  private func dropSilent() {
    let now = clock.now()
    silent.removeAll { client in
      if client.deadlineNs <= now { close(client.socket) }
      return client.deadlineNs <= now
    }
  }

  /// Accept a client; disconnect the oldest if there are too many.
  private func admit() throws(VFIOUserError) {
    guard let socket = try VFIOUserError.wrap(try listener.accept()) else { return }
    if silent.count == Server.silentMax { close(silent.removeFirst().socket) }
    silent.append((socket, clock.now() + UInt64(silenceMs) * 1_000_000))
  }

  private enum Arrival { case message, left, alarm, stopped }

  private func waitForMessage(_ socket: Int32, _ device: some Device) -> Arrival {
    var polled = [wake.descriptor, device.alarm, socket].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    while true {
      guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
      if polled[0].revents != 0 { return .stopped }
      if polled[1].revents != 0 { return .alarm }
      return Int32(polled[2].revents) & (POLLHUP | POLLERR) != 0 ? .left : .message
    }
  }
}
