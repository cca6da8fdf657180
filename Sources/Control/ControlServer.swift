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
  private let clients: ControlClients
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
      let (wake, clients) = (try EventDescriptor(), ControlClients(left: try EventDescriptor()))
      (self.wake, self.clients) = (wake, clients)
      // Only the thread holds the listener: nobody can connect after it has ended.
      thread = try WorkerThread(name: "nvmepf-control") {
        ControlServer.serve(endpoint, listener, wake, clients, Int(timeoutMs))
      }
    } catch { throw ControlError(description: "cannot serve \(path): \(error)") }
  }

  deinit { stop() }

  /// Stop serving and remove the socket.
  public func stop() {
    guard let thread else { return }
    wake.raise()
    // If no thread could be started, the accepting thread itself serves a client and does not see `wake`.
    clients.disconnect()
    thread.join()
    self.thread = nil
  }

  /// Each client has a thread: its requests may take long, and others are answered meanwhile.
  private static func serve(
    _ endpoint: some ControlledEndpoint, _ listener: LocalListener, _ wake: EventDescriptor, _ clients: ControlClients,
    _ timeoutMs: Int
  ) {
    while true {
      let accepted = clients.count < ControlServer.clientsMax ? listener.descriptor : -1
      var polled = [wake.descriptor, clients.left.descriptor, accepted].map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      guard poll(&polled, nfds_t(polled.count), -1) > 0 else { continue }
      if polled[0].revents != 0 { return }
      _ = clients.left.consume()
      guard polled[2].revents != 0, let client = try? listener.accept() else { continue }
      guard clients.add(client) else { continue }
      WorkerThread.runDetached(name: "nvmepf-client") {
        var connection = ControlConnection(client, timeoutMs: timeoutMs)
        connection.serve(endpoint)
        clients.remove(client)
      }
    }
  }
}

/// The descriptors of the connected clients, until all are disconnected.
private final class ControlClients: Sendable {
  /// Raised when a client has left.
  let left: EventDescriptor
  private let descriptors = Mutex<Set<Int32>?>([])

  init(left: EventDescriptor) { self.left = left }

  var count: Int { descriptors.withLock { $0?.count ?? 0 } }

  /// - Returns: false, and closes the client, if it comes too late.
  func add(_ client: Int32) -> Bool {
    descriptors.withLock {
      if $0?.insert(client) == nil { close(client) }
      return $0 != nil
    }
  }

  /// Close its descriptor; until then no other client has the same.
  func remove(_ client: Int32) {
    descriptors.withLock {
      $0?.remove(client)
      close(client)
    }
    left.raise()
  }

  /// End all connections; a request being performed still has its effect.
  func disconnect() {
    descriptors.withLock {
      for client in $0 ?? [] { shutdown(client, Int32(SHUT_RDWR)) }
      $0 = nil
    }
  }
}
