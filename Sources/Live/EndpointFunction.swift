import CPlatform
import Glibc
import NVMe
import Storage
import Synchronization
import Target
import Trace
import VFIOUser

/// Why an endpoint cannot be set up.
public struct EndpointError: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}

/// The PCI function that hosts see: BAR 0 with registers, the mapped doorbell page and the MSI-X table, and the
/// configuration space, in front of one engine.
public final class EndpointFunction: Device, ControlledEndpoint, @unchecked Sendable {
  private static let doorbellBytes = 4096
  private static let tableOffset: UInt64 = 0x2000
  private static let barBytes: UInt64 = 0x10000
  private static let pendingOffset: UInt64 = 0xf000

  private let shard: Shard
  private let doorbellFile: Int32
  private let doorbells: UnsafeMutableRawPointer
  /// By namespace identifier; the engine's thread has its own table of their backends.
  private var namespaces: [UInt32: OpenNamespace] = [:]
  private let subsystem: Subsystem
  private let msixInterrupts: UInt16
  private let msiInterrupts: UInt16
  private var configuration: PCIConfigurationSpace
  private let initialConfiguration: PCIConfigurationSpace
  /// As the engine's thread knows it.
  private var pinIsDisabled = false
  private var table: [UInt8]
  private let storage: OpenNamespace.Storage
  private let linkIsUp = Atomic<Bool>(true)
  private let linkWasDown = Atomic<Bool>(false)
  /// Held while namespaces come and go.
  private var changing = pthread_mutex_t()

  public init(_ configuration: EndpointConfiguration, recording: EndpointRecording? = nil) throws(EndpointError) {
    subsystem = try configuration.subsystemWithRoom()
    msixInterrupts = configuration.msixInterrupts
    msiInterrupts = configuration.msiInterrupts
    doorbellFile = nvmepf_memfd("nvmepf-doorbells")
    // An area of a region lies in its file where it lies in the region.
    let place = off_t(Register.doorbells)
    guard doorbellFile >= 0, ftruncate(doorbellFile, place + off_t(EndpointFunction.doorbellBytes)) == 0,
      let page = mmap(
        nil, EndpointFunction.doorbellBytes, PROT_READ | PROT_WRITE, MAP_SHARED, doorbellFile, place),
      page != MAP_FAILED
    else { throw EndpointError(description: "no memory for the doorbells: \(String(cString: strerror(errno)))") }
    doorbells = page
    pthread_mutex_init(&changing, nil)
    do throws(StorageError) {
      storage = .success(try StorageHandover(maxTransferBytes: subsystem.maxTransferBytes))
    } catch { storage = .failure(error) }
    for namespace in configuration.namespaces {
      guard namespaces[namespace.nsid] == nil else {
        throw EndpointError(description: "namespace \(namespace.nsid) is configured twice")
      }
      namespaces[namespace.nsid] = try OpenNamespace(namespace, storage)
    }
    initialConfiguration = PCIConfigurationSpace(
      vendorID: subsystem.vendorID, deviceID: configuration.deviceID, subsystemVendorID: subsystem.subsystemVendorID,
      subsystemID: configuration.subsystemID, barBytes: UInt32(EndpointFunction.barBytes),
      msix: configuration.msixInterrupts, msi: configuration.msiInterrupts,
      tableOffset: UInt32(EndpointFunction.tableOffset),
      pendingOffset: UInt32(EndpointFunction.pendingOffset))
    self.configuration = initialConfiguration
    table = [UInt8](repeating: 0, count: Int(EndpointFunction.barBytes - EndpointFunction.tableOffset))
    let shardRecording = recording.map {
      Shard.Recording(
        ring: $0.ring, whenFull: $0.whenFull, keepsPayload: $0.keepsPayload, ticksPerSecond: $0.ticksPerSecond)
    }
    shard = Shard(
      .init(
        subsystem: subsystem, namespaces: namespaces.values.map { ($0.namespace, $0.backend) },
        storage: try? storage.get(),
        core: configuration.core, idleMs: configuration.idleMs, napMs: configuration.napMs,
        recording: shardRecording), doorbells: doorbells.assumingMemoryBound(to: Atomic<UInt32>.self))
  }

  /// End the engine; the rest goes with the last reference.
  public func stop() { shard.stop() }

  deinit {
    shard.stop()
    munmap(doorbells, EndpointFunction.doorbellBytes)
    close(doorbellFile)
    pthread_mutex_destroy(&changing)
  }

  // MARK: Namespaces

  public var namespaceStates: [NamespaceState] {
    pthread_mutex_lock(&changing)
    defer { pthread_mutex_unlock(&changing) }
    return namespaces.values.sorted { $0.namespace.nsid < $1.namespace.nsid }.map { open in
      NamespaceState(
        nsid: open.namespace.nsid, bytes: open.namespace.blocks << open.namespace.blockShift,
        blockBytes: 1 << UInt32(open.namespace.blockShift), backend: "\(open.configuration.backend)",
        isReadOnly: open.namespace.isReadOnly)
    }
  }

