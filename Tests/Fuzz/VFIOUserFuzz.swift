import CPlatform
import Device
import Glibc

@testable import VFIOUser

/// Messages of any bytes, with and without descriptors, to the PCI function and the engine behind it: the session ends,
/// and the next finds the function as this one did.
@_cdecl("fuzz_vfiouser")
public func fuzzVFIOUser(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  var pair: [Int32] = [-1, -1]
  precondition(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0, "no sockets")
  // Well behaved at first, so that the rest is looked at: a version, then what the bytes say, with a descriptor.
  var version = MessageHeader(
    messageID: 0, command: MessageCommand.version.rawValue, size: UInt32(MessageHeader.size + 7))
  withUnsafeBytes(of: &version) { _ = send(pair[0], $0.baseAddress, $0.count, 0) }
  _ = send(pair[0], [0, 0, 1, 0, 0x7b, 0x7d, 0] as [UInt8], 7, 0)
  let descriptor = count > 0 ? descriptorToSend(data[0]) : -1
  _ = nvmepf_send_with_fds(pair[0], data, min(count, 64 << 10), [descriptor], descriptor >= 0 ? 1 : 0)
  if descriptor >= 0 { close(descriptor) }
  shutdown(pair[0], Int32(SHUT_WR))
  serve(pair[1])
  close(pair[0])
  let fresh = function.readConfiguration()
  precondition(fresh == untouched, "a client's configuration outlived it")
  return 0
}

/// One function for all sessions, as in a server; its thread is that of the engine.
private let function: EndpointFunction = {
  do {
    return try EndpointFunction(EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 4))
  } catch { preconditionFailure("no function: \(error)") }
}()

private let untouched = function.readConfiguration()

/// Memory, an eventfd, or none.
private func descriptorToSend(_ choice: UInt8) -> Int32 {
  switch choice & 3 {
  case 0:
    let memory = nvmepf_memfd("fuzz")
    ftruncate(memory, 1 << 16)
    return memory
  case 2: return nvmepf_eventfd()
  default: return -1
  }
}

/// A client that does not read its answers does not hold the fuzzer up for long.
private func serve(_ socket: Int32) {
  _ = untouched
  var session = ClientSession(Connection(socket, timeoutMs: 20)) { _ in }
  // The device lets go of the client's memory before the session unmaps it.
  defer { function.disconnected() }
  while (try? session.handleNext(function)) == true {}
}

extension EndpointFunction {
  fileprivate func readConfiguration() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 4096) { bytes, count in
      let isRead = read(region: PCIRegion.configuration, offset: 0, into: UnsafeMutableRawBufferPointer(bytes))
      precondition(isRead, "no configuration space")
      count = 4096
    }
  }
}
