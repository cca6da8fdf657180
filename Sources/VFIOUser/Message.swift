/// The commands of the protocol (vfio-user specification, "Commands").
public enum MessageCommand: UInt16, Sendable {
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
public struct MessageHeader: BitwiseCopyable, Equatable, Sendable {
  public var messageID: UInt16
  public var command: UInt16
  /// Bytes of the whole message including this header.
  public var size: UInt32
  public var flags: UInt32
  /// An errno, if the error flag is set.
  public var error: UInt32

  /// Bytes.
  public static let size = 16
  /// Values of `flags`: type (3:0), no reply, error.
  public static let replyType: UInt32 = 1
  public static let typeMask: UInt32 = 0xf
  public static let noReply: UInt32 = 0x10
  public static let errorFlag: UInt32 = 0x20

  public init(messageID: UInt16, command: UInt16, size: UInt32, flags: UInt32 = 0, error: UInt32 = 0) {
    self.messageID = messageID
    self.command = command
    self.size = size
    self.flags = flags
    self.error = error
  }

  public var isReply: Bool { flags & MessageHeader.typeMask == MessageHeader.replyType }
  public var wantsReply: Bool { flags & MessageHeader.noReply == 0 }
  public var isError: Bool { flags & MessageHeader.errorFlag != 0 }
}

/// Maximum size of a message: the largest region access, with a margin.
enum MessageLimit {
  static let dataBytes = 1 << 20
  static let bytes = dataBytes + 4096
  static let descriptors = 16
}

/// Reads a message's payload; nil if it is too short.
struct PayloadReader {
  private let bytes: UnsafeRawBufferPointer
  private(set) var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  mutating func get<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type = Value.self) -> Value? {
    guard bytes.count - offset >= MemoryLayout<Value>.size else { return nil }
    defer { offset += MemoryLayout<Value>.size }
    return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[offset...]) }
}

/// Builds a message's payload.
struct PayloadWriter {
  private(set) var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
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
public enum InterruptAction: UInt32, Sendable {
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
