import NVMe
import Target

extension Controller {
  /// Parse a command's PRPs into `segments`, adjacent pages joined (Base 2.1, 4.3.1).
  /// - Parameter length: bytes to transfer; at most the largest transfer that the controller reports.
  /// - Returns: how many segments there are.
  mutating func mapData<P: Port & ~Copyable>(
    _ sqe: SubmissionEntry, _ length: UInt32, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> Int {
    precondition(length <= target.subsystem.maxTransferBytes)
    guard length > 0 else { return 0 }
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
    var list = sqe.prp2
    while remaining > 0 { list = try appendList(at: list, &remaining, &count, sqe.cid, qid, &port) }
    return count
  }

  /// Take the entries of one list page.
  /// - Returns: the next list, where the data goes on.
  private mutating func appendList<P: Port & ~Copyable>(
    at list: UInt64, _ remaining: inout UInt32, _ count: inout Int, _ cid: CommandID, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> UInt64 {
    let room = Int(Controller.pageBytes - list & 0xfff) / 8
    let needed = Int((UInt64(remaining) + Controller.pageBytes - 1) / Controller.pageBytes)
    let isChained = needed > room
    let entries = isChained ? room : needed
    let bytes = UnsafeMutableRawBufferPointer(rebasing: scratch[..<(entries * 8)])
    guard port.read(PCIAddress(list), into: bytes, qid: qid, cid: cid) else { throw .dataTransferError }
    for entry in 0..<(isChained ? entries - 1 : entries) {
      try append(bytes.load(fromByteOffset: entry * 8, as: UInt64.self), &remaining, &count)
    }
    guard isChained else { return 0 }
    // A chained list begins a page, so that each brings the transfer forward and a list that points to itself ends.
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
}
