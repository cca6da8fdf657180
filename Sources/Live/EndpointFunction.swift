import CPlatform
import Glibc
import NVMe
import Synchronization
import Target
import Trace
import VFIOUser

/// What a namespace is made of, as `--backend` says.
public enum BackendKind: String, CaseIterable, Sendable {
  case null, memory
}

/// How the endpoint is set up.
public struct EndpointConfiguration: Sendable {
  public var subsystem = Subsystem()
  public var backend = BackendKind.null
  /// The core that the engine's thread is tied to; nil for any.
  public var core: Int?

  /// One namespace of `bytes`, in blocks of 512 bytes.
  public init(backend: BackendKind, bytes: UInt64, ioQueuesMax: UInt16) {
    self.backend = backend
    subsystem.ioQueuesMax = ioQueuesMax
    subsystem.vectors = ioQueuesMax + 1
    subsystem.namespaces = [Namespace(nsid: 1, blocks: bytes >> 9, blockShift: 9)]
  }
}

/// Where the endpoint's events go.
public struct EndpointRecording {
  public var ring: Ring
  public var whenFull = FullRing.wait
  public var keepsPayload = false
  public var ticksPerSecond: UInt64

  public init(ring: Ring, ticksPerSecond: UInt64) {
    self.ring = ring
    self.ticksPerSecond = ticksPerSecond
  }
}

/// Why an endpoint cannot be set up.
public struct EndpointError: Error, CustomStringConvertible {
  public let description: String
}

/// The PCI function that hosts see: BAR 0 with registers, the mapped doorbell page and the MSI-X table, and the
/// configuration space, in front of one engine.
public final class EndpointFunction: Device, @unchecked Sendable {
  private static let doorbellBytes = 4096
  private static let tableOffset: UInt64 = 0x2000
  private static let barBytes: UInt64 = 0x10000
  private static let pendingOffset: UInt64 = 0xf000

  private let shard: Shard
  private let doorbellFile: Int32
  private let doorbells: UnsafeMutableRawPointer
  private let backends: UnsafeMutablePointer<NamespaceBackend>
  private let storage: UnsafeMutableRawBufferPointer
  private let subsystem: Subsystem
  private var configuration: PCIConfigurationSpace
  private let initialConfiguration: PCIConfigurationSpace
  private var table: [UInt8]
  /// The descriptors behind the interrupt lines, for `trigger`.
  private var descriptors: [UInt32: Int32] = [:]
  private var pin: Int32 = -1

  public init(_ configuration: EndpointConfiguration, recording: EndpointRecording? = nil) throws(EndpointError) {
    subsystem = configuration.subsystem
    let bytes = subsystem.namespaces.reduce(0) { $0 + $1.blocks << $1.blockShift }
    storage = try EndpointFunction.makeStorage(configuration.backend == .memory ? Int(bytes) : 0)
    doorbellFile = nvmepf_memfd("nvmepf-doorbells")
    // An area of a region lies in its file where it lies in the region.
    let place = off_t(Register.doorbells)
    guard doorbellFile >= 0, ftruncate(doorbellFile, place + off_t(EndpointFunction.doorbellBytes)) == 0,
      let page = mmap(
        nil, EndpointFunction.doorbellBytes, PROT_READ | PROT_WRITE, MAP_SHARED, doorbellFile, place),
      page != MAP_FAILED
    else { throw EndpointError(description: "no memory for the doorbells: \(String(cString: strerror(errno)))") }
    doorbells = page
    backends = .allocate(capacity: Int(Subsystem.namespacesMax) + 1)
    backends.initialize(repeating: .null(NullBackend()), count: Int(Subsystem.namespacesMax) + 1)
    if let base = storage.baseAddress {
      var offset = 0
      for namespace in subsystem.namespaces {
        backends[Int(namespace.nsid)] = .memory(MemoryBackend(base: base + offset))
        offset += Int(namespace.blocks << namespace.blockShift)
      }
    }
    initialConfiguration = PCIConfigurationSpace(
      vendorID: subsystem.vendorID, deviceID: 1, barBytes: UInt32(EndpointFunction.barBytes),
      vectors: subsystem.vectors, tableOffset: UInt32(EndpointFunction.tableOffset),
      pendingOffset: UInt32(EndpointFunction.pendingOffset))
    self.configuration = initialConfiguration
    table = [UInt8](repeating: 0, count: Int(EndpointFunction.barBytes - EndpointFunction.tableOffset))
    let shardRecording = recording.map {
      Shard.Recording(
        ring: $0.ring, whenFull: $0.whenFull, keepsPayload: $0.keepsPayload, ticksPerSecond: $0.ticksPerSecond)
    }
    shard = Shard(
      .init(subsystem: subsystem, core: configuration.core, recording: shardRecording),
      doorbells: doorbells.assumingMemoryBound(to: Atomic<UInt32>.self), backends: backends)
  }

  /// End the engine; the rest goes with the last reference.
  public func stop() { shard.stop() }

  deinit {
    shard.stop()
    munmap(doorbells, EndpointFunction.doorbellBytes)
    close(doorbellFile)
    backends.deallocate()
    if let base = storage.baseAddress { munmap(base, storage.count) }
  }

