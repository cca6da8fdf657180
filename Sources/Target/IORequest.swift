import NVMe

/// A range of logical blocks (NVM Command Set 1.1, 3.3.2 and 3.3.3).
public struct LogicalBlockRange: BitwiseCopyable, Equatable, Sendable {
  public var slba: UInt64
  public var blocks: UInt32

  public init(slba: UInt64, blocks: UInt32) {
    self.slba = slba
    self.blocks = blocks
  }
}

/// A validated I/O command: a request to a backend.
public struct IORequest: BitwiseCopyable {
  public package(set) var opcode: IOOpcode
  public package(set) var nsid: UInt32
  public package(set) var qid: QueueID
  public package(set) var cid: CommandID
  /// The first logical block; of a copy the first destination block.
  public package(set) var slba: UInt64
  /// Logical blocks; 0 for a flush, and if `ranges` applies.
  public package(set) var blocks: UInt32
  public package(set) var blockShift: UInt8
  /// Written data must be on the medium on completion; read data must come from there.
  public var forcesUnitAccess = false
  /// Write Zeroes may deallocate.
  public var deallocates = false
  /// The command's slot in the engine, as long as it is in flight.
  public var slot: Int32 = 0
  /// Ranges of a deallocation, or the sources of a copy; valid only during submission.
  public var ranges = UnsafeBufferPointer<LogicalBlockRange>(start: nil, count: 0)

  public init(
    opcode: IOOpcode, nsid: UInt32, qid: QueueID, cid: CommandID, slba: UInt64, blocks: UInt32, blockShift: UInt8
  ) {
    self.opcode = opcode
    self.nsid = nsid
    self.qid = qid
    self.cid = cid
    self.slba = slba
    self.blocks = blocks
    self.blockShift = blockShift
  }

  /// Bytes that the host transfers for it.
  @inlinable @inline(__always)
  public var transferBytes: UInt64 { movesData ? byteCount : 0 }

  /// Whether the command's data pointer describes blocks of the namespace.
  @inlinable @inline(__always)
  public var movesData: Bool { opcode == .read || opcode == .write || opcode == .compare }

  /// Offset of its blocks in the namespace, in bytes.
  @inlinable @inline(__always)
  public var byteOffset: UInt64 { slba << blockShift }
  /// Its bytes of the namespace.
  @inlinable @inline(__always)
  public var byteCount: UInt64 { UInt64(blocks) << blockShift }

  /// Whether it modifies the namespace.
  @inlinable @inline(__always)
  public var writes: Bool {
    switch opcode {
    case .write, .writeZeroes, .datasetManagement, .copy: true
    default: false
    }
  }
}

extension Status: Error {}

extension Target {
  /// Limits of a Copy command (NVM Command Set 1.1, 4.1.5.1): blocks of one source range and of all, source ranges.
  static let copyRangeBlocksMax: UInt16 = 256
  static let copyBlocksMax: UInt32 = 1024
  static let copyRangesMax: UInt32 = 16

  /// Check an I/O command's fields, except its data. The engine handles fused commands.
  /// - Throws: the status that the specification gives for the first invalid field (NVM Command Set 1.1, 3.3).
  public func request(_ sqe: SubmissionEntry, qid: QueueID) throws(Status) -> IORequest {
    guard let opcode = IOOpcode(rawValue: sqe.opcode) else { throw .invalidOpcode }
    guard sqe.psdt != 3 else { throw .invalidField }
    guard let namespace = namespace(sqe.nsid) else { return try requestForAll(opcode, sqe, qid) }
    let request = try request(opcode, sqe, qid, namespace)
    if request.writes, namespace.refusesWrites { throw .namespaceIsWriteProtected }
    if namespace.hasReservations { try checkReservation(request) }
    return request
  }

