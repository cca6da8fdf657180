import Backends
import Device
import Foundation
import Glibc
import LocalSocket
import Platform
import Testing

@testable import Control

/// Keeps a list, as an endpoint would.
final class RecordingEndpoint: ControlledEndpoint, @unchecked Sendable {
  private var states: [NamespaceState] = []
  private(set) var linkIsUp = true
  /// Of this namespace the addition ends only when `released` is raised.
  static let slow: UInt32 = 1010
  let begun = Signal()
  let released = Signal()

  var namespaceStates: [NamespaceState] { states }

  func add(_ configuration: NamespaceConfiguration) throws(EndpointError) {
    if configuration.nsid == RecordingEndpoint.slow {
      begun.raise()
      while !released.wait(milliseconds: 1000) {}
    }
    let text = "\(configuration.backend)"
    states.append(.init(nsid: configuration.nsid, bytes: 1, blockBytes: 512, backend: text, isReadOnly: false))
  }

  func remove(nsid: UInt32) throws(EndpointError) {
    guard states.contains(where: { $0.nsid == nsid }) else {
      throw EndpointError(description: "there is no namespace \(nsid)")
    }
    states.removeAll { $0.nsid == nsid }
  }

  func setLink(isUp: Bool) throws(EndpointError) { linkIsUp = isUp }
}

@Suite("The control socket")
struct ControlSocketTests {
  private let path = NSTemporaryDirectory() + "/nvmepf-\(UUID().uuidString).control"

