/// Offsets of the controller properties in BAR 0, in bytes (NVM Express Base 2.1, 3.1.4; PCIe Transport 1.1, 3.1.2).
public enum Register {
  public static let cap: UInt64 = 0x00
  public static let vs: UInt64 = 0x08
  public static let intms: UInt64 = 0x0c
  public static let intmc: UInt64 = 0x10
  public static let cc: UInt64 = 0x14
  public static let csts: UInt64 = 0x1c
  public static let nssr: UInt64 = 0x20
  public static let aqa: UInt64 = 0x24
  public static let asq: UInt64 = 0x28
  public static let acq: UInt64 = 0x30
  /// Controller Ready Timeouts.
  public static let crto: UInt64 = 0x68
  /// The first doorbell; with CAP.DSTRD 0 one follows every 4 bytes.
  public static let doorbells: UInt64 = 0x1000
}

/// Controller Capabilities (Base 2.1, 3.1.4.1).
public struct ControllerCapabilities: RawRepresentable, Equatable, Sendable {
  public var rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Contiguous queues required, the NVM command set alone or among others, 4 KiB memory pages, a doorbell stride of 4
  /// bytes, ready with media.
  /// - Parameters:
  ///   - queueEntriesMax: entries of the largest I/O queue.
  ///   - timeoutMs: maximum time from CC.EN to CSTS.RDY; reported in units of 500 ms.
  public init(queueEntriesMax: UInt32, timeoutMs: UInt32) {
    rawValue =
      UInt64(queueEntriesMax - 1) | 1 << 16 | UInt64((timeoutMs + 499) / 500) << 24 | 1 << 37 | 1 << 43 | 1 << 59
  }

  /// Entries of the largest I/O queue.
  public var queueEntriesMax: UInt32 { UInt32(rawValue & 0xffff) + 1 }
  /// CAP.TO in milliseconds.
  public var timeoutMs: UInt32 { UInt32(rawValue >> 24 & 0xff) * 500 }
}

/// Controller Configuration (Base 2.1, 3.1.4.5).
public struct ControllerConfiguration: RawRepresentable, Equatable, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Bits that a host can write: neither reserved nor unsupported according to CAP.
  public static let writable: UInt32 = 0x00ff_fff1

  /// Enabled for the NVM command set, with 4 KiB pages and entries of 64 and 16 bytes.
  public static let enabled = ControllerConfiguration(rawValue: 1 | 6 << 16 | 4 << 20)

  public var enable: Bool { rawValue & 1 != 0 }
  /// I/O Command Set Selected.
  public var css: UInt32 { rawValue >> 4 & 7 }
  /// Memory Page Size, as a power of two of 4 KiB.
  public var mps: UInt32 { rawValue >> 7 & 0xf }
  /// Arbitration Mechanism Selected.
  public var ams: UInt32 { rawValue >> 11 & 7 }
  /// Shutdown Notification: 0 none, 1 normal, 2 abrupt.
  public var shn: UInt32 { rawValue >> 14 & 3 }
  /// CC.SHN requests a shutdown, normal or abrupt.
  public var isShutdown: Bool { shn == 1 || shn == 2 }
  /// I/O Submission Queue Entry Size, as a power of two.
  public var iosqes: UInt32 { rawValue >> 16 & 0xf }
  /// I/O Completion Queue Entry Size, as a power of two.
  public var iocqes: UInt32 { rawValue >> 20 & 0xf }
}

/// Controller Status (Base 2.1, 3.1.4.6).
public struct ControllerStatus: RawRepresentable, Equatable, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public var ready: Bool {
    get { rawValue & 1 != 0 }
    set { rawValue = rawValue & ~1 | (newValue ? 1 : 0) }
  }
  /// Controller Fatal Status.
  public var fatal: Bool {
    get { rawValue & 2 != 0 }
    set { rawValue = rawValue & ~2 | (newValue ? 2 : 0) }
  }
  /// Shutdown Status: 0 normal operation, 1 in progress, 2 complete.
  public var shutdown: UInt32 {
    get { rawValue >> 2 & 3 }
    set { rawValue = rawValue & ~0xc | (newValue & 3) << 2 }
  }
}

/// The doorbell of one queue (PCIe Transport 1.1, 3.1.2.1).
public struct Doorbell: BitwiseCopyable, Hashable, Sendable {
  /// Queue pairs per page of doorbells.
  public static let pairs = 512

  /// Position in the doorbell array: twice the queue identifier, plus one for a completion queue's head.
  public let index: Int

  public static func submissionTail(_ qid: QueueID) -> Doorbell { Doorbell(index: 2 * Int(qid.rawValue)) }
  public static func completionHead(_ qid: QueueID) -> Doorbell { Doorbell(index: 2 * Int(qid.rawValue) + 1) }

  public var qid: QueueID { QueueID(UInt16(truncatingIfNeeded: index >> 1)) }
  public var isCompletionHead: Bool { index & 1 != 0 }
}

/// Reasons for a reset from outside the registers (Base 2.1, 3.7.2).
public enum ResetReason: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  /// The host requested a device reset.
  case device = 0
  /// Function level reset (PCIe Base 6.0, 6.6.2).
  case function = 1
  /// The host disconnected.
  case disconnect = 2
  /// The PCI link went down.
  case linkDown = 3
}