  private func request(
    _ opcode: IOOpcode, _ sqe: SubmissionEntry, _ qid: QueueID, _ namespace: Namespace
  ) throws(Status) -> IORequest {
    var request = IORequest(
      opcode: opcode, nsid: sqe.nsid, qid: qid, cid: sqe.cid, slba: sqe.slba, blocks: (sqe.cdw12 & 0xffff) + 1,
      blockShift: namespace.blockShift)
    switch opcode {
    case .verify: try namespace.check(request.slba, request.blocks)
    case .read, .write, .compare:
      try namespace.check(request.slba, request.blocks)
      guard request.byteCount <= UInt64(subsystem.maxTransferBytes) else { throw .invalidField }
    case .writeZeroes:
      try namespace.check(request.slba, request.blocks)
      request.deallocates = sqe.cdw12 & 1 << 25 != 0
    case .copy:
      // The source ranges name the blocks; the end of the destination is checked when they are known.
      guard sqe.slba < namespace.blocks else { throw .lbaOutOfRange }
      guard sqe.cdw12 >> 8 & 0xf == 0 else { throw .invalidField }  // Descriptor Format
      guard sqe.cdw12 & 0xff < Target.copyRangesMax else { throw .commandSizeLimitExceeded }
      request.blocks = 0
    case .flush, .datasetManagement, .reservationRegister, .reservationReport, .reservationAcquire,
      .reservationRelease:
      guard namespace.hasReservations || !opcode.isReservation else { throw .invalidOpcode }
      (request.slba, request.blocks) = (0, 0)
    }
    // Force Unit Access; without a volatile cache every write is durable.
    switch opcode {
    case .write, .writeZeroes, .copy: request.forcesUnitAccess = !hasWriteCache || sqe.cdw12 & 1 << 30 != 0
    case .datasetManagement: request.forcesUnitAccess = !hasWriteCache
    case .read, .compare, .verify: request.forcesUnitAccess = sqe.cdw12 & 1 << 30 != 0
    default: break
    }
    return request
  }

  /// Why a namespace cannot be used: an inactive identifier, or the broadcast value where one namespace is required, is
  /// a different error from an identifier that can never be valid (Base 2.1, 3.2.1 and 4.1.1).
  func missingNamespace(_ nsid: UInt32) -> Status {
    (1...subsystem.namespacesMax).contains(nsid) || nsid == .max ? .invalidField : .invalidNamespaceOrFormat
  }

  /// Whether written data may wait for a flush.
  public var hasWriteCache: Bool { features.volatileWriteCache & 1 != 0 }

  /// A flush may apply to all namespaces (Base 2.1, 7.2).
  private func requestForAll(_ opcode: IOOpcode, _ sqe: SubmissionEntry, _ qid: QueueID) throws(Status) -> IORequest {
    guard opcode == .flush, sqe.nsid == .max else { throw missingNamespace(sqe.nsid) }
    return IORequest(opcode: opcode, nsid: sqe.nsid, qid: qid, cid: sqe.cid, slba: 0, blocks: 0, blockShift: 0)
  }

  // MARK: Ranges

  /// Bytes of a range in the data of a deallocation or a copy.
  public static func rangeBytes(_ opcode: IOOpcode) -> Int { opcode == .copy ? 32 : 16 }

  /// Parse the ranges of a deallocation (NVM Command Set 1.1, 3.3.3), or the source ranges of a copy (3.3.2), from the
  /// command's data, and check them; of a copy also the destination.
  /// - Parameter bytes: `rangeBytes` per range.
  /// - Returns: the number of `ranges` filled in, those that are not empty.
  public func parseRanges(
    _ request: IORequest, _ bytes: UnsafeRawBufferPointer, into ranges: UnsafeMutablePointer<LogicalBlockRange>
  ) throws(Status) -> Int {
    guard let namespace = namespace(request.nsid) else { throw missingNamespace(request.nsid) }
    let isCopy = request.opcode == .copy
    var count = 0
    var total: UInt64 = 0
    for place in stride(from: 0, to: bytes.count, by: Target.rangeBytes(request.opcode)) {
      let slba = bytes.loadUnaligned(fromByteOffset: place + 8, as: UInt64.self)
      let blocks =
        isCopy
        ? UInt32(bytes.loadUnaligned(fromByteOffset: place + 16, as: UInt16.self)) + 1
        : bytes.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self)
      guard !isCopy || blocks <= Target.copyRangeBlocksMax else { throw .commandSizeLimitExceeded }
      try namespace.check(slba, blocks)
      guard blocks > 0 else { continue }
      ranges[count] = LogicalBlockRange(slba: slba, blocks: blocks)
      total += UInt64(blocks)
      count += 1
    }
    guard isCopy else { return count }
    guard total <= Target.copyBlocksMax else { throw .commandSizeLimitExceeded }
    guard total <= namespace.blocks - request.slba else { throw .lbaOutOfRange }
    return count
  }
}

extension Namespace {
  fileprivate func check(_ slba: UInt64, _ blocks: UInt32) throws(Status) {
    guard slba <= self.blocks, UInt64(blocks) <= self.blocks - slba else { throw .lbaOutOfRange }
  }
}
