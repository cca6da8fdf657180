/// The commands of the protocol (vfio-user specification, "Commands").
enum MessageCommand: UInt16 {
  case version = 1
  case dmaMap = 2
  case dmaUnmap = 3
  case deviceGetInfo = 4
  case deviceGetRegionInfo = 5
  case deviceGetRegionIOFds = 6
  case deviceGetIRQInfo = 7
  case deviceSetIRQs = 8
  case regionRead = 9
  case regionWrite = 10
  case dmaRead = 11
  case dmaWrite = 12
  case deviceReset = 13
}

/// The header of every message: 16 bytes, little-endian (vfio-user specification, "Header").
struct MessageHeader: BitwiseCopyable {
  var messageID: UInt16
  var command: UInt16
  /// Bytes of the whole message including this header.
  var size: UInt32
  var flags: UInt32 = 0
  /// An errno, if the error flag is set.
  var error: UInt32 = 0

  /// Bytes.
  static let size = 16
  /// Values of `flags`: type (3:0), no reply, error.
  static let replyType: UInt32 = 1
  static let typeMask: UInt32 = 0xf
  static let noReply: UInt32 = 0x10
  static let errorFlag: UInt32 = 0x20

  var isReply: Bool { flags & MessageHeader.typeMask == MessageHeader.replyType }
  var wantsReply: Bool { flags & MessageHeader.noReply == 0 }
  var isError: Bool { flags & MessageHeader.errorFlag != 0 }
}

/// Maximum size of a message: the largest region access, with a margin.
enum MessageLimit {
  static let dataBytes = 1 << 20
  static let bytes = dataBytes + 4096
  static let descriptors = 16
}

/// Reads a message's payload.
struct PayloadReader {
  private(set) var rest: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

  /// The next numbers; nil if the payload is too short for all of them.
  mutating func get<each Value: FixedWidthInteger & BitwiseCopyable>(
    _: repeat (each Value).Type
  ) -> (repeat each Value)? {
    var isShort = false
    let values = (repeat next((each Value).self, &isShort))
    return isShort ? nil : values
  }

  private mutating func next<Value: FixedWidthInteger & BitwiseCopyable>(
    _: Value.Type, _ isShort: inout Bool
  ) -> Value {
    guard rest.count >= MemoryLayout<Value>.size else {
      isShort = true
      return 0
    }
    defer { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(MemoryLayout<Value>.size)) }
    return Value(littleEndian: rest.loadUnaligned(as: Value.self))
  }
}

/// Builds a message's payload.
struct PayloadWriter {
  private(set) var bytes: [UInt8] = []

  init<each Value: FixedWidthInteger & BitwiseCopyable>(_ values: repeat each Value) { put(repeat each values) }

  mutating func put<each Value: FixedWidthInteger & BitwiseCopyable>(_ values: repeat each Value) {
    for value in repeat each values {
      withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
  }

  mutating func put(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }

  mutating func put(_ text: String) {
    bytes.append(contentsOf: text.utf8)
    bytes.append(0)
  }
}

/// A region of the device: a BAR, the configuration space (VFIO, `vfio_region_info`).
public struct RegionDescription: Equatable, Sendable {
  /// A part of a region that the client may map.
  public struct Area: Equatable, Sendable {
    public var offset: UInt64
    public var size: UInt64

    public init(offset: UInt64, size: UInt64) {
      self.offset = offset
      self.size = size
    }
  }

  public var size: UInt64
  /// The parts that the client may map instead of sending messages.
  public var mappable: [Area]
  /// Shared memory for `mappable`: each area has the same offset in it. -1 for none.
  public var descriptor: Int32

  public init(size: UInt64, mappable: [Area] = [], descriptor: Int32 = -1) {
    self.size = size
    self.mappable = mappable
    self.descriptor = descriptor
  }

  static let readable: UInt32 = 1
  static let writable: UInt32 = 2
  static let mappableFlag: UInt32 = 4
  static let capabilities: UInt32 = 8
  static let sparseCapability: UInt16 = 1

  var flags: UInt32 {
    guard size > 0 else { return 0 }
    let access = RegionDescription.readable | RegionDescription.writable
    return mappable.isEmpty ? access : access | RegionDescription.mappableFlag | RegionDescription.capabilities
  }
}

/// The kinds of interrupt of a PCI device, by VFIO index.
public enum InterruptKind: UInt32, CaseIterable, Sendable {
  case intx = 0
  case msi = 1
  case msix = 2
  case error = 3
  case request = 4
}

/// What a client requests for interrupts (VFIO, `vfio_irq_set`).
enum InterruptAction: UInt32 {
  case mask = 0x08
  case unmask = 0x10
  case trigger = 0x20

  static let dataNone: UInt32 = 1
  static let dataBool: UInt32 = 2
  static let dataEventfd: UInt32 = 4
}

/// The regions of a PCI device, by VFIO index.
public enum PCIRegion {
  /// Region indices, as in VFIO.
  public static let bar0: UInt32 = 0
  public static let configuration: UInt32 = 7
  public static let count = 9
}
