/// A Submission Queue Entry as stored in host memory: 64 bytes, little-endian (Base 2.1, 4.1.1).
public struct SubmissionEntry: BitwiseCopyable, Equatable, Sendable {
  public var cdw0: UInt32 = 0
  public var nsid: UInt32 = 0
  public var cdw2: UInt32 = 0
  public var cdw3: UInt32 = 0
  public var mptr: UInt64 = 0
  public var prp1: UInt64 = 0
  public var prp2: UInt64 = 0
  public var cdw10: UInt32 = 0
  public var cdw11: UInt32 = 0
  public var cdw12: UInt32 = 0
  public var cdw13: UInt32 = 0
  public var cdw14: UInt32 = 0
  public var cdw15: UInt32 = 0

  /// Bytes.
  public static let size = 64

  public init() {}

  public init(opcode: UInt8, cid: CommandID, nsid: UInt32 = 0) {
    cdw0 = UInt32(opcode) | UInt32(cid.rawValue) << 16
    self.nsid = nsid
  }

  public var opcode: UInt8 { UInt8(truncatingIfNeeded: cdw0) }
  /// Fused Operation: 0 none, 1 first command, 2 second command.
  public var fuse: UInt8 { UInt8(cdw0 >> 8 & 3) }
  /// Position of `fuse` in Command Dword 0.
  public static let fuseMask: UInt32 = 3 << 8
  /// PRP or SGL for Data Transfer: 0 is PRP.
  public var psdt: UInt8 { UInt8(cdw0 >> 14 & 3) }
  public var cid: CommandID {
    get { CommandID(UInt16(cdw0 >> 16)) }
    set { cdw0 = cdw0 & 0xffff | UInt32(newValue.rawValue) << 16 }
  }

  /// Command Set Identifier of a Get Log Page: 0 for the NVM command set (Base 2.1, 5.1.12).
  public var commandSet: UInt8 {
    get { UInt8(cdw14 >> 24) }
    set { cdw14 = cdw14 & 0x00ff_ffff | UInt32(newValue) << 24 }
  }

  /// Starting LBA of the I/O commands that have one: CDW10 and CDW11 (NVM Command Set 1.1, 3.3).
  public var slba: UInt64 {
    get { UInt64(cdw10) | UInt64(cdw11) << 32 }
    set {
      cdw10 = UInt32(truncatingIfNeeded: newValue)
      cdw11 = UInt32(truncatingIfNeeded: newValue >> 32)
    }
  }
}

extension SubmissionEntry {
  /// Number of logical blocks of a read, write, compare, write zeroes or verify, from NLB (NVM Command Set 1.1, 3.3).
  public var blocks: UInt32 { cdw12 & 0xffff + 1 }
}
