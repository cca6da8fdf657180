import CPlatform
import Glibc

@testable import VFIOUser

/// Messages of any bytes, with and without descriptors: the session ends, and no descriptor is left.
@_cdecl("fuzz_vfiouser")
public func fuzzVFIOUser(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  var pair: [Int32] = [-1, -1]
  precondition(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0, "no sockets")
  // A client that does not read its answers must not hold the fuzzer up.
  var patience = timeval(tv_sec: 1, tv_usec: 0)
  setsockopt(pair[1], SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  // Well behaved at first, so that the rest is looked at: a version, then what the bytes say, with a descriptor.
  var version = MessageHeader(messageID: 0, command: Command.version.rawValue, size: UInt32(MessageHeader.size + 7))
  withUnsafeBytes(of: &version) { _ = send(pair[0], $0.baseAddress, $0.count, 0) }
  _ = send(pair[0], [0, 0, 1, 0, 0x7b, 0x7d, 0] as [UInt8], 7, 0)
  let memory = nvmepf_memfd("fuzz")
  ftruncate(memory, 1 << 16)
  _ = nvmepf_send_with_fds(pair[0], data, min(count, 64 << 10), [memory], count > 0 && data[0] & 1 == 0 ? 1 : 0)
  close(memory)
  shutdown(pair[0], Int32(SHUT_WR))
  let device = FuzzedDevice()
  serve(pair[1], device)
  device.disconnected()
  close(pair[0])
  return 0
}

private func serve(_ socket: Int32, _ device: FuzzedDevice) {
  var session = Session(Connection(socket))
  while (try? session.handleNext(device)) == true {}
}

/// A device with the regions of an NVMe controller, and nothing behind them.
private final class FuzzedDevice: Device {
  private var bytes = [UInt8](repeating: 0, count: 0x10000)
  private var mapped: [UInt64: DMAMapping] = [:]

  var regions: [RegionDescription] {
    var all = [RegionDescription](repeating: RegionDescription(size: 0), count: PCIRegion.count)
    all[Int(PCIRegion.bar0)] = RegionDescription(size: 0x10000)
    all[Int(PCIRegion.configuration)] = RegionDescription(size: 4096)
    return all
  }

  func interruptCount(_ kind: InterruptKind) -> UInt32 { kind == .msix ? 17 : 1 }

  func read(region: UInt32, offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool {
    for index in target.indices { target[index] = bytes[Int(offset) + index] }
    return true
  }

  func write(region: UInt32, offset: UInt64, _ source: UnsafeRawBufferPointer) -> Bool {
    for index in source.indices { bytes[Int(offset) + index] = source[index] }
    return true
  }

  /// Touches what it is told that it may.
  func map(_ mapping: DMAMapping) -> Bool {
    guard mapping.size > 0 else { return false }
    mapped[mapping.address] = mapping
    guard let base = mapping.base, mapping.size <= 1 << 16 else { return true }
    bytes[0] ^= base.load(as: UInt8.self)
    return true
  }

  func unmap(address: UInt64, size: UInt64) { mapped[address] = nil }
  func setInterrupt(_ kind: InterruptKind, index: UInt32, descriptor: Int32) {
    precondition(index < interruptCount(kind), "an interrupt that is not there")
  }
  func trigger(_ kind: InterruptKind, index: UInt32) {}
  func reset() {}
  func disconnected() {}
}