  /// Zeros that take no memory until they are written.
  private static func makeStorage(_ count: Int) throws(EndpointError) -> UnsafeMutableRawBufferPointer {
    guard count > 0 else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
    let base = mmap(
      nil, count, PROT_READ | PROT_WRITE, Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE), -1, 0)
    guard let base, base != MAP_FAILED else {
      throw EndpointError(description: "no room for \(count) bytes of namespace: \(String(cString: strerror(errno)))")
    }
    // Fewer page faults and fewer misses of the TLB, where the kernel has huge pages to give.
    madvise(base, count, Int32(MADV_HUGEPAGE))
    return UnsafeMutableRawBufferPointer(start: base, count: count)
  }

  // MARK: Device

  public var regions: [RegionDescription] {
    var all = [RegionDescription](repeating: RegionDescription(size: 0), count: PCIRegion.count)
    all[Int(PCIRegion.bar0)] = RegionDescription(
      size: EndpointFunction.barBytes,
      mappable: [.init(offset: Register.doorbells, size: UInt64(EndpointFunction.doorbellBytes))],
      descriptor: doorbellFile)
    all[Int(PCIRegion.configuration)] = RegionDescription(size: UInt64(PCIConfigurationSpace.size))
    return all
  }

  public func interruptCount(_ kind: InterruptKind) -> UInt32 {
    switch kind {
    case .intx, .error, .request: 1
    case .msi: 0
    case .msix: UInt32(subsystem.vectors)
    }
  }

  public func read(region: UInt32, offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    switch region {
    case PCIRegion.configuration: configuration.read(Int(offset), into: bytes)
    case PCIRegion.bar0: readBAR(offset, into: bytes)
    default: return false
    }
    return true
  }

  /// Registers are read as 32 or 64 bits; other widths get the bytes of the 32 bits that hold them.
  private func readBAR(_ offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) {
    if bytes.count == 8 || bytes.count == 4, offset % 4 == 0, offset < Register.doorbells {
      let value = shard.readRegister(offset: offset, width: bytes.count)
      withUnsafeBytes(of: value.littleEndian) { bytes.copyBytes(from: $0[..<bytes.count]) }
      return
    }
    for index in 0..<bytes.count { bytes[index] = barByte(offset + UInt64(index)) }
  }

  private func barByte(_ offset: UInt64) -> UInt8 {
    if offset >= EndpointFunction.tableOffset { return table[Int(offset - EndpointFunction.tableOffset)] }
    // Doorbells read as zero: what a read of them returns is not specified (PCIe Transport 1.1, 3.1.2.1).
    guard offset < Register.doorbells else { return 0 }
    let value = shard.readRegister(offset: offset & ~3, width: 4)
    return UInt8(truncatingIfNeeded: value >> (8 * (offset & 3)))
  }

  public func write(region: UInt32, offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
    switch region {
    case PCIRegion.configuration:
      if configuration.write(Int(offset), bytes) { resetController(.function) }
      return true
    case PCIRegion.bar0: return writeBAR(offset, bytes)
    default: return false
    }
  }

  private func writeBAR(_ offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
    if offset >= EndpointFunction.tableOffset {
      for (index, byte) in bytes.enumerated() { table[Int(offset - EndpointFunction.tableOffset) + index] = byte }
      return true
    }
    // Registers take whole 32 or 64 bits; what else is written has no effect (PCIe Transport 1.1, 3.1).
    guard bytes.count == 4 || bytes.count == 8, offset % 4 == 0 else { return true }
    if offset >= Register.doorbells {
      guard offset + UInt64(bytes.count) <= EndpointFunction.tableOffset else { return true }
      ring(offset - Register.doorbells, bytes)
    } else {
      let value =
        bytes.count == 8
        ? bytes.loadUnaligned(as: UInt64.self) : UInt64(bytes.loadUnaligned(as: UInt32.self))
      shard.writeRegister(offset: offset, width: bytes.count, value: value)
    }
    return true
  }

  /// A doorbell came as a message: into the page with it, where the poll finds it like any other.
  private func ring(_ offset: UInt64, _ bytes: UnsafeRawBufferPointer) {
    for place in stride(from: 0, to: bytes.count, by: 4) {
      let doorbell = (doorbells + Int(offset) + place).assumingMemoryBound(to: Atomic<UInt32>.self)
      doorbell.pointee.store(bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self), ordering: .releasing)
    }
  }

  public func map(_ mapping: DMAMapping) -> Bool {
    shard.map(
      MemoryMap.Range(
        address: mapping.address, length: mapping.size, base: mapping.base, writable: mapping.isWritable))
  }

  public func unmap(address: UInt64, size: UInt64) { shard.unmap(address: address, length: size) }

  public func setInterrupt(_ kind: InterruptKind, index: UInt32, descriptor: Int32) {
    switch kind {
    case .msix:
      descriptors[index] = descriptor
      shard.setInterrupt(vector: Int(index), descriptor: descriptor)
    case .intx:
      pin = descriptor
      shard.setInterrupt(vector: nil, descriptor: descriptor)
    case .msi, .error, .request: return
    }
  }

  public func trigger(_ kind: InterruptKind, index: UInt32) {
    let descriptor = kind == .msix ? descriptors[index] ?? -1 : kind == .intx ? pin : -1
    guard descriptor >= 0 else { return }
    var one: UInt64 = 1
    _ = Glibc.write(descriptor, &one, 8)
  }

  public func reset() { resetController(.device) }

  public func disconnected() {
    resetController(.disconnect)
    shard.unmap(address: 0, length: .max)
    shard.removeInterrupts()
    descriptors = [:]
    pin = -1
  }

  private func resetController(_ reason: ResetReason) {
    shard.reset(reason)
    configuration = initialConfiguration
    for index in table.indices { table[index] = 0 }
  }
}
