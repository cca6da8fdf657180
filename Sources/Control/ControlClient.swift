import Foundation
import Glibc
import LocalSocket

/// Asks a running endpoint.
public enum ControlClient {
  /// - Parameters:
  ///   - path: of the control socket.
  ///   - patienceMs: how long the endpoint may take to accept, to listen, and to answer. A namespace's memory is
  ///     allocated before the answer.
  /// - Throws: when there is no endpoint, or it could not do what was asked.
  public static func ask(
    _ request: ControlRequest, path: String, patienceMs: Int = 60_000
  ) throws(ControlError) -> ControlAnswer {
    let descriptor: Int32
    do throws(LocalSocketError) {
      descriptor = try LocalSocket.connect(path, patienceMs: min(patienceMs, 10_000))
    } catch {
      let isBusy = error.kind == .system(EAGAIN)
      throw ControlError(description: error.description + (isBusy ? "" : "; is nvmepf serving there?"))
    }
    defer { close(descriptor) }
    LocalSocket.limit(descriptor, SO_RCVTIMEO, patienceMs)
    var line = request.line
    line.append(UInt8(ascii: "\n"))
    let sent = line.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard sent == line.count else { throw ControlError(description: "\(path): the endpoint does not listen") }
    var received = Data()
    var piece = [UInt8](repeating: 0, count: 4096)
    while received.last != UInt8(ascii: "\n") {
      let count = recv(descriptor, &piece, piece.count, 0)
      // A wait with a time limit is not taken up again by the kernel (signal(7)).
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let isSilent = count < 0 && errno == EAGAIN
        let what = isSilent ? "the endpoint does not answer; it may still do what was asked" : "the endpoint went away"
        throw ControlError(description: "\(path): \(what)")
      }
      received += piece[..<count]
    }
    guard let answer = try? JSONDecoder().decode(ControlAnswer.self, from: received) else {
      throw ControlError(description: "\(path): the endpoint answered with something else; is it of another version?")
    }
    if let error = answer.error { throw ControlError(description: error) }
    return answer
  }
}
