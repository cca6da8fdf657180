import Device
import Foundation
import Glibc
import Platform
import Trace

/// One client of a control socket: its partial line, and the unread part of an answer.
struct ControlConnection {
  let descriptor: Int32
  private var received = Data()
  /// No further line is read until the answer is sent, so there is one at most.
  private var unsent = Data()
  private var lastNs = Clock.monotonicNs()
  /// Its request is being performed: it stays connected until that is done.
  private var isAnswered = true
  /// It has disconnected meanwhile.
  private var hasLeft = false

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  func end() { close(descriptor) }

  /// The events to poll for.
  var polled: pollfd {
    let events = !isAnswered ? 0 : unsent.isEmpty ? POLLIN : POLLOUT
    return pollfd(fd: hasLeft ? -1 : descriptor, events: Int16(events), revents: 0)
  }

  /// How long it has neither sent nor read anything; nil while it waits for an answer.
  var silenceMs: UInt64? { isAnswered ? (Clock.monotonicNs() - lastNs) / 1_000_000 : nil }

  /// Continue as far as the client permits.
  /// - Parameter perform: start a request, which is a line; its answer goes to `reply`.
  /// - Returns: false to disconnect it.
  mutating func attend(_ perform: (Data) -> Void) -> Bool {
    guard isAnswered else {
      // Only its disconnection is noticed now.
      hasLeft = true
      return true
    }
    guard unsent.isEmpty ? receive() : sendMore() else { return false }
    return goOn(perform)
  }

  /// - Parameter answer: to the request in progress.
  /// - Returns: false to disconnect the client.
  mutating func reply(_ answer: Data, _ perform: (Data) -> Void) -> Bool {
    (isAnswered, unsent, lastNs) = (true, answer, Clock.monotonicNs())
    return !hasLeft && sendMore() && goOn(perform)
  }

  /// Start the next request if its line is complete and the previous answer was read.
  private mutating func goOn(_ perform: (Data) -> Void) -> Bool {
    if unsent.isEmpty, let end = received.firstIndex(of: UInt8(ascii: "\n")) {
      let line = Data(received[..<end])
      received = Data(received[(end + 1)...])
      isAnswered = false
      perform(line)
    }
    return received.count <= ControlServer.lineMax
  }

  private mutating func receive() -> Bool {
    var piece = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &piece, piece.count, Int32(MSG_DONTWAIT))
    guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
    received += piece[..<count]
    lastNs = Clock.monotonicNs()
    return true
  }

  /// Send as much as the client accepts.
  private mutating func sendMore() -> Bool {
    while !unsent.isEmpty {
      let count = unsent.withUnsafeBytes {
        send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      }
      guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
      unsent = Data(unsent.dropFirst(count))
      lastNs = Clock.monotonicNs()
    }
    return true
  }

  static func answer(_ line: Data, _ endpoint: some ControlledEndpoint) -> Data {
    let result: ControlAnswer
    do throws(ControlError) {
      result = try ControlRequest(line: line).execute(on: endpoint)
    } catch { result = ControlAnswer(error: error.description) }
    var data = (try? JSONEncoder().encode(result)) ?? Data()
    data.append(UInt8(ascii: "\n"))
    return data
  }
}
