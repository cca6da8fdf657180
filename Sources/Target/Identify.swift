import NVMe

/// A data structure of the specification under construction: zeros, and fields at their offsets.
struct Layout {
  let bytes: UnsafeMutableRawBufferPointer

  /// - Parameter bytes: set to zeros first.
  init(_ bytes: UnsafeMutableRawBufferPointer) {
    self.bytes = bytes
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
    bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
  }

  /// ASCII, padded with spaces to `width` (Base 2.1, 1.4.2).
  func put(_ text: String, at offset: Int, width: Int, padding: UInt8 = 0x20) {
    var index = offset
    for byte in text.utf8.prefix(width) {
      bytes[index] = byte
      index += 1
    }
    while index < offset + width {
      bytes[index] = padding
      index += 1
    }
  }
}

extension Target {
  /// Bytes of every Identify data structure.
  public static let identifyBytes = 4096

  /// The version of the base specification that the controller implements: 2.1.
  public static let version: UInt32 = 0x0002_0100

  /// Identify (Base 2.1, 5.1.13), into the 4096 `bytes`.
  public func identify(_ sqe: SubmissionEntry, into bytes: UnsafeMutableRawBufferPointer) throws(Status) {
    precondition(bytes.count == Target.identifyBytes)
    guard let cns = IdentifyCNS(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { throw .invalidField }
    guard sqe.nsid == 0 || cns.namesNamespace else { throw .invalidField }
    let layout = Layout(bytes)
    switch cns {
    case .controller: identifyController(layout)
    case .namespace: try identifyNamespace(sqe.nsid, layout)
    case .activeNamespaces: try activeNamespaces(after: sqe.nsid, layout)
    case .namespaceDescriptors: try namespaceDescriptors(sqe.nsid, layout)
    case .independentNamespace: try independentNamespace(sqe.nsid, layout)
    // There are none; the list is empty.
    case .enduranceGroups: break
    // Bit 0 of the first combination is the NVM command set, the only one.
    case .commandSetCombinations: layout.put(UInt64(1), at: 0)
    case .commandSetNamespace, .commandSetController, .commandSetActiveNamespaces:
      // Command Set Identifier: the NVM command set.
      guard sqe.cdw11 >> 24 == 0 else { throw .invalidField }
      switch cns {
      case .commandSetActiveNamespaces: try activeNamespaces(after: sqe.nsid, layout)
      case .commandSetNamespace: try checkNamespace(sqe.nsid)
      // All zero: there are no separate limits (NVM Command Set 1.1, 4.1.5.4).
      default: break
      }
    }
  }

  /// Figure "Identify Controller Data Structure".
  private func identifyController(_ layout: Layout) {
    layout.put(subsystem.vendorID, at: 0)
    layout.put(subsystem.subsystemVendorID, at: 2)
    layout.put(subsystem.serial, at: 4, width: 20)
    layout.put(subsystem.model, at: 24, width: 40)
    layout.put(subsystem.firmwareRevision, at: 64, width: 8)
    layout.put(UInt8(subsystem.arbitrationBurst), at: 72)  // RAB
    layout.put(UInt16(truncatingIfNeeded: subsystem.ieeeOUI), at: 73)
    layout.put(UInt8(truncatingIfNeeded: subsystem.ieeeOUI >> 16), at: 75)
    layout.put(UInt8(subsystem.maxTransferBytes.trailingZeroBitCount - 12), at: 77)  // MDTS, in 4 KiB pages
    layout.put(subsystem.controllerID, at: 78)
    layout.put(Target.version, at: 80)
    layout.put(UInt32(1 << 8), at: 92)  // OAES: Attached Namespace Attribute Notices
    // CTRATT: 128-bit host identifier, traffic based keep alive, reservations need a host identifier
    layout.put(UInt32(1 | 1 << 6 | 1 << 18), at: 96)
    layout.put(UInt8(1), at: 111)  // CNTRLTYPE: I/O controller
    layout.put(UInt8(3), at: 258)  // ACL, 0's based
    layout.put(UInt8(AsynchronousEvents.requestsMax - 1), at: 259)  // AERL, 0's based
    layout.put(UInt8(3), at: 260)  // FRMW: one slot, read only
    layout.put(UInt8(1 << 1 | 1 << 2 | 1 << 5), at: 261)  // LPA: effects, extended data, supported pages and scopes
    layout.put(UInt8(ErrorLog.entriesMax - 1), at: 262)  // ELPE, 0's based
    layout.put(UInt16(0x157), at: 266)  // WCTEMP, in kelvin
    layout.put(UInt16(0x15c), at: 268)  // CCTEMP, in kelvin
    layout.put(UInt16(Target.keepAliveGranularityMs / 100), at: 320)  // KAS, in 100 ms
    layout.put(UInt8(0x66), at: 512)  // SQES: 64 bytes
    layout.put(UInt8(0x44), at: 513)  // CQES: 16 bytes
    layout.put(subsystem.namespacesMax, at: 516)  // NN
    // ONCS: Compare, Dataset Management, Write Zeroes, Save and Select, Reservations, Timestamp, Verify, Copy
    layout.put(UInt16(0b1_1111_1101), at: 520)
    layout.put(UInt16(1), at: 522)  // FUSES: Compare and Write
    layout.put(UInt8(7), at: 525)  // VWC: present, Flush may name all namespaces
    layout.put(UInt8(1), at: 531)  // NWPC: write protection
    // ACWU, 0's based: the largest transfer, in the largest logical block size
    layout.put(UInt16(truncatingIfNeeded: subsystem.maxTransferBytes >> 12 - 1), at: 532)
    layout.put(UInt16(1), at: 534)  // CDFS: copy descriptor format 0
    layout.put(UInt32(1 | 1 << 16 | 1 << 18), at: 536)  // SGLS: any alignment, Bit Bucket, longer than the data
    layout.put(subsystem.namespacesMax, at: 540)  // MNAN
    layout.put(subsystem.nqn, at: 768, width: 256, padding: 0)
    layout.put(UInt16(2500), at: 2048)  // PSD0.MP, in 10 mW
  }

  private func checkNamespace(_ nsid: UInt32) throws(Status) {
    guard nsid >= 1, nsid <= subsystem.namespacesMax else { throw .invalidNamespaceOrFormat }
  }

  /// NVM Command Set 1.1, figure "Identify Namespace Data Structure". An inactive namespace reads as zeros; the
  /// broadcast identifier returns the common block format.
  private func identifyNamespace(_ nsid: UInt32, _ layout: Layout) throws(Status) {
    try checkNamespace(nsid)
    guard let namespace = namespace(nsid) else { return }
    layout.put(namespace.blocks, at: 0)  // NSZE
    layout.put(namespace.blocks, at: 8)  // NCAP
    layout.put(namespace.blocks, at: 16)  // NUSE
    layout.put(reservationCapabilities(namespace), at: 31)
    layout.put(UInt8(1 | 1 << 3), at: 33)  // DLFEAT: deallocated blocks read as zeros, Write Zeroes deallocates
    layout.put(Target.copyRangeBlocksMax, at: 74)  // MSSRL
    layout.put(Target.copyBlocksMax, at: 76)  // MCL
    layout.put(UInt8(Target.copyRangesMax - 1), at: 80)  // MSRC, 0's based
    layout.put(UInt8(namespace.refusesWrites ? 1 : 0), at: 99)  // NSATTR
    layout.put(namespace.nguid.high.bigEndian, at: 104)
    layout.put(namespace.nguid.low.bigEndian, at: 112)
    layout.put(UInt8(namespace.blockShift), at: 130)  // LBAF0.LBADS
  }

  /// Figure "I/O Command Set Independent Identify Namespace Data Structure".
  private func independentNamespace(_ nsid: UInt32, _ layout: Layout) throws(Status) {
    try checkNamespace(nsid)
    guard let namespace = namespace(nsid) else { return }
    layout.put(reservationCapabilities(namespace), at: 2)
    layout.put(UInt8(namespace.refusesWrites ? 1 : 0), at: 8)  // NSATTR
    layout.put(UInt8(1), at: 14)  // NSTAT: ready
  }

  /// RESCAP: every type; nothing persists through power loss.
  private func reservationCapabilities(_ namespace: Namespace) -> UInt8 { namespace.hasReservations ? 0x7e : 0 }

  private func activeNamespaces(after nsid: UInt32, _ layout: Layout) throws(Status) {
    guard nsid < 0xffff_fffe else { throw .invalidNamespaceOrFormat }
    var offset = 0
    var next = nsid + 1
    while offset < Target.identifyBytes, let namespace = namespaces.first(from: next) {
      layout.put(namespace.nsid, at: offset)
      offset += 4
      next = namespace.nsid + 1
    }
  }

  /// Figure "Namespace Identification Descriptor": NGUID if there is one, UUID, command set.
  private func namespaceDescriptors(_ nsid: UInt32, _ layout: Layout) throws(Status) {
    guard let namespace = namespace(nsid) else { throw .invalidNamespaceOrFormat }
    var offset = 0
    func put(_ type: UInt8, _ identifier: NamespaceUUID) {
      layout.put(type, at: offset)
      layout.put(UInt8(16), at: offset + 1)
      layout.put(identifier.high.bigEndian, at: offset + 4)
      layout.put(identifier.low.bigEndian, at: offset + 12)
      offset += 20
    }
    if namespace.nguid != .none { put(2, namespace.nguid) }
    put(3, namespace.uuid == .none ? .derived(from: subsystem.nqn, nsid) : namespace.uuid)
    layout.put(UInt8(4), at: offset)
    layout.put(UInt8(1), at: offset + 1)
  }
}

extension NamespaceUUID {
  /// Stable for the same subsystem and namespace.
  static func derived(from nqn: String, _ nsid: UInt32) -> NamespaceUUID { .derived(from: "\(nqn)#\(nsid)") }
}
