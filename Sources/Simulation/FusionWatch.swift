import NVMe
import Target

/// Fused operations as the backend of the first namespace sees them: from the beginning of a Compare to the end of its Write
/// there is nothing else.
struct FusionWatch {
  /// Commands that were fetched as one of two, and have not ended, by queue and identifier: FUSE.
  private var fused: [UInt32: UInt8] = [:]
  /// Requests under way, but for a flush.
  private var underWay = 0
  /// A Compare has begun, and its Write has not ended.
  private var isOpen = false

  private func name(_ qid: QueueID, _ cid: CommandID) -> UInt32 { UInt32(qid.rawValue) << 16 | UInt32(cid.rawValue) }

  private func isWatched(_ request: IORequest) -> Bool {
    request.nsid == 1 && request.opcode != .flush && request.qid != .admin
  }

  mutating func fetched(_ sqe: SubmissionEntry, _ qid: QueueID) {
    if sqe.fuse != 0 { fused[name(qid, sqe.cid)] = sqe.fuse }
  }

  /// A request reaches the backend.
  /// - Returns: what is wrong with that.
  mutating func begin(_ request: IORequest) -> String? {
    guard isWatched(request) else { return nil }
    defer { underWay += 1 }
    let what = "queue \(request.qid.rawValue), command \(request.cid.rawValue)"
    switch fused[name(request.qid, request.cid)] ?? 0 {
    case 1:
      guard underWay == 0, !isOpen else { return "\(what), a fused Compare, begins while others are under way" }
      isOpen = true
    case 2: if !isOpen || underWay > 0 { return "\(what), a fused Write, begins without its Compare" }
    default: if isOpen { return "\(what) begins between the two commands of a fused operation" }
    }
    return nil
  }

  /// The backend is done with a request.
  mutating func end(_ request: IORequest, _ status: Status) {
    guard isWatched(request) else { return }
    underWay -= 1
    let fuse = fused.removeValue(forKey: name(request.qid, request.cid)) ?? 0
    if fuse == 2 || fuse == 1 && !status.isSuccess { isOpen = false }
  }

  /// The engine is done with a command that the backend never had. While the backend has one of a pair, that is a Write of
  /// another, which was aborted.
  mutating func refused(_ qid: QueueID, _ cid: CommandID) {
    if fused.removeValue(forKey: name(qid, cid)) == 2, underWay == 0 { isOpen = false }
  }
}
