import Foundation
import Glibc
import Live
import Trace

/// One client of a control socket: what it has sent of a line, and what it has not read of an answer.
struct ControlConnection {
  let descriptor: Int32
  private var received = Data()
  /// While there is an answer to be read no further line is taken, so there is one at most.
  private var unsent = Data()
  private var lastNs = Clock.monotonicNs()

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  func end() { close(descriptor) }

  /// What it is waited for.
  var events: Int16 { Int16(unsent.isEmpty ? POLLIN : POLLOUT) }

  /// How long it has neither sent nor read anything.
  var silenceMs: UInt64 { (Clock.monotonicNs() - lastNs) / 1_000_000 }

  /// Go on as far as the client lets.
  /// - Returns: false when it is to go.
  mutating func attend(_ endpoint: some ControlledEndpoint) -> Bool {
    guard unsent.isEmpty ? receive() : sendMore() else { return false }
    while unsent.isEmpty, let end = received.firstIndex(of: UInt8(ascii: "\n")) {
      let line = Data(received[..<end])
      received = Data(received[(end + 1)...])
      unsent = ControlConnection.answer(line, endpoint)
      guard sendMore() else { return false }
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

  /// Send what the client has room for.
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

  private static func answer(_ line: Data, _ endpoint: some ControlledEndpoint) -> Data {
    let result: ControlAnswer
    do throws(ControlError) {
      result = try ControlRequest(line: line).execute(on: endpoint)
    } catch { result = ControlAnswer(error: error.description) }
    var data = (try? JSONEncoder().encode(result)) ?? Data()
    data.append(UInt8(ascii: "\n"))
    return data
  }
}