  @Test("performs requests, and gives the reason if it cannot")
  func answers() throws {
    let endpoint = RecordingEndpoint()
    let server = try ControlServer(path: path, endpoint: endpoint)
    defer { server.stop() }
    let namespace = Data(#"{"nsid": 3, "device": {"path": "memory:1GiB"}}"#.utf8)
    _ = try ControlClient.ask(.add(namespace: namespace), path: path)
    let listed = try ControlClient.ask(.list, path: path).namespaces
    #expect(listed?.map(\.nsid) == [3] && listed?.first?.backend == "memory:1073741824")
    _ = try ControlClient.ask(.remove(nsid: 3), path: path)
    let missing = #expect(throws: ControlError.self) { try ControlClient.ask(.remove(nsid: 3), path: path) }
    #expect(missing?.description == "there is no namespace 3")
    let wrong = Data(#"{"nsid": 3, "device": {"paht": "memory:1GiB"}}"#.utf8)
    let unknown = #expect(throws: ControlError.self) { try ControlClient.ask(.add(namespace: wrong), path: path) }
    #expect(unknown?.description.contains("paht: unknown key") == true)
    _ = try ControlClient.ask(.link(isUp: false), path: path)
    #expect(!endpoint.linkIsUp)
  }

  @Test("survives clients that send invalid bytes, too much or nothing, and serves others meanwhile")
  func survives() throws {
    let server = try ControlServer(path: path, endpoint: RecordingEndpoint())
    defer { server.stop() }
    var stalled: [Int32] = []
    defer { for descriptor in stalled { close(descriptor) } }
    for text in ["\n", "{", "[]\n", #"{"command": 7}"# + "\n", String(repeating: "x", count: 100_000), ""] {
      let descriptor = try LocalSocket.connect(path)
      _ = text.withCString { send(descriptor, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
      stalled.append(descriptor)
      #expect(try ControlClient.ask(.list, path: path).namespaces == [])
    }
  }

  @Test("answers others during a long request, can end during it, and still answers its client")
  func answersMeanwhile() throws {
    let endpoint = RecordingEndpoint()
    let server = try ControlServer(path: path, endpoint: endpoint)
    let request = #"{"command": "add", "namespace": {"nsid": 1010, "device": {"path": "null:1GiB"}}}"# + "\n"
    let asking = try (0..<2).map { _ in try LocalSocket.connect(path) }
    defer { for descriptor in asking { close(descriptor) } }
    for descriptor in asking {
      #expect(send(descriptor, request, request.utf8.count, Int32(MSG_NOSIGNAL)) == request.utf8.count)
      while !endpoint.begun.wait(milliseconds: 1000) {}
    }
    #expect(try ControlClient.ask(.list, path: path).namespaces == [])
    endpoint.released.raise()
    var answered = asking.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    #expect(poll(&answered, 2, -1) == 1)
    let descriptor = try #require(answered.first { $0.revents != 0 }).fd
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = recv(descriptor, &bytes, bytes.count, 0)
    #expect(String(decoding: bytes.prefix(count), as: UTF8.self) == "{}\n")
    server.stop()
    endpoint.released.raise()
  }

  @Test("leaves no socket behind, and only its owner may use it")
  func isPrivate() throws {
    let server = try ControlServer(path: path, endpoint: RecordingEndpoint())
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    server.stop()
    #expect(stat(path, &status) != 0 && errno == ENOENT)
  }

  /// A list of these is longer than what a socket holds.
  private func endpointWithLongList() throws -> RecordingEndpoint {
    let endpoint = RecordingEndpoint()
    let path = "/" + String(repeating: "x", count: 2000)
    for nsid in 1...1000 { try endpoint.add(.init(nsid: UInt32(nsid), backend: .file(path: path, buffered: false))) }
    return endpoint
  }

  @Test("a long answer arrives completely, and a client that does not read delays nobody")
  func answersAtLength() throws {
    let server = try ControlServer(path: path, endpoint: endpointWithLongList())
    defer { server.stop() }
    let silent = try LocalSocket.connect(path)
    defer { close(silent) }
    let requests = String(repeating: #"{"command": "list"}"# + "\n", count: 100)
    #expect(send(silent, requests, requests.utf8.count, Int32(MSG_NOSIGNAL)) == requests.utf8.count)
    for _ in 0..<3 { #expect(try ControlClient.ask(.list, path: path).namespaces?.count == 1000) }
  }

  @Test("clients that neither send nor read are replaced by waiting ones")
  func disconnectsSilentClient() throws {
    let server = try ControlServer(path: path, endpoint: endpointWithLongList(), timeoutMs: 500)
    defer { server.stop() }
    var silent: [Int32] = []
    defer { for descriptor in silent { close(descriptor) } }
    for index in 0..<ControlServer.clientsMax {
      silent.append(try LocalSocket.connect(path))
      let request = index % 2 == 0 ? #"{"command": "list"}"# + "\n" : "{"
      send(silent[index], request, request.utf8.count, Int32(MSG_NOSIGNAL))
    }
    #expect(try ControlClient.ask(.list, path: path).namespaces?.count == 1000)
  }

  @Test("a listener that does not accept or answer does not block the client")
  func isNotHeld() throws {
    let listener = try LocalListener(path: path)
    let silent = #expect(throws: ControlError.self) { try ControlClient.ask(.list, path: path, timeoutMs: 20) }
    #expect(silent?.description == "\(path): the endpoint does not answer; it may still perform the request")
    // Full, whatever the backlog is.
    listen(listener.descriptor, 0)
    var waiting: [Int32] = []
    defer { for descriptor in waiting { close(descriptor) } }
    let error = #expect(throws: LocalSocketError.self) {
      while true { waiting.append(try LocalSocket.connect(path, timeoutMs: 20)) }
    }
    let text = "cannot connect to \(path): the process that listens there does not accept; restart it"
    #expect(error?.description == text)
    let refused = #expect(throws: ControlError.self) { try ControlClient.ask(.list, path: path, timeoutMs: 20) }
    #expect(refused?.description == text)
    withExtendedLifetime(listener) {}
  }

  @Test("reports that no process listens")
  func isAbsent() {
    let error = #expect(throws: ControlError.self) { try ControlClient.ask(.list, path: path) }
    #expect(error?.description.contains("is nvmepf serving there?") == true)
  }
}
