import Backends
import Glibc
import NVMe
import Platform
import Synchronization
import Target
import Trace
import VFIOUser

/// The PCI function that hosts see: BAR 0 with registers, the mapped doorbell page and the MSI-X table, and the
/// configuration space, in front of one engine.
public final class EndpointFunction: Device, ControlledEndpoint, @unchecked Sendable {
  private static let tableOffset: UInt64 = 0x2000
  private static let barBytes: UInt64 = 0x10000
  private static let pendingOffset: UInt64 = 0xf000

  private let shard: Shard
  /// The client's doorbell page; each client gets its own, so that a former client cannot ring doorbells.
  private var doorbells: DoorbellPage
  /// The interrupts that any client has ever set up; owned by the serving thread.
  private var signals: [InterruptLine: InterruptSignal] = [:]
  /// By namespace identifier; the engine's thread has its own table of their backends.
  private let namespaces = Mutex<[UInt32: OpenNamespace]>([:])
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
  /// Held while a namespace is added or removed, one at a time.
  private let changing = Signal(isRaised: true)
  /// Held while a register is written or the link goes down: a write that found the link up finishes first.
  private let linking = Signal(isRaised: true)
  private let alarmEvent: EventDescriptor
  private let tell: @Sendable (EndpointEvent) -> Void
  private let prefaults: Bool
  private let isEnding = Atomic<Bool>(false)
  /// How often each kind of fault was injected.
  public let faultCounts = FaultCounts()
  private let linkFault = LinkFault()

  /// - Parameters:
  ///   - isInterrupted: whether a signal interrupts the preparation of namespaces; polled on any thread.
  ///   - tell: called on any thread, including the engine's; it must not block.
  public init(
    _ configuration: EndpointConfiguration, recording: EndpointRecording? = nil,
    isInterrupted: @escaping @Sendable () -> Bool = { false },
    tell: @escaping @Sendable (EndpointEvent) -> Void = { _ in }
  ) throws(EndpointError) {
    self.tell = tell
    prefaults = configuration.prefaults
    subsystem = try configuration.subsystemWithRoom()
    msixInterrupts = configuration.msixInterrupts
    msiInterrupts = configuration.msiInterrupts
    doorbells = try DoorbellPage()
    do throws(SystemError) { alarmEvent = try EventDescriptor() } catch {
      throw EndpointError(description: "cannot create an event descriptor: \(error)")
    }
    storage = StorageHandover.make(maxTransferBytes: subsystem.maxTransferBytes)
    var opened: [UInt32: OpenNamespace] = [:]
    for namespace in configuration.namespaces {
      guard opened[namespace.nsid] == nil else {
        throw EndpointError(description: "namespace \(namespace.nsid) is configured twice")
      }
      opened[namespace.nsid] = try OpenNamespace(
        namespace, storage,
        .init(
          prefaulting: EndpointFunction.prefaulting(namespace.nsid, configuration.prefaults, tell),
          isInterrupted: isInterrupted))
    }
    namespaces.withLock { [opened] in $0 = opened }
    initialConfiguration = PCIConfigurationSpace(
      vendorID: subsystem.vendorID, deviceID: configuration.deviceID, subsystemVendorID: subsystem.subsystemVendorID,
      subsystemID: configuration.subsystemID, barBytes: UInt32(EndpointFunction.barBytes),
      msix: configuration.msixInterrupts, msi: configuration.msiInterrupts,
      tableOffset: UInt32(EndpointFunction.tableOffset),
      pendingOffset: UInt32(EndpointFunction.pendingOffset))
    self.configuration = initialConfiguration
    table = [UInt8](repeating: 0, count: Int(EndpointFunction.barBytes - EndpointFunction.tableOffset))
    do throws(SystemError) {
      shard = try Shard(
        .init(
          subsystem: subsystem, namespaces: opened.values.map { ($0.namespace, $0.backend) },
          storage: try? storage.get(),
          core: configuration.core, idleMs: configuration.idleMs, napMs: configuration.napMs,
          recording: recording, faults: configuration.faults, faultCounts: faultCounts,
          loseLink: { [linkFault] in linkFault.lose(ns: $0) }), doorbells: doorbells.doorbells,
        alarm: alarmEvent, tell: tell)
      if configuration.faults.faults.contains(where: { $0.kind == .linkLoss }) {
        try linkFault.start { [weak self] in try? self?.setLink(isUp: $0) }
      }
    } catch { throw EndpointError(description: "cannot start the engine's thread: \(error)") }
  }

  /// Interrupt the preparation of namespaces that are being added, from now on.
  public func interruptPreparation() { isEnding.store(true, ordering: .relaxed) }

  /// Stop the engine; the rest is freed with the last reference.
  public func stop() {
    interruptPreparation()
    linkFault.stop()
    shard.stop()
  }

  deinit {
    linkFault.stop()
    shard.stop()
    for signal in signals.values { signal.destroy() }
  }

  // MARK: Namespaces

