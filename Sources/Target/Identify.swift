import NVMe

/// A data structure of the specification that is being laid out: zeros, into which fields are put at their offset.
struct Layout {
  let bytes: UnsafeMutableRawBufferPointer

  /// - Parameter bytes: is filled with zeros first.
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
  public static let identifyBytes = 4096

  /// Identify (Base 2.1, 5.1.13), into `bytes`: 4096 of them.
  public func identify(_ sqe: SubmissionEntry, into bytes: UnsafeMutableRawBufferPointer) throws(Status) {
    precondition(bytes.count == Target.identifyBytes)
    switch IdentifyCNS(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) {
    case .controller: identifyController(Layout(bytes))
    case .namespace: try identifyNamespace(sqe.nsid, Layout(bytes))
    case .activeNamespaces: try activeNamespaces(after: sqe.nsid, Layout(bytes))
    case .namespaceDescriptors: try namespaceDescriptors(sqe.nsid, Layout(bytes))
    case nil: throw .invalidField
    }
  }

  /// Figure "Identify Controller Data Structure".
  private func identifyController(_ layout: Layout) {
    layout.put(subsystem.vendorID, at: 0)
    layout.put(subsystem.vendorID, at: 2)
    layout.put(subsystem.serial, at: 4, width: 20)
    layout.put(subsystem.model, at: 24, width: 40)
    layout.put(subsystem.firmwareRevision, at: 64, width: 8)
    layout.put(UInt8(subsystem.maxTransferBytes.trailingZeroBitCount - 12), at: 77)  // MDTS, in 4 KiB pages
    layout.put(UInt16(1), at: 78)  // CNTLID
    layout.put(Target.version, at: 80)
    layout.put(UInt8(1), at: 111)  // CNTRLTYPE: I/O controller
    layout.put(UInt8(3), at: 258)  // ACL, 0's based
    layout.put(UInt8(AsynchronousEvents.requestsMax - 1), at: 259)  // AERL, 0's based
    layout.put(UInt8(3), at: 260)  // FRMW: one slot, read only
    layout.put(UInt8(ErrorLog.entriesMax - 1), at: 262)  // ELPE, 0's based
    layout.put(UInt16(0x157), at: 266)  // WCTEMP, Kelvin
    layout.put(UInt16(0x15c), at: 268)  // CCTEMP, Kelvin
    layout.put(UInt16(10), at: 320)  // KAS, 100 ms
    layout.put(UInt8(0x66), at: 512)  // SQES: 64 bytes
    layout.put(UInt8(0x44), at: 513)  // CQES: 16 bytes
    layout.put(Subsystem.namespacesMax, at: 516)  // NN
    layout.put(UInt16(1 << 3), at: 520)  // ONCS: Write Zeroes
    layout.put(UInt8(7), at: 525)  // VWC: present, Flush may name all namespaces
    layout.put(subsystem.nqn, at: 768, width: 256, padding: 0)
  }

  /// NVM Command Set 1.1, figure "Identify Namespace Data Structure".
  private func identifyNamespace(_ nsid: UInt32, _ layout: Layout) throws(Status) {
    guard nsid >= 1, nsid <= Subsystem.namespacesMax else { throw .invalidNamespaceOrFormat }
    // An inactive namespace reads as zeros.
    guard let namespace = namespace(nsid) else { return }
    layout.put(namespace.blocks, at: 0)  // NSZE
    layout.put(namespace.blocks, at: 8)  // NCAP
    layout.put(namespace.blocks, at: 16)  // NUSE
    layout.put(UInt8(namespace.blockShift), at: 130)  // LBAF0.LBADS
  }

  private func activeNamespaces(after nsid: UInt32, _ layout: Layout) throws(Status) {
    guard nsid < 0xffff_fffe else { throw .invalidNamespaceOrFormat }
    var offset = 0
    var next = nsid + 1
    while next <= Subsystem.namespacesMax, offset < Target.identifyBytes {
      if namespace(next) != nil {
        layout.put(next, at: offset)
        offset += 4
      }
      next += 1
    }
  }

  /// A UUID (Base 2.1, figure "Namespace Identification Descriptor"), the same for the same subsystem and namespace.
  private func namespaceDescriptors(_ nsid: UInt32, _ layout: Layout) throws(Status) {
    guard namespace(nsid) != nil else { throw .invalidNamespaceOrFormat }
    layout.put(UInt8(3), at: 0)  // NIDT: UUID
    layout.put(UInt8(16), at: 1)  // NIDL
    // FNV-1a over the NQN, so that namespaces of two subsystems differ; version 8, variant 1 (RFC 9562, 5.8).
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in subsystem.nqn.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    layout.put(hash.bigEndian, at: 4)
    layout.put(UInt64(nsid).bigEndian, at: 12)
    layout.bytes[10] = layout.bytes[10] & 0x0f | 0x80
    layout.bytes[12] = layout.bytes[12] & 0x3f | 0x80
  }

  /// The version of the base specification that the controller follows: 1.4.
  public static let version: UInt32 = 0x0001_0400
}
