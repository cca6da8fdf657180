import CPlatform
import Glibc
import Platform

/// A received message: its header, its payload, and its descriptors, which close with it.
struct ReceivedMessage: ~Copyable {
  let header: MessageHeader
  let payload: [UInt8]
  private(set) var descriptors: [Int32]
  /// Descriptors of the message were lost: this process can open no more.
  let isCut: Bool

  deinit { for descriptor in descriptors { close(descriptor) } }

  /// Move the descriptors to the caller, who closes them.
  mutating func moveDescriptors() -> [Int32] {
    defer { descriptors = [] }
    return descriptors
  }
}

/// One end of a connected socket, with messages instead of bytes.
struct Connection: ~Copyable {
  let socket: Int32
  private let wake: Int32
  private let timeoutMs: Int32
  private let clock: MonotonicClock

  /// - Parameters:
  ///   - socket: connected; the connection closes it.
  ///   - wake: readable when every wait must end; -1 for none.
  ///   - timeoutMs: how long a peer may leave a message half sent or a reply unread; -1 for ever.
  init(_ socket: Int32, wake: Int32 = -1, timeoutMs: Int32 = -1, clock: MonotonicClock = MonotonicClock()) {
    self.socket = socket
    self.wake = wake
    self.timeoutMs = timeoutMs
    self.clock = clock
    // Waits must also watch `wake`.
    _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
  }

  deinit { close(socket) }

  /// The deadline of the peer for an exchange that begins now.
  private func deadlineNs() -> UInt64? { timeoutMs < 0 ? nil : clock.now() + UInt64(timeoutMs) * 1_000_000 }

  /// Wait until the socket can be read or written.
  /// - Parameter deadlineNs: of CLOCK_MONOTONIC, when the peer's time is over; nil for never.
  private func wait(for events: Int32, until deadlineNs: UInt64?) throws(VFIOUserError) {
    var polled = [
      pollfd(fd: wake, events: Int16(POLLIN), revents: 0), pollfd(fd: socket, events: Int16(events), revents: 0),
    ]
    var count: Int32
    var leftMs: Int32
    repeat {
      leftMs = clock.milliseconds(until: deadlineNs)
      count = poll(&polled, 2, leftMs)
    } while count < 0 && errno == EINTR
    guard polled[0].revents == 0 else { throw .init(.disconnected, "the connection was cancelled") }
    // However many pieces arrive, each just before this check.
    guard count > 0, leftMs != 0 else {
      throw .init(.protocolViolation, "the peer left a message incomplete or unread")
    }
  }

  /// Header and payload leave in one piece: some peers read the payload with a single `read`.
  func send(_ header: MessageHeader, _ payload: [UInt8], descriptors: [Int32] = []) throws(VFIOUserError) {
    var whole = header
    whole.size = UInt32(MessageHeader.size + payload.count)
    var bytes = withUnsafeBytes(of: whole) { [UInt8]($0) }
    bytes.append(contentsOf: payload)
    let deadlineNs = deadlineNs()
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        nvmepf_send_with_fds(
          socket, $0.baseAddress! + sent, bytes.count - sent, descriptors, sent == 0 ? descriptors.count : 0)
      }
      if count == -Int(EAGAIN) {
        try wait(for: POLLOUT, until: deadlineNs)
        continue
      }
      guard count > 0 else { throw Connection.error("cannot send", Int32(-count)) }
      sent += count
    }
  }

  /// The next message; nil if the peer closed the connection between two messages.
  ///
  /// The whole message must arrive within the time limit, however many pieces the peer sends.
  func receive() throws(VFIOUserError) -> ReceivedMessage? {
    let deadlineNs = deadlineNs()
    var isCut = false
    var header = MessageHeader(messageID: 0, command: 0, size: 0)
    var descriptors: [Int32] = []
    var complete = false
    // From here on the descriptors are owned, whatever fails below.
    defer { if !complete { for descriptor in descriptors { close(descriptor) } } }
    let got = try withUnsafeMutableBytes(of: &header) { fill($0, &descriptors, &isCut, deadlineNs) }.get()
    if got == 0 { return nil }
    guard got == MessageHeader.size else { throw .init(.disconnected, "the peer disconnected within a message") }
    guard header.size >= MessageHeader.size, header.size <= MessageLimit.bytes else {
      throw .init(.protocolViolation, "the peer announced a message of \(header.size) bytes")
    }
    var payload = [UInt8](repeating: 0, count: Int(header.size) - MessageHeader.size)
    let rest = try payload.withUnsafeMutableBytes { fill($0, &descriptors, &isCut, deadlineNs) }.get()
    guard rest == payload.count else { throw .init(.disconnected, "the peer disconnected within a message") }
    complete = true
    return ReceivedMessage(header: header, payload: payload, descriptors: descriptors, isCut: isCut)
  }

  /// - Returns: bytes read: all of them, or fewer if the peer closed.
  private func fill(
    _ bytes: UnsafeMutableRawBufferPointer, _ descriptors: inout [Int32], _ isCut: inout Bool, _ deadlineNs: UInt64?
  ) -> Result<Int, VFIOUserError> {
    var filled = 0
    while filled < bytes.count {
      var fresh = [Int32](repeating: -1, count: MessageLimit.descriptors)
      var freshCount = 0
      let count = nvmepf_receive_with_fds(
        socket, bytes.baseAddress! + filled, bytes.count - filled, &fresh, fresh.count, &freshCount, &isCut)
      descriptors.append(contentsOf: fresh[..<freshCount])
      if count == -Int(EAGAIN) {
        do throws(VFIOUserError) { try wait(for: POLLIN, until: deadlineNs) } catch { return .failure(error) }
        continue
      }
      if count == 0 || count == -Int(ECONNRESET) { return .success(filled) }
      guard count > 0 else { return .failure(Connection.error("cannot receive", Int32(-count))) }
      guard descriptors.count <= MessageLimit.descriptors else {
        return .failure(.init(.protocolViolation, "the peer sent too many descriptors"))
      }
      filled += count
    }
    return .success(filled)
  }

  private static func error(_ what: String, _ error: Int32) -> VFIOUserError {
    error == EPIPE || error == ECONNRESET
      ? VFIOUserError(.disconnected, "the peer closed the connection") : .system(what, error)
  }
}

/// A clock that is never set, in nanoseconds; tests use another.
struct MonotonicClock: Sendable {
  var now: @Sendable () -> UInt64 = { Clock.nanoseconds(CLOCK_MONOTONIC) }

  /// For poll(2): milliseconds until then, rounded up; -1 for ever.
  func milliseconds(until deadlineNs: UInt64?) -> Int32 {
    guard let deadlineNs else { return -1 }
    let now = now()
    return deadlineNs <= now ? 0 : Int32(clamping: (deadlineNs - now + 999_999) / 1_000_000)
  }
}
