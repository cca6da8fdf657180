import Backends
import Device
import Host
import NVMe
import Service
import Target

/// A recording with known values wherever a trace can tell who recorded it, and of what.
enum PlantedTrace {
  static let nqn = "nqn.2026-01.com.secret-company:array7"
  static let serial = "SECRETSERIAL42"
  static let model = "Secret Model 9000"
  static let firmware = "SECFW7"
  static let uuid = NamespaceUUID(high: 0x1f2e_3d4c_5b6a_7988, low: 0x8172_6354_4536_2718)
  static let nguid = NamespaceUUID(high: 0x2f3e_4d5c_6b7a_8998, low: 0x9182_7364_5546_3728)
  static let hostLow: UInt64 = 0xa1b2_c3d4_e5f6_0718
  static let hostHigh: UInt64 = 0xb1c2_d3e4_f506_1728
  static let key: UInt64 = 0xc1d2_e3f4_0516_2738
  static let otherKey: UInt64 = 0xd1e2_f304_1526_3748
  static let timestamp: UInt64 = 0x0000_e1f2_0314_2536
  /// Blocks of namespace 2: of reads, deallocations, copies, and beyond its end.
  static let blocks: [UInt64] = [0x12_3456_7892, 0x13_4567_8912, 0x14_5678_9121, 0x15_6789_1213]
  static let copied: UInt64 = 0x16_7891_2134
  static let invalid: UInt64 = 0x7654_3210_fedc
  static let size: UInt64 = 0x2a_1b2c_3d4e
  static let vendor: UInt32 = 0xfeed_f00d
  static let data = "SECRETPAYLOADSECRETPAYLOAD"
  static let command = ["/home/secretuser/job.sh", "--password", "secretword"]

  /// What must not be found: names as they are, numbers in the byte order of a trace and of Identify data.
  static var patterns: [(String, [UInt8])] {
    let texts = [nqn, serial, model, firmware, data] + command.filter { $0.contains("secret") }
    func bytes(_ value: UInt64, _ count: Int = 8) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let words = [uuid.high, uuid.low, nguid.high, nguid.low, hostLow, hostHigh, key, otherKey]
    return texts.map { ($0, Array($0.utf8)) }
      + words.flatMap { [("\($0)", bytes($0)), ("\($0) swapped", bytes($0.byteSwapped))] }
      + (blocks + [copied, invalid, size]).map { ("block \($0)", bytes($0)) }
      + [("timestamp", bytes(timestamp, 6)), ("vendor", bytes(UInt64(vendor), 4))]
  }

  static func record(to path: String) throws {
    var configuration = EndpointConfiguration(backend: .memory(bytes: 1 << 20), ioQueuesMax: 2)
    configuration.subsystem.nqn = nqn
    (configuration.subsystem.serial, configuration.subsystem.model) = (serial, model)
    configuration.subsystem.firmwareRevision = firmware
    configuration.subsystem.ieeeOUI = 0xabcdef
    var namespace = NamespaceConfiguration(nsid: 2, backend: .null(bytes: size << 9, serviceTime: .none))
    (namespace.uuid, namespace.nguid, namespace.hasReservations, namespace.blockShift) = (uuid, nguid, true, 9)
    configuration.namespaces.append(namespace)
    let endpoint = try ServedEndpoint(
      configuration, keeping: ServedEndpoint.Keeping(payload: true), output: .trace(path), command: command)
    try endpoint.start()
    let host = try HostController(path: endpoint.socketPath, recording: endpoint.hostRecording)
    try PlantingHost(controller: host).play()
    try host.shutDown()
    try endpoint.finish()
  }
}

private struct PlantingHost {
  let controller: HostController

  func play() throws {
    let buffer = try controller.share(64 << 10)
    for (cns, nsid) in [(.controller, 0), (.namespace, 2), (.namespaceDescriptors, 2)] as [(IdentifyCNS, UInt32)] {
      _ = try controller.identify(cns, nsid: nsid)
    }
    try setFeature(.hostIdentifier, buffer, [PlantedTrace.hostLow, PlantedTrace.hostHigh]) { $0.cdw11 = 1 }
    try setFeature(.timestamp, buffer, [PlantedTrace.timestamp])
    try setFeature(.hostBehaviorSupport, buffer, [1])
    try admin(.getFeatures, buffer) { ($0.cdw10, $0.cdw11) = (UInt32(FeatureID.hostIdentifier.rawValue), 1) }
    var queue = try controller.makeQueuePair(depth: 8)
    try reserve(&queue, buffer)
    blocks(&queue, buffer)
    ranges(&queue, buffer)
    try admin(.getLogPage, buffer) { $0.cdw10 = UInt32(LogPageID.errorInformation.rawValue) | 255 << 16 }
    try admin(.getLogPage, buffer) { $0.cdw10 = UInt32(LogPageID.firmwareSlot.rawValue) | 127 << 16 }
    // A vendor's own commands.
    for opcode in [0xc5, 0xd0] as [UInt8] {
      var sqe = SubmissionEntry(opcode: opcode, cid: CommandID(0))
      (sqe.cdw2, sqe.cdw3, sqe.cdw10) = (PlantedTrace.vendor, PlantedTrace.vendor, PlantedTrace.vendor)
      (sqe.cdw11, sqe.cdw12, sqe.cdw15) = (PlantedTrace.vendor, PlantedTrace.vendor, PlantedTrace.vendor)
      sqe.mptr = UInt64(PlantedTrace.vendor)
      _ = try controller.execute(sqe)
      execute(sqe, &queue)
    }
    try controller.delete(queue)
  }

