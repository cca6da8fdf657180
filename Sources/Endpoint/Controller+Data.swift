import NVMe
import Target

/// Data that the engine itself produces or interprets.
extension Controller {
  /// Write `length` bytes to the command's data pointer: those of `scratch` between `begin` and `end`, followed by
  /// zeros.
  mutating func send<P: Port & ~Copyable>(
    from begin: Int, of end: Int, length: UInt64, _ sqe: SubmissionEntry, _ qid: QueueID, _ port: inout P
  ) throws(Status) {
    guard length <= UInt64(target.subsystem.maxTransferBytes) else { throw .invalidField }
    let count = try mapData(sqe, UInt32(length), .toHost, qid, &port)
    port.mapped(qid: qid, cid: sqe.cid, segments: count, length: UInt32(length))
    var place = begin
    for index in 0..<count {
      let segment = segments[index]
      var done: UInt32 = 0
      while done < segment.length {
        let rest = place < end ? UnsafeRawBufferPointer(rebasing: scratch[place..<end]) : UnsafeRawBufferPointer(zeros)
        let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(segment.length - done)))
        let address = PCIAddress(segment.address.rawValue &+ UInt64(done))
        if !segment.isBitBucket {
          guard port.write(address, piece, qid: qid, cid: sqe.cid) else { throw .dataTransferError }
        }
        done += UInt32(piece.count)
        place += piece.count
      }
    }
  }

  /// Read `count` bytes, at most a page, from the command's data pointer.
  /// - Returns: the beginning of `scratch`.
  mutating func receive<P: Port & ~Copyable>(
    _ count: Int, _ sqe: SubmissionEntry, _ qid: QueueID, _ port: inout P
  ) throws(Status) -> UnsafeRawBufferPointer {
    precondition(count <= scratch.count)
    let mapped = try mapData(sqe, UInt32(count), .fromHost, qid, &port)
    var place = 0
    for index in 0..<mapped {
      let end = place + Int(segments[index].length)
      let piece = UnsafeMutableRawBufferPointer(rebasing: scratch[place..<end])
      guard port.read(segments[index].address, into: piece, qid: qid, cid: sqe.cid) else { throw .dataTransferError }
      place = end
    }
    return UnsafeRawBufferPointer(rebasing: scratch[..<count])
  }
}
