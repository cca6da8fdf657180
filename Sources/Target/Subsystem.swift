import NVMe

/// One namespace as the controller shows it (NVM Command Set 1.1, 2.1).
public struct Namespace: BitwiseCopyable, Equatable, Sendable {
  /// Namespace identifier; 0 marks a free place.
  public var nsid: UInt32
  /// Size in logical blocks.
  public var blocks: UInt64
  /// Logical block size as a power of two of bytes: 9 or 12.
  public var blockShift: UInt8

  public init(nsid: UInt32, blocks: UInt64, blockShift: UInt8) {
    precondition(nsid >= 1 && nsid <= Subsystem.namespacesMax && blocks > 0 && (9...16).contains(blockShift))
    precondition(blocks <= UInt64.max >> 16, "its bytes must be countable")
    self.nsid = nsid
    self.blocks = blocks
    self.blockShift = blockShift
  }
}

/// What the controller is: the settings that never change while it runs.
public struct Subsystem: Equatable, Sendable {
  public static let namespacesMax: UInt32 = 1024
  public static let ioQueuesLimit: UInt16 = 128
  public static let maxTransferLimit: UInt32 = 2 << 20

  /// NVMe Qualified Name, at most 223 bytes (Base 2.1, 4.6).
  public var nqn = "nqn.2014-08.org.nvmexpress:uuid:6e766d65-7066-4000-8000-000000000001"
  /// 20 characters of ASCII at most.
  public var serial = "NVMEPF0001"
  /// 40 characters of ASCII at most.
  public var model = "nvmepf endpoint"
  /// 8 characters of ASCII at most.
  public var firmwareRevision = "1"
  public var vendorID: UInt16 = 0x4e56
  /// I/O queue pairs that the host may create.
  public var ioQueuesMax: UInt16 = 16
  /// Entries of the largest I/O queue.
  public var queueEntriesMax: UInt32 = 1024
  /// Interrupt vectors.
  public var vectors: UInt16 = 17
  /// Bytes of the largest data transfer: a power of two of at least 4 KiB.
  public var maxTransferBytes: UInt32 = 512 << 10
  public var namespaces: [Namespace] = []

  public init() {}

  /// Whether every value lies within what the controller can show.
  public var isValid: Bool {
    nqn.utf8.count <= 223 && serial.utf8.count <= 20 && model.utf8.count <= 40 && firmwareRevision.utf8.count <= 8
      && (1...Subsystem.ioQueuesLimit).contains(ioQueuesMax) && (2...65536).contains(queueEntriesMax)
      && (1...2048).contains(vectors) && maxTransferBytes.nonzeroBitCount == 1
      && (4096...Subsystem.maxTransferLimit).contains(maxTransferBytes)
      && namespaces.count <= Int(Subsystem.namespacesMax)
  }
}
