/// A Completion Queue Entry as stored in host memory: 16 bytes, little-endian (Base 2.1, 4.2.1).
public struct CompletionEntry: BitwiseCopyable, Equatable, Sendable {
  public var dw0: UInt32 = 0
  public var dw1: UInt32 = 0
  public var dw2: UInt32 = 0
  public var dw3: UInt32 = 0

  /// Bytes.
  public static let size = 16

  public init() {}

  public init(dw0: UInt32, sqhd: UInt16, sqid: QueueID, cid: CommandID, phase: Bool, status: Status) {
    self.dw0 = dw0
    dw2 = UInt32(sqhd) | UInt32(sqid.rawValue) << 16
    dw3 = UInt32(cid.rawValue) | (phase ? 1 << 16 : 0) | UInt32(status.rawValue) << 17
  }

  public var sqhd: UInt16 { UInt16(truncatingIfNeeded: dw2) }
  public var sqid: QueueID { QueueID(UInt16(dw2 >> 16)) }
  public var cid: CommandID { CommandID(UInt16(truncatingIfNeeded: dw3)) }
  public var phase: Bool { dw3 & 1 << 16 != 0 }
  public var status: Status { Status(rawValue: UInt16(dw3 >> 17)) }
}
