import Foundation
import Glibc
import LocalSocket

/// Asks a running endpoint.
public enum ControlClient {
  /// - Parameter path: of the control socket.
  /// - Throws: when there is no endpoint, or it could not do what was asked.
  public static func ask(_ request: ControlRequest, path: String) throws(ControlError) -> ControlAnswer {
    let descriptor: Int32
    do throws(LocalSocketError) {
      descriptor = try LocalSocket.connect(path)
    } catch { throw ControlError(description: "\(error.description); is nvmepf serving there?") }
    defer { close(descriptor) }
    var line = request.line
    line.append(UInt8(ascii: "\n"))
    let sent = line.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard sent == line.count else { throw ControlError(description: "\(path): the endpoint does not listen") }
    var received = Data()
    var piece = [UInt8](repeating: 0, count: 4096)
    while received.last != UInt8(ascii: "\n") {
      let count = recv(descriptor, &piece, piece.count, 0)
      guard count > 0 else { throw ControlError(description: "\(path): the endpoint went away") }
      received += piece[..<count]
    }
    guard let answer = try? JSONDecoder().decode(ControlAnswer.self, from: received) else {
      throw ControlError(description: "\(path): the endpoint answered with something else; is it of another version?")
    }
    if let error = answer.error { throw ControlError(description: error) }
    return answer
  }
}