  private func admin(_ opcode: AdminOpcode, _ buffer: SharedMemory, _ edit: (inout SubmissionEntry) -> Void) throws {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0))
    sqe.prp1 = buffer.address
    edit(&sqe)
    _ = try controller.execute(sqe)
  }

  private func setFeature(
    _ feature: FeatureID, _ buffer: SharedMemory, _ words: [UInt64], _ edit: (inout SubmissionEntry) -> Void = { _ in }
  ) throws {
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    for (place, word) in words.enumerated() {
      buffer.base.storeBytes(of: word, toByteOffset: 8 * place, as: UInt64.self)
    }
    try admin(.setFeatures, buffer) {
      $0.cdw10 = UInt32(feature.rawValue)
      ($0.cdw12, $0.cdw14) = (PlantedTrace.vendor, PlantedTrace.vendor)
      edit(&$0)
    }
  }

  private func execute(_ sqe: SubmissionEntry, _ queue: inout QueuePair) {
    _ = queue.submit(sqe)
    queue.ring()
    while queue.reap(1, { _, _ in }) == 0 {}
  }

  private func entry(_ opcode: IOOpcode, _ buffer: SharedMemory, nsid: UInt32 = 2) -> SubmissionEntry {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: nsid)
    sqe.prp1 = buffer.address
    return sqe
  }

  private func reserve(_ queue: inout QueuePair, _ buffer: SharedMemory) throws {
    for (opcode, cdw10, words) in [
      (.reservationRegister, 0, [0, PlantedTrace.key]), (.reservationAcquire, 1 << 8, [PlantedTrace.key, 0]),
      (.reservationReport, 63, []), (.reservationRegister, 2, [PlantedTrace.key, PlantedTrace.otherKey]),
      (.reservationAcquire, 1 << 8, [PlantedTrace.key, 0]), (.reservationReport, 63, []),
    ] as [(IOOpcode, UInt32, [UInt64])] {
      for (place, word) in words.enumerated() {
        buffer.base.storeBytes(of: word, toByteOffset: 8 * place, as: UInt64.self)
      }
      var sqe = entry(opcode, buffer)
      (sqe.cdw10, sqe.cdw11) = (cdw10, opcode == .reservationReport ? 1 : 0)
      execute(sqe, &queue)
    }
  }

  private func blocks(_ queue: inout QueuePair, _ buffer: SharedMemory) {
    for block in [
      PlantedTrace.blocks[0], PlantedTrace.blocks[0] + 4, PlantedTrace.invalid, PlantedTrace.size - 4, .max - 3,
    ]
      as [UInt64]
    {
      for opcode in [IOOpcode.read, .write] {
        var sqe = entry(opcode, buffer)
        (sqe.slba, sqe.cdw12) = (block, 7)
        (sqe.cdw2, sqe.cdw3, sqe.cdw13) = (PlantedTrace.vendor, PlantedTrace.vendor, PlantedTrace.vendor)
        (sqe.cdw14, sqe.cdw15) = (PlantedTrace.vendor, PlantedTrace.vendor)
        execute(sqe, &queue)
      }
    }
    buffer.base.copyMemory(from: Array(PlantedTrace.data.utf8), byteCount: PlantedTrace.data.utf8.count)
    var sqe = entry(.write, buffer, nsid: 1)
    sqe.cdw12 = 7
    execute(sqe, &queue)
  }

  /// Ranges whose first is split between two pages, in a list of an SGL, and sources of a copy.
  private func ranges(_ queue: inout QueuePair, _ buffer: SharedMemory) {
    let data = buffer.base + 4096 - 12
    for (place, block) in PlantedTrace.blocks.enumerated() {
      data.storeBytes(of: UInt64(PlantedTrace.vendor) | 16 << 32, toByteOffset: 16 * place, as: UInt64.self)
      data.storeBytes(of: block, toByteOffset: 16 * place + 8, as: UInt64.self)
    }
    var sqe = entry(.datasetManagement, buffer)
    (sqe.cdw10, sqe.cdw11) = (UInt32(PlantedTrace.blocks.count) - 1, 4)
    (sqe.prp1, sqe.prp2) = (buffer.address + 4096 - 12, buffer.address + 4096)
    execute(sqe, &queue)
    let list = buffer.base + 16384
    for (place, length) in [UInt32(24), 40].enumerated() {
      let address = buffer.address + 4096 - 12 + UInt64(24 * place)
      list.storeBytes(
        of: SGLDescriptor(.dataBlock, address: address, length: length), toByteOffset: 16 * place,
        as: SGLDescriptor.self)
    }
    sqe.cdw0 |= 1 << 14
    sqe.sgl1 = SGLDescriptor(.lastSegment, address: buffer.address + 16384, length: 32)
    execute(sqe, &queue)
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: 8192)
    for (place, block) in PlantedTrace.blocks.prefix(3).enumerated() {
      buffer.base.storeBytes(of: UInt64(PlantedTrace.vendor), toByteOffset: 32 * place, as: UInt64.self)
      buffer.base.storeBytes(of: block, toByteOffset: 32 * place + 8, as: UInt64.self)
      buffer.base.storeBytes(of: 3 | UInt64(PlantedTrace.vendor) << 32, toByteOffset: 32 * place + 16, as: UInt64.self)
    }
    var copy = entry(.copy, buffer)
    (copy.slba, copy.cdw12) = (PlantedTrace.copied, 2)
    execute(copy, &queue)
  }
}
