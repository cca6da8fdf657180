import NVMe
import Target

/// Checks that the backend of the first namespace gets no other request from the beginning of a fused Compare to the
/// end of its Write.
struct FusionWatch {
  /// FUSE of the fused commands in flight, by queue and identifier.
  private var fused: [UInt32: UInt8] = [:]
  /// Requests in progress, except flushes.
  private var inProgress = 0
  /// A Compare has begun and its Write has not ended.
  private var isOpen = false

  private func name(_ qid: QueueID, _ cid: CommandID) -> UInt32 { UInt32(qid.rawValue) << 16 | UInt32(cid.rawValue) }

  private func isWatched(_ request: IORequest) -> Bool {
    request.nsid == 1 && request.opcode != .flush && request.qid != .admin
  }

  mutating func fetched(_ sqe: SubmissionEntry, _ qid: QueueID) {
    if sqe.fuse != 0 { fused[name(qid, sqe.cid)] = sqe.fuse }
  }

  /// A request reaches the backend.
  /// - Returns: the rule that it violates, if any.
  mutating func begin(_ request: IORequest) -> String? {
    guard isWatched(request) else { return nil }
    defer { inProgress += 1 }
    let what = "queue \(request.qid.rawValue), command \(request.cid.rawValue)"
    switch fused[name(request.qid, request.cid)] ?? 0 {
    case 1:
      guard inProgress == 0, !isOpen else {
        return "\(what), a fused Compare, begins while other requests are in progress"
      }
      isOpen = true
    case 2: if !isOpen || inProgress > 0 { return "\(what), a fused Write, begins without its Compare" }
    default: if isOpen { return "\(what) begins between the two commands of a fused operation" }
    }
    return nil
  }

  /// The backend has completed a request.
  mutating func end(_ request: IORequest, _ status: Status) {
    guard isWatched(request) else { return }
    inProgress -= 1
    let fuse = fused.removeValue(forKey: name(request.qid, request.cid)) ?? 0
    if fuse == 2 || fuse == 1 && !status.isSuccess { isOpen = false }
  }

  /// The engine has completed a command without the backend. If this happens while the backend performs one of a pair,
  /// the command is the aborted Write of another pair.
  mutating func refused(_ qid: QueueID, _ cid: CommandID) {
    if fused.removeValue(forKey: name(qid, cid)) == 2, inProgress == 0 { isOpen = false }
  }
}
