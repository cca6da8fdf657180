import CPlatform
import Foundation
import Glibc
import Live
import LocalSocket

/// Listens beside the vfio-user socket for who wants to change the endpoint while it runs: a line a request, a line an
/// answer. What clients send is not trusted.
public final class ControlServer: @unchecked Sendable {
  private let listener: LocalListener
  private let wake: Int32
  private var thread: WorkerThread?

  static let clientsMax = 16
  static let lineMax = 64 << 10

  /// Where the endpoint behind a vfio-user socket is controlled.
  public static func path(socket: String) -> String { "\(socket).control" }

  public init(path: String, endpoint: some ControlledEndpoint) throws(ControlError) {
    do throws(LocalSocketError) {
      listener = try LocalListener(path: path, isPrivate: true)
    } catch { throw ControlError(description: error.description) }
    wake = nvmepf_eventfd()
    thread = WorkerThread(name: "nvmepf-control") { [listener, wake] in
      ControlServer.serve(endpoint, listener, wake)
    }
  }

  deinit {
    stop()
    close(wake)
  }

  /// End it.
  public func stop() {
    guard let thread else { return }
    var one: UInt64 = 1
    _ = write(wake, &one, 8)
    thread.join()
    self.thread = nil
  }

  private struct Client {
    let descriptor: Int32
    var received = Data()
  }

  private static func serve(_ endpoint: some ControlledEndpoint, _ listener: LocalListener, _ wake: Int32) {
    var clients: [Client] = []
    defer { for client in clients { close(client.descriptor) } }
    while true {
      var polled = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
      let accepts = clients.count < ControlServer.clientsMax
      polled.append(pollfd(fd: accepts ? listener.descriptor : -1, events: Int16(POLLIN), revents: 0))
      polled += clients.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
      guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
      if polled[0].revents != 0 { return }
      for index in clients.indices.reversed() where polled[2 + index].revents != 0 {
        if !attend(&clients[index], endpoint) {
          close(clients[index].descriptor)
          clients.remove(at: index)
        }
      }
      if polled[1].revents != 0, let descriptor = try? listener.accept() {
        clients.append(Client(descriptor: descriptor))
      }
    }
  }

  /// Take what a client has sent, and answer its lines.
  /// - Returns: false when it is to go.
  private static func attend(_ client: inout Client, _ endpoint: some ControlledEndpoint) -> Bool {
    var piece = [UInt8](repeating: 0, count: 4096)
    let count = recv(client.descriptor, &piece, piece.count, Int32(MSG_DONTWAIT))
    guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
    client.received += piece[..<count]
    while let end = client.received.firstIndex(of: UInt8(ascii: "\n")) {
      let line = client.received[..<end]
      client.received = Data(client.received[(end + 1)...])
      guard answer(Data(line), client.descriptor, endpoint) else { return false }
    }
    return client.received.count <= ControlServer.lineMax
  }

  private static func answer(_ line: Data, _ descriptor: Int32, _ endpoint: some ControlledEndpoint) -> Bool {
    let result: ControlAnswer
    do throws(ControlError) {
      result = try ControlRequest(line: line).execute(on: endpoint)
    } catch { result = ControlAnswer(error: error.description) }
    guard var data = try? JSONEncoder().encode(result) else { return false }
    data.append(UInt8(ascii: "\n"))
    // A client that does not read its answers has to go: nobody waits for it.
    return data.withUnsafeBytes {
      send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) == $0.count
    }
  }
}
