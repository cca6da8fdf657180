import NVMe
import Target

extension Controller {
  /// Parse a command's data pointer into `segments`.
  /// - Parameters:
  ///   - length: bytes to transfer; at most the largest transfer that the controller reports.
  ///   - direction: a Bit Bucket discards only data to the host.
  /// - Returns: the number of segments.
  @inline(__always)
  mutating func mapData<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ length: UInt32, _ direction: Direction, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> Int {
    precondition(length <= target.subsystem.maxTransferBytes)
    guard length > 0 else { return 0 }
    return sqe.psdt == 0
      ? try mapPRPs(sqe, length, qid, &port) : try mapSGL(sqe, length, direction, qid, &port)
  }

  // MARK: PRPs

  /// Adjacent pages are joined (Base 2.1, 4.3.1).
  @inline(__always)
  private mutating func mapPRPs<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ length: UInt32, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> Int {
    guard sqe.prp1 & 3 == 0 else { throw .prpOffsetInvalid }
    let page = UInt32(Controller.pageBytes)
    var remaining = length
    segments[0] = Segment(address: PCIAddress(sqe.prp1), length: min(remaining, page - UInt32(sqe.prp1 & 0xfff)))
    remaining -= segments[0].length
    var count = 1
    if remaining == 0 { return count }
    if remaining <= page {
      try append(sqe.prp2, &remaining, &count)
      return count
    }
    guard sqe.prp2 != 0 else { throw .invalidField }
    guard sqe.prp2 & 7 == 0 else { throw .prpOffsetInvalid }
    var next = sqe.prp2
    while remaining > 0 { next = try appendList(at: next, &remaining, &count, sqe.cid, qid, &port) }
    return count
  }

  /// Read the entries of one list page.
  /// - Returns: the next list, where the data continues.
  private mutating func appendList<P: Port & ~Copyable>(
    at address: UInt64, _ remaining: inout UInt32, _ count: inout Int, _ cid: CommandID, _ qid: QueueID,
    _ port: inout P
  ) throws(Status) -> UInt64 {
    let room = Int(Controller.pageBytes - address & 0xfff) / 8
    let needed = Int((UInt64(remaining) + Controller.pageBytes - 1) / Controller.pageBytes)
    let isChained = needed > room
    let entries = isChained ? room : needed
    let bytes = UnsafeMutableRawBufferPointer(rebasing: list[..<(entries * 8)])
    guard port.read(PCIAddress(address), into: bytes, qid: qid, cid: cid) else { throw .dataTransferError }
    for entry in 0..<(isChained && !Mutant.listChainIgnored.isPlanted ? entries - 1 : entries) {
      let place = Mutant.listOffByOne.isPlanted && entry == 1 ? 0 : entry
      try append(bytes.load(fromByteOffset: place * 8, as: UInt64.self), &remaining, &count)
    }
    guard isChained else { return 0 }
    // A chained list starts at a page, so each list advances the transfer and a list that points to itself ends.
    let next = bytes.load(fromByteOffset: (entries - 1) * 8, as: UInt64.self)
    guard next != 0 else { throw .invalidField }
    guard next & 0xfff == 0 else { throw .prpOffsetInvalid }
    return next
  }

  @inline(__always)
  private mutating func append(_ prp: UInt64, _ remaining: inout UInt32, _ count: inout Int) throws(Status) {
    guard prp != 0 else { throw .invalidField }
    guard prp & 0xfff == 0 else { throw .prpOffsetInvalid }
    let length = min(remaining, UInt32(Controller.pageBytes))
    remaining -= length
    let last = segments + (count - 1)
    if last.pointee.address.rawValue &+ UInt64(last.pointee.length) == prp {
      last.pointee.length += length
    } else {
      segments[count] = Segment(address: PCIAddress(prp), length: length)
      count += 1
    }
  }

  // MARK: SGLs

  /// A Scatter Gather List being parsed into `segments`.
  private struct SGLWalk {
    var remaining: UInt32
    let direction: Direction
    var count = 0
    /// Descriptors parsed so far: each costs the engine time, whether it describes data or not.
    var descriptors = 0
  }

  /// Base 2.1, 4.3.2.
  @inline(never)
  private mutating func mapSGL<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ length: UInt32, _ direction: Direction, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> Int {
    var walk = SGLWalk(remaining: length, direction: direction)
    var descriptor = sqe.sgl1
    while true {
      switch descriptor.kind {
      case .dataBlock, .bitBucket: try append(descriptor, &walk)
      case .segment, .lastSegment:
        guard let next = try appendSegment(descriptor, &walk, sqe.cid, qid, &port) else { break }
        descriptor = next
        continue
      case nil: throw .sglDescriptorTypeInvalid
      }
      guard walk.remaining == 0 else { throw .dataSGLLengthInvalid }
      return walk.count
    }
  }

  /// Read the descriptors of one SGL segment, as far as there is data for them.
  /// - Returns: the descriptor of the next segment, where the data continues.
  private mutating func appendSegment<P: Port & ~Copyable>(
    _ segment: SGLDescriptor, _ walk: inout SGLWalk, _ cid: CommandID, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> SGLDescriptor? {
    let size = UInt32(SGLDescriptor.size)
    guard segment.length > 0, segment.length % size == 0, segment.address & 7 == 0 else {
      throw .invalidSGLSegmentDescriptor
    }
    let total = Int(segment.length / size)
    guard total <= Controller.segmentsMax - walk.descriptors else { throw .invalidNumberOfSGLDescriptors }
    walk.descriptors += total
    var parsed = 0
    while parsed < total, walk.remaining > 0 {
      let count = min(total - parsed, list.count / SGLDescriptor.size)
      let bytes = UnsafeMutableRawBufferPointer(rebasing: list[..<(count * SGLDescriptor.size)])
      let address = PCIAddress(segment.address &+ UInt64(parsed * SGLDescriptor.size))
      guard port.read(address, into: bytes, qid: qid, cid: cid) else { throw .dataTransferError }
      for place in 0..<count where walk.remaining > 0 {
        let descriptor = bytes.load(fromByteOffset: place * SGLDescriptor.size, as: SGLDescriptor.self)
        switch descriptor.kind {
        case .dataBlock, .bitBucket: try append(descriptor, &walk)
        case .segment, .lastSegment:
          guard segment.kind == .segment else { throw .invalidSGLSegmentDescriptor }
          guard parsed + place == total - 1 else { throw .invalidNumberOfSGLDescriptors }
          return descriptor
        case nil: throw .sglDescriptorTypeInvalid
        }
      }
      parsed += count
    }
    // A Segment descriptor must be followed by another segment, unless no data remains.
    guard walk.remaining == 0 || segment.kind == .lastSegment else { throw .invalidSGLSegmentDescriptor }
    return nil
  }

  private mutating func append(_ descriptor: SGLDescriptor, _ walk: inout SGLWalk) throws(Status) {
    let isBitBucket = descriptor.kind == .bitBucket
    // For data from the host a Bit Bucket is empty (Base 2.1, 4.3.2.1.2).
    guard descriptor.length > 0, !isBitBucket || walk.direction == .toHost else { return }
    guard walk.count < Controller.segmentsMax else { throw .invalidNumberOfSGLDescriptors }
    let length = min(descriptor.length, walk.remaining)
    segments[walk.count] = Segment(address: PCIAddress(descriptor.address), length: length, isBitBucket: isBitBucket)
    walk.count += 1
    walk.remaining -= length
  }
}