  /// The attached namespaces.
  public var namespaceStates: [NamespaceState] {
    namespaces.withLock { namespaces in
      namespaces.values.sorted { $0.namespace.nsid < $1.namespace.nsid }.map { open in
        NamespaceState(
          nsid: open.namespace.nsid, bytes: open.namespace.blocks << open.namespace.blockShift,
          blockBytes: 1 << UInt32(open.namespace.blockShift), backend: "\(open.configuration.backend)",
          isReadOnly: open.namespace.isReadOnly)
      }
    }
  }

  private static let stuck = "the engine does not answer: it waits for memory or storage"

  /// Open a namespace's backend and attach it.
  public func add(_ configuration: NamespaceConfiguration) throws(EndpointError) {
    changing.wait()
    defer { changing.raise() }
    let nsid = configuration.nsid
    guard (1...subsystem.namespacesMax).contains(nsid) else {
      throw EndpointError(
        description: "namespace \(nsid) cannot be added: the controller offers 1 to "
          + "\(subsystem.namespacesMax); serve with --namespaces-max \(max(nsid, 1)), at most "
          + "\(Subsystem.namespacesLimit), for more")
    }
    guard namespaces.withLock({ $0[nsid] == nil }) else {
      throw EndpointError(description: "namespace \(nsid) exists already")
    }
    let open = try OpenNamespace(
      configuration, storage,
      .init(
        prefaulting: EndpointFunction.prefaulting(nsid, prefaults, tell),
        isInterrupted: { [self] in isEnding.load(ordering: .relaxed) }))
    let isAttached = shard.askWithLimit(.attach(open.namespace, open.backend))
    guard isAttached != 0 else {
      throw EndpointError(
        description: "commands of the removed namespace \(nsid) are still in flight; try again")
    }
    // The engine may use anything passed to it at any time, even if it did not answer.
    namespaces.withLock { $0[nsid] = open }
    guard isAttached != nil else {
      throw EndpointError(description: "\(EndpointFunction.stuck); namespace \(nsid) appears when it answers again")
    }
    tell(.namespaceAttached(nsid: nsid, backend: "\(configuration.backend)"))
  }

  /// Reports the allocation of memory; nil if memory is not allocated in advance.
  private static func prefaulting(
    _ nsid: UInt32, _ isOn: Bool, _ tell: @escaping @Sendable (EndpointEvent) -> Void
  ) -> ((Int, Int) -> Void)? {
    isOn ? { tell(.prefaulting(nsid: nsid, done: $0, of: $1)) } : nil
  }

  /// Detach a namespace and close its backend.
  public func remove(nsid: UInt32) throws(EndpointError) {
    changing.wait()
    defer { changing.raise() }
    guard namespaces.withLock({ $0[nsid] != nil }) else {
      throw EndpointError(description: "there is no namespace \(nsid)")
    }
    guard shard.askWithLimit(.detach(nsid)) != nil else {
      throw EndpointError(description: "\(EndpointFunction.stuck); remove namespace \(nsid) again when it answers")
    }
    _ = namespaces.withLock { $0.removeValue(forKey: nsid) }
    tell(.namespaceDetached(nsid: nsid))
  }

  // MARK: Link

  /// While the link is down, registers read as ones, writes are ignored, and the controller is in its initial state.
  public func setLink(isUp: Bool) throws(EndpointError) {
    guard linking.wait(milliseconds: EndpointFunction.linkLimitMs) else {
      throw EndpointError(description: EndpointFunction.stuck)
    }
    defer { linking.raise() }
    guard linkIsUp.exchange(isUp, ordering: .acquiringAndReleasing) != isUp else { return }
    defer { tell(.link(isUp: isUp)) }
    guard !isUp else { return }
    let isDown = shard.askWithLimit(.reset(.linkDown)) != nil
    linkWasDown.store(true, ordering: .releasing)
    guard isDown else { throw EndpointError(description: EndpointFunction.stuck) }
  }

  private static let linkLimitMs = 3000

  /// Link down also resets the function (PCIe Base 6.0, 6.6.1): the serving thread's part of that.
  private func noticeLink() {
    if linkWasDown.exchange(false, ordering: .acquiringAndReleasing) { resetConfiguration() }
  }

  // MARK: Device

  public var regions: [RegionDescription] {
    var all = [RegionDescription](repeating: RegionDescription(size: 0), count: PCIRegion.count)
    all[Int(PCIRegion.bar0)] = RegionDescription(
      size: EndpointFunction.barBytes,
      mappable: [.init(offset: Register.doorbells, size: UInt64(DoorbellPage.size))],
      descriptor: doorbells.file)
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
    if shard.ask(.readPin) != 0 { bytes[status.offset - offset] |= status.bit }
  }

