import Device
import Foundation
import Glibc
import LocalSocket

/// One client of a control socket, served by a thread of its own.
struct ControlConnection {
  private let descriptor: Int32
  /// Bytes after the last whole line.
  private var received = Data()

  /// - Parameter timeoutMs: how long the client may neither send nor read.
  init(_ descriptor: Int32, timeoutMs: Int) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK)
    for direction in [SO_RCVTIMEO, SO_SNDTIMEO] { LocalSocket.limit(descriptor, direction, timeoutMs) }
  }

  /// Perform its requests, one after the other, until it leaves, is silent for too long, or sends too long a line.
  mutating func serve(_ endpoint: some ControlledEndpoint) {
    while let line = nextLine(), send(ControlConnection.answer(line, endpoint)) {}
  }

  private mutating func nextLine() -> Data? {
    while true {
      if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
        defer { received = Data(received[(end + 1)...]) }
        return Data(received[..<end])
      }
      var piece = [UInt8](repeating: 0, count: 4096)
      let count = recv(descriptor, &piece, piece.count, 0)
      // The kernel does not restart a wait with a time limit (signal(7)).
      if count < 0, errno == EINTR { continue }
      guard count > 0, received.count + count <= ControlServer.lineMax else { return nil }
      received += piece[..<count]
    }
  }

  private func send(_ answer: Data) -> Bool {
    var rest = answer[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
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
