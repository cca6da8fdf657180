import CPlatform
import Device
import Foundation
import Glibc
import LocalSocket
import Platform
import Synchronization

/// Listens beside the vfio-user socket for clients that change the running endpoint: one line per request, one line per
/// answer. Clients are untrusted.
public final class ControlServer: @unchecked Sendable {
  private let wake: EventDescriptor
  private var thread: WorkerThread?

  static let clientsMax = 16
  static let lineMax = 64 << 10

  /// Path of the control socket for a vfio-user socket.
  public static func path(socket: String) -> String { "\(socket).control" }

  /// - Parameter timeoutMs: how long a client may neither send nor read before it is disconnected.
  public init(
    path: String, endpoint: some ControlledEndpoint, timeoutMs: UInt64 = 10_000
  ) throws(ControlError) {
    let listener: LocalListener
    do throws(LocalSocketError) {
      listener = try LocalListener(path: path, isPrivate: true)
    } catch { throw ControlError(description: error.description) }
    do throws(SystemError) {
      let (wake, answers) = (try EventDescriptor(), Answers(arrived: try EventDescriptor()))
      self.wake = wake
      // Only the thread holds the listener: nobody can connect after it has ended.
      thread = try WorkerThread(name: "nvmepf-control") {
        ControlServer.serve(endpoint, listener, wake, answers, timeoutMs)
      }
    } catch { throw ControlError(description: "cannot serve \(path): \(error)") }
  }

  deinit { stop() }

  /// Stop serving and remove the socket.
  public func stop() {
    guard let thread else { return }
    wake.raise()
    thread.join()
    self.thread = nil
  }

  private static func serve(
    _ endpoint: some ControlledEndpoint, _ listener: LocalListener, _ wake: EventDescriptor, _ answers: Answers,
    _ timeoutMs: UInt64
  ) {
    var clients: [ControlConnection] = []
    defer { for client in clients { client.end() } }
    func perform(_ line: Data, for client: Int32) {
      WorkerThread.runDetached(name: "nvmepf-request") { answers.add(ControlConnection.answer(line, endpoint), client) }
    }
    while true {
      let accepts = clients.count < ControlServer.clientsMax
      var polled = [
        pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: accepts ? listener.descriptor : -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: answers.arrived.descriptor, events: Int16(POLLIN), revents: 0),
      ]
      polled += clients.map(\.polled)
      let count = poll(&polled, nfds_t(polled.count), waitMs(for: clients, timeoutMs))
      guard count >= 0 else { continue }
      if polled[0].revents != 0 { return }
      for index in clients.indices.reversed() {
        let client = clients[index].descriptor
        let isAwaited =
          polled[3 + index].revents != 0
          ? clients[index].attend { perform($0, for: client) } : clients[index].silenceMs ?? 0 < timeoutMs
        if !isAwaited { clients.remove(at: index).end() }
      }
      for (client, answer) in answers.removeAll() {
        guard let index = clients.firstIndex(where: { $0.descriptor == client }) else { continue }
        if !clients[index].reply(answer, { perform($0, for: client) }) { clients.remove(at: index).end() }
      }
      if polled[1].revents != 0, let descriptor = try? listener.accept() {
        clients.append(ControlConnection(descriptor))
      }
    }
  }

  /// Time until the first client exceeds its limit; -1 if there is none.
  private static func waitMs(for clients: [ControlConnection], _ timeoutMs: UInt64) -> Int32 {
    clients.compactMap(\.silenceMs).map { Int32(clamping: timeoutMs - min(timeoutMs, $0)) }.min() ?? -1
  }
}

/// Answers from the threads that perform requests. These may take long; other requests are answered meanwhile.
private final class Answers: Sendable {
  /// Readable when there is an answer.
  let arrived: EventDescriptor
  private let answers = Mutex<[(client: Int32, answer: Data)]>([])

  init(arrived: EventDescriptor) { self.arrived = arrived }

  /// - Parameter client: its descriptor, which stays open until it has its answer.
  func add(_ answer: Data, _ client: Int32) {
    answers.withLock { $0.append((client, answer)) }
    arrived.raise()
  }

  func removeAll() -> [(client: Int32, answer: Data)] {
    guard arrived.consume() > 0 else { return [] }
    return answers.withLock { answers in
      defer { answers = [] }
      return answers
    }
  }
}
