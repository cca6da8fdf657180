import NVMe

/// The configuration space of a PCI Express endpoint with an NVMe controller: a type 0 header, power management, PCI
/// Express, MSI-X and MSI capabilities (PCIe Base 6.0, 7.5 and 7.7; PCIe Transport 1.1, 3).
struct PCIConfigurationSpace {
  static let size = 4096

  private enum Offset {
    static let command = 0x04
    static let bar0 = 0x10
    static let capabilities = 0x34
    static let power = 0x40
    static let express = 0x48
    static let msix = 0x84
    static let msi = 0x90
  }

  private var bytes = [UInt8](repeating: 0, count: size)
  /// Mask of the bits that the host can write.
  private var writable = [UInt8](repeating: 0, count: size)

  /// - Parameters:
  ///   - barBytes: size of BAR 0, a power of two of at least 16 KiB.
  ///   - msix, msi: numbers of these interrupts; 0 for none. A power of two for MSI.
  ///   - tableOffset, pendingOffset: offsets of MSI-X table and pending bits in BAR 0.
  init(
    vendorID: UInt16, deviceID: UInt16, subsystemVendorID: UInt16, subsystemID: UInt16, barBytes: UInt32,
    msix: UInt16, msi: UInt16, tableOffset: UInt32, pendingOffset: UInt32
  ) {
    precondition(barBytes.nonzeroBitCount == 1 && msix <= 2048 && msi <= 32 && msi.nonzeroBitCount <= 1)
    put(vendorID, 0x00)
    put(deviceID, 0x02)
    put(UInt16(0x0010), 0x06)  // status: capabilities list
    put(UInt32(0x01_08_02_00), 0x08)  // class: mass storage, NVM, NVM Express; revision 0
    put(UInt32(0x0000_0004), Offset.bar0)  // memory, 64 bits
    put(subsystemVendorID, 0x2c)
    put(subsystemID, 0x2e)
    put(UInt8(1), 0x3d)  // INTA
    allow(UInt16(0x0547), Offset.command)  // I/O, memory, bus master, parity, SERR, INTx disable
    allow(UInt8(0xff), 0x0c)
    allow(UInt8(0xff), 0x3c)
    allow(~(UInt64(barBytes) - 1), Offset.bar0)
    var link = Offset.capabilities
    put(capability: 0x01, Offset.power, &link)
    putPower()
    put(capability: 0x10, Offset.express, &link)
    putExpress()
    if msix > 0 {
      put(capability: 0x11, Offset.msix, &link)
      putMSIX(msix, tableOffset, pendingOffset)
    }
    if msi > 0 {
      put(capability: 0x05, Offset.msi, &link)
      putMSI(msi)
    }
  }

  /// - Parameter link: where to store the offset of this capability; becomes that of the next link.
  private mutating func put(capability id: UInt8, _ offset: Int, _ link: inout Int) {
    put(id, offset)
    put(UInt8(offset), link)
    link = offset + 1
  }

  private mutating func putPower() {
    put(UInt16(0x0003), Offset.power + 2)  // version 3
    put(UInt16(0x0008), Offset.power + 4)  // no soft reset
    allow(UInt16(0x0003), Offset.power + 4)
  }

  private mutating func putExpress() {
    put(UInt16(0x0002), Offset.express + 2)  // version 2, endpoint
    put(UInt32(0x1000_8000), Offset.express + 4)  // function level reset, role-based error reporting
    allow(UInt16(0xffff) & ~0x8000, Offset.express + 8)
    put(UInt32(0x0000_0041), Offset.express + 0x0c)  // x4 at 2.5 GT/s
    put(UInt16(0x0041), Offset.express + 0x12)
  }

  private mutating func putMSIX(_ count: UInt16, _ tableOffset: UInt32, _ pendingOffset: UInt32) {
    put(count - 1, Offset.msix + 2)
    allow(UInt16(0xc000), Offset.msix + 2)  // enable, function mask
    put(tableOffset, Offset.msix + 4)
    put(pendingOffset, Offset.msix + 8)
  }

  private mutating func putMSI(_ count: UInt16) {
    put(UInt16(count.trailingZeroBitCount) << 1 | 0x80, Offset.msi + 2)  // addresses of 64 bits
    allow(UInt16(0x0071), Offset.msi + 2)  // enable, how many are enabled
    allow(~UInt64(3), Offset.msi + 4)
    allow(UInt16.max, Offset.msi + 12)
  }

  private mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ offset: Int) {
    bytes.withUnsafeMutableBytes {
      $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
  }

  private mutating func allow<Value: FixedWidthInteger & BitwiseCopyable>(_ mask: Value, _ offset: Int) {
    writable.withUnsafeMutableBytes {
      $0.storeBytes(of: mask.littleEndian, toByteOffset: offset, as: Value.self)
    }
  }

  /// Interrupt Disable: INTx must not be used.
  var disablesPin: Bool { bytes[Offset.command + 1] & 0x04 != 0 }

  /// Position of Interrupt Status, and its bit (PCIe Base 6.0, 7.5.1.1.4).
  static let interruptStatus: (offset: Int, bit: UInt8) = (0x06, 0x08)

  /// MSI or MSI-X is enabled, which disables INTx.
  var usesMessages: Bool {
    let hasMSIX = bytes[Offset.msix] == 0x11 && bytes[Offset.msix + 3] & 0x80 != 0
    return hasMSIX || bytes[Offset.msi] == 0x05 && bytes[Offset.msi + 2] & 0x01 != 0
  }

  /// The host reads; the range lies within the space.
  func read(_ offset: Int, into target: UnsafeMutableRawBufferPointer) {
    target.copyBytes(from: bytes[offset..<offset + target.count])
  }

  /// The host writes; the range lies within the space. Read-only bits keep their value.
  /// - Returns: whether the write requests a function level reset (PCIe Base 6.0, 7.5.3.4).
  mutating func write(_ offset: Int, _ source: UnsafeRawBufferPointer) -> Bool {
    for (index, byte) in source.enumerated() {
      let mask = writable[offset + index]
      bytes[offset + index] = bytes[offset + index] & ~mask | byte & mask
    }
    let initiateReset = Offset.express + 9
    return offset <= initiateReset && initiateReset < offset + source.count
      && source[initiateReset - offset] & 0x80 != 0
  }
}
