import Foundation
import Glibc
import LocalSocket

/// Sends requests to a running endpoint.
public enum ControlClient {
  /// - Parameters:
  ///   - path: path of the control socket.
  ///   - timeoutMs: time limit for the endpoint to accept, to read, and to answer. It allocates a namespace's memory
  ///     before it answers.
  /// - Throws: if there is no endpoint, or the request fails.
  public static func ask(
    _ request: ControlRequest, path: String, timeoutMs: Int = 60_000
  ) throws(ControlError) -> ControlAnswer {
    let descriptor: Int32
    do throws(LocalSocketError) {
      descriptor = try LocalSocket.connect(path, timeoutMs: min(timeoutMs, 10_000))
    } catch {
      let isBusy = error.kind == .system(EAGAIN)
      throw ControlError(description: error.description + (isBusy ? "" : "; is nvmepf serving there?"))
    }
    defer { close(descriptor) }
    LocalSocket.limit(descriptor, SO_RCVTIMEO, timeoutMs)
    var line = request.line
    line.append(UInt8(ascii: "\n"))
    let sent = line.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard sent == line.count else { throw ControlError(description: "\(path): the endpoint does not read requests") }
    var received = Data()
    var piece = [UInt8](repeating: 0, count: 4096)
    while received.last != UInt8(ascii: "\n") {
      let count = recv(descriptor, &piece, piece.count, 0)
      // The kernel does not restart a wait with a time limit (signal(7)).
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let isSilent = count < 0 && errno == EAGAIN
        let what =
          isSilent ? "the endpoint does not answer; it may still perform the request" : "the endpoint disconnected"
        throw ControlError(description: "\(path): \(what)")
      }
      received += piece[..<count]
    }
    guard let answer = try? JSONDecoder().decode(ControlAnswer.self, from: received) else {
      throw ControlError(description: "\(path): unexpected answer; does the endpoint have another version?")
    }
    if let error = answer.error { throw ControlError(description: error) }
    return answer
  }
}