  public func add(_ configuration: NamespaceConfiguration) throws(EndpointError) {
    pthread_mutex_lock(&changing)
    defer { pthread_mutex_unlock(&changing) }
    guard (1...subsystem.namespacesMax).contains(configuration.nsid) else {
      throw EndpointError(
        description: "namespace \(configuration.nsid) cannot be added: hosts were told of 1 to "
          + "\(subsystem.namespacesMax); serve with --namespaces-max \(max(configuration.nsid, 1)), at most "
          + "\(Subsystem.namespacesLimit), for more")
    }
    guard namespaces[configuration.nsid] == nil else {
      throw EndpointError(description: "namespace \(configuration.nsid) exists already")
    }
    let open = try OpenNamespace(configuration, storage)
    guard shard.attach(open.namespace, open.backend) else {
      throw EndpointError(
        description: "commands of the namespace \(configuration.nsid) that was removed are still under way: try again")
    }
    namespaces[configuration.nsid] = open
  }

  public func remove(nsid: UInt32) throws(EndpointError) {
    pthread_mutex_lock(&changing)
    defer { pthread_mutex_unlock(&changing) }
    guard namespaces[nsid] != nil else { throw EndpointError(description: "there is no namespace \(nsid)") }
    shard.detach(nsid)
    namespaces[nsid] = nil
  }

  // MARK: Link

  /// Down, registers read as ones, nothing that the host writes arrives, and the
  /// controller is in its initial state.
  public func setLink(isUp: Bool) {
    // A register write that found the link up is through before, or finds it down.
    pthread_mutex_lock(&changing)
    defer { pthread_mutex_unlock(&changing) }
    guard linkIsUp.exchange(isUp, ordering: .acquiringAndReleasing) != isUp, !isUp else { return }
    shard.reset(.linkDown)
    linkWasDown.store(true, ordering: .releasing)
  }

  /// A link that went down has reset the function too (PCIe Base 6.0, 6.6.1): the serving thread's part of that.
  private func noticeLink() {
    if linkWasDown.exchange(false, ordering: .acquiringAndReleasing) { resetConfiguration() }
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
    case .msi: UInt32(msiInterrupts)
    case .msix: UInt32(msixInterrupts)
    }
  }

  public func read(region: UInt32, offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    noticeLink()
    guard linkIsUp.load(ordering: .acquiring) else {
      bytes.initializeMemory(as: UInt8.self, repeating: 0xff)
      return true
    }
    switch region {
    case PCIRegion.configuration: readConfiguration(Int(offset), into: bytes)
    case PCIRegion.bar0: readBAR(offset, into: bytes)
    default: return false
    }
    return true
  }

  private func readConfiguration(_ offset: Int, into bytes: UnsafeMutableRawBufferPointer) {
    configuration.read(offset, into: bytes)
    let status = PCIConfigurationSpace.interruptStatus
    guard offset <= status.offset, status.offset < offset + bytes.count, !configuration.usesMessages else { return }
    if shard.readPin() { bytes[status.offset - offset] |= status.bit }
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
    noticeLink()
    pthread_mutex_lock(&changing)
    defer { pthread_mutex_unlock(&changing) }
    guard linkIsUp.load(ordering: .acquiring) else { return true }
    switch region {
    case PCIRegion.configuration:
      if configuration.write(Int(offset), bytes) { resetController(.function) }
      noteInterruptDisable()
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
    if let line = InterruptLine(kind, index) { shard.setInterrupt(line, descriptor: descriptor) }
  }

  public func setPinMask(isMasked: Bool) { isMasked ? shard.maskPin() : shard.unmaskPin() }

  public func trigger(_ kind: InterruptKind, index: UInt32) {
    if let line = InterruptLine(kind, index) { shard.triggerInterrupt(line) }
  }

  /// What the engine's thread has to know of the command register.
  private func noteInterruptDisable() {
    guard configuration.disablesPin != pinIsDisabled else { return }
    pinIsDisabled = configuration.disablesPin
    shard.disablePin(pinIsDisabled)
  }

  public func reset() { resetController(.device) }

  public func disconnected() {
    resetController(.disconnect)
    shard.unmap(address: 0, length: .max)
    shard.removeInterrupts()
  }

  private func resetController(_ reason: ResetReason) {
    shard.reset(reason)
    resetConfiguration()
  }

  private func resetConfiguration() {
    configuration = initialConfiguration
    noteInterruptDisable()
    for index in table.indices { table[index] = 0 }
  }
}

extension InterruptLine {
  /// nil for what the endpoint never raises.
  fileprivate init?(_ kind: InterruptKind, _ index: UInt32) {
    switch kind {
    case .intx: self = .pin
    case .msi: self = .msi(Int(index))
    case .msix: self = .msix(Int(index))
    case .error, .request: return nil
    }
  }
}