  /// Registers are read as 32 or 64 bits; other widths get the bytes of the 32 bits that contain them.
  private func readBAR(_ offset: UInt64, into bytes: UnsafeMutableRawBufferPointer) {
    if bytes.count == 8 || bytes.count == 4, offset % 4 == 0, offset < Register.doorbells {
      let value = shard.ask(.readRegister(offset: offset, width: bytes.count))
      withUnsafeBytes(of: value.littleEndian) { bytes.copyBytes(from: $0[..<bytes.count]) }
      return
    }
    for index in 0..<bytes.count { bytes[index] = barByte(offset + UInt64(index)) }
  }

  private func barByte(_ offset: UInt64) -> UInt8 {
    if offset >= EndpointFunction.tableOffset { return table[Int(offset - EndpointFunction.tableOffset)] }
    // Doorbells read as zero: the result of reading them is not specified (PCIe Transport 1.1, 3.1.2.1).
    guard offset < Register.doorbells else { return 0 }
    let value = shard.ask(.readRegister(offset: offset & ~3, width: 4))
    return UInt8(truncatingIfNeeded: value >> (8 * (offset & 3)))
  }

  public func write(region: UInt32, offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
    noticeLink()
    linking.wait()
    defer { linking.raise() }
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
    // Registers accept whole 32 or 64 bits; other writes have no effect (PCIe Transport 1.1, 3.1).
    guard bytes.count == 4 || bytes.count == 8, offset % 4 == 0 else { return true }
    if offset >= Register.doorbells {
      guard offset + UInt64(bytes.count) <= EndpointFunction.tableOffset else { return true }
      ring(offset - Register.doorbells, bytes)
    } else {
      let value =
        bytes.count == 8
        ? bytes.loadUnaligned(as: UInt64.self) : UInt64(bytes.loadUnaligned(as: UInt32.self))
      shard.ask(.writeRegister(offset: offset, width: bytes.count, value: value))
    }
    return true
  }

  /// A doorbell arrived as a message: store it in the page, where the poll finds it like any other.
  private func ring(_ offset: UInt64, _ bytes: UnsafeRawBufferPointer) {
    for place in stride(from: 0, to: bytes.count, by: 4) {
      let value = bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)
      doorbells.doorbells[(Int(offset) + place) / 4].store(value, ordering: .releasing)
    }
  }

  public func map(_ mapping: DMAMapping) -> Bool {
    let range = MemoryMap.Range(
      address: mapping.address, length: mapping.size, base: mapping.base, writable: mapping.isWritable,
      mapping: mapping.mapping.baseAddress, mapping_length: UInt64(mapping.mapping.count))
    return shard.ask(.map(range)) != 0
  }

  public func unmap(address: UInt64, size: UInt64) { shard.ask(.unmap(address: address, length: size)) }

  public func setInterrupt(_ kind: InterruptKind, index: UInt32, descriptor: Int32) -> Int32 {
    guard let line = InterruptLine(kind, index) else { return 0 }
    if descriptor >= 0, signals[line] == nil {
      // Reused for later clients.
      do throws(SystemError) { signals[line] = try InterruptSignal() } catch { return error.code }
    }
    return Int32(truncatingIfNeeded: shard.ask(.setInterrupt(line, signals[line], descriptor: max(descriptor, -1))))
  }

  public func setPinMask(isMasked: Bool) { shard.ask(isMasked ? .maskPin : .unmaskPin) }

  public func trigger(_ kind: InterruptKind, index: UInt32) {
    if let line = InterruptLine(kind, index) { shard.ask(.triggerInterrupt(line)) }
  }

  /// Pass the relevant bits of the command register to the engine's thread.
  private func noteInterruptDisable() {
    guard configuration.disablesPin != pinIsDisabled else { return }
    pinIsDisabled = configuration.disablesPin
    shard.ask(.disablePin(pinIsDisabled))
  }

  public func reset() { resetController(.device) }

  public func connected() -> Bool {
    do throws(EndpointError) {
      let page = try DoorbellPage()
      shard.ask(.setDoorbells(page.doorbells))
      // The previous page is no longer in use.
      doorbells = page
      return true
    } catch { return false }
  }

  public func disconnected() {
    resetController(.disconnect)
    shard.ask(.unmap(address: 0, length: .max))
    shard.ask(.removeInterrupts)
    for signal in signals.values { _ = signal.attach(-1) }
    // It belonged to this client.
    _ = consumeAlarm()
  }

  public var alarm: Int32 { alarmEvent.descriptor }

  public func consumeAlarm() -> String? {
    guard alarmEvent.consume() > 0 else { return nil }
    return "its memory is gone: its file was truncated, or the medium failed"
  }

  private func resetController(_ reason: ResetReason) {
    shard.ask(.reset(reason))
    resetConfiguration()
  }

  private func resetConfiguration() {
    configuration = initialConfiguration
    noteInterruptDisable()
    for index in table.indices { table[index] = 0 }
  }
}

extension InterruptLine {
  /// Nil for interrupts that the endpoint never raises.
  fileprivate init?(_ kind: InterruptKind, _ index: UInt32) {
    switch kind {
    case .intx: self = .pin
    case .msi: self = .msi(Int(index))
    case .msix: self = .msix(Int(index))
    case .error, .request: return nil
    }
  }
}
