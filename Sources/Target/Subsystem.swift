import NVMe

/// A namespace's 128-bit identifier: a UUID or an NGUID, the first byte the highest.
public struct NamespaceUUID: BitwiseCopyable, Hashable, Sendable {
  public var high: UInt64
  public var low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  public static let none = NamespaceUUID(high: 0, low: 0)
}

/// A namespace as the controller reports it (NVM Command Set 1.1, 2.1).
public struct Namespace: BitwiseCopyable, Equatable, Sendable {
  /// Namespace identifier; 0 marks an unused entry.
  public var nsid: UInt32
  /// Size in logical blocks.
  public var blocks: UInt64
  /// Logical block size as a power of two of bytes: 9 or 12.
  public var blockShift: UInt8
  /// Read-only: the host cannot change this.
  public var isReadOnly = false
  /// Write-protected by the host (Base 2.1, 8.1.16).
  public var isWriteProtected = false
  /// Whether hosts may use reservations.
  public var hasReservations = false
  public var uuid = NamespaceUUID.none
  /// `.none` if there is none.
  public var nguid = NamespaceUUID.none

  public init(nsid: UInt32, blocks: UInt64, blockShift: UInt8) {
    self.nsid = nsid
    self.blocks = blocks
    self.blockShift = blockShift
  }

  /// Whether a write must fail.
  public var refusesWrites: Bool { isReadOnly || isWriteProtected }

  /// Whether the controller can represent every value.
  public var isValid: Bool {
    (1...Subsystem.namespacesLimit).contains(nsid) && (9...16).contains(blockShift)
      // Its size in bytes must be representable.
      && (1...UInt64.max >> 17).contains(blocks)
  }
}

/// The controller's settings that never change while it runs.
public struct Subsystem: Equatable, Sendable {
  /// Largest possible `namespacesMax`.
  public static let namespacesLimit: UInt32 = 1024
  /// Largest possible `ioQueuesMax`.
  public static let ioQueuesLimit: UInt16 = 128
  /// Possible limits of a data transfer in bytes; Identify cannot report one page (MDTS 0 means no limit).
  public static let maxTransferRange: ClosedRange<UInt32> = 8 << 10...maxTransferLimit
  /// Largest possible `maxTransferBytes`.
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
  public var subsystemVendorID: UInt16 = 0x4e56
  /// IEEE Organizationally Unique Identifier, 24 bits; 0 for none.
  public var ieeeOUI: UInt32 = 0
  /// Controller identifier.
  public var controllerID: UInt16 = 1
  /// The largest namespace identifier (NN), at most `namespacesLimit`: firmware that does not use the list of active
  /// namespaces queries every identifier.
  public var namespacesMax: UInt32 = 32
  /// I/O queue pairs that the host may create.
  public var ioQueuesMax: UInt16 = 16
  /// Entries of the largest I/O queue.
  public var queueEntriesMax: UInt32 = 1024
  /// Interrupt vectors.
  public var vectors: UInt16 = 17
  /// Bytes of the largest data transfer: a power of two in `maxTransferRange`.
  public var maxTransferBytes: UInt32 = 512 << 10
  /// Arbitration Burst after a reset: a power of two of commands, 7 without limit.
  public var arbitrationBurst: UInt8 = 3
  /// Aggregation Threshold after a reset: completion queue entries, 1 to 256.
  public var coalescingThreshold: UInt16 = 8
  /// Aggregation Time after a reset, in units of 100 µs.
  public var coalescingTime: UInt8 = 0
  /// Fetch adjacent submission queue entries of one burst in one transfer, not one by one.
  public var fetchesBatches = false
  /// Polling interval of CC, as in a driver whose registers are plain memory; 0 handles a write immediately.
  public var configurationPollMs: UInt32 = 0

  public init() {}

  /// Whether the controller can represent every value.
  public var isValid: Bool {
    nqn.utf8.count <= 223 && serial.utf8.count <= 20 && model.utf8.count <= 40 && firmwareRevision.utf8.count <= 8
      && (1...Subsystem.namespacesLimit).contains(namespacesMax)
      && (1...Subsystem.ioQueuesLimit).contains(ioQueuesMax) && (2...65536).contains(queueEntriesMax)
      && (1...2048).contains(vectors) && maxTransferBytes.nonzeroBitCount == 1
      && Subsystem.maxTransferRange.contains(maxTransferBytes) && ieeeOUI < 1 << 24
      && arbitrationBurst <= 7 && (1...256).contains(coalescingThreshold) && configurationPollMs <= 60_000
  }
}
