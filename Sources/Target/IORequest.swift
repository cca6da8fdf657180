import NVMe

/// An I/O command that passed every check of its fields; what a backend is asked to do.
public struct IORequest: BitwiseCopyable, Sendable {
  public let opcode: IOOpcode
  public let nsid: UInt32
  public let qid: QueueID
  public let cid: CommandID
  public let slba: UInt64
  /// Logical blocks; 0 for a flush.
  public let blocks: UInt32
  public let blockShift: UInt8

  /// Bytes that the host transfers for it.
  public var transferBytes: UInt64 {
    switch opcode {
    case .read, .write: UInt64(blocks) << blockShift
    case .flush, .writeZeroes: 0
    }
  }

  public var movesData: Bool { opcode == .read || opcode == .write }

  /// Where its blocks begin in the namespace, in bytes.
  public var byteOffset: UInt64 { slba << blockShift }
  /// Bytes of the namespace that it covers.
  public var byteCount: UInt64 { UInt64(blocks) << blockShift }
}

extension Status: Error {}

extension Target {
  /// Check an I/O command's fields.
  /// - Throws: the status that the specification gives the first field found wrong (NVM Command Set 1.1, 3.3).
  public func request(_ sqe: SubmissionEntry, qid: QueueID) throws(Status) -> IORequest {
    guard let opcode = IOOpcode(rawValue: sqe.opcode) else { throw .invalidOpcode }
    guard sqe.fuse == 0, sqe.psdt == 0 else { throw .invalidField }
    guard let namespace = namespace(sqe.nsid) else {
      // A flush may name every namespace at once (Base 2.1, 7.2).
      guard opcode == .flush, sqe.nsid == .max else { throw .invalidNamespaceOrFormat }
      return IORequest(
        opcode: opcode, nsid: sqe.nsid, qid: qid, cid: sqe.cid, slba: 0, blocks: 0, blockShift: 0)
    }
    let blocks = opcode == .flush ? 0 : (sqe.cdw12 & 0xffff) + 1
    let slba = opcode == .flush ? 0 : sqe.slba
    guard slba <= namespace.blocks, UInt64(blocks) <= namespace.blocks - slba else { throw .lbaOutOfRange }
    let request = IORequest(
      opcode: opcode, nsid: sqe.nsid, qid: qid, cid: sqe.cid, slba: slba, blocks: blocks,
      blockShift: namespace.blockShift)
    guard request.transferBytes <= UInt64(subsystem.maxTransferBytes) else { throw .invalidField }
    return request
  }
}
