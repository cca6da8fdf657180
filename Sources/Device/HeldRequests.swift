import Endpoint
import NVMe
import Target

/// Requests that a fault keeps from their backend, until they are due.
struct HeldRequests {
  private struct Held {
    let request: IORequest
    /// They are valid only while a request is submitted, so they are kept here.
    let ranges: [LogicalBlockRange]
    let dueNs: UInt64
    let kind: UInt8
    let rule: UInt32
    /// Its namespace is gone.
    var isOrphan = false
  }

  private var all: [Held] = []

  var isEmpty: Bool { all.isEmpty }

  mutating func add(_ request: IORequest, dueNs: UInt64, kind: UInt8, rule: UInt32) {
    var kept = request
    kept.ranges = UnsafeBufferPointer(start: nil, count: 0)
    all.append(Held(request: kept, ranges: Array(request.ranges), dueNs: dueNs, kind: kind, rule: rule))
  }

  mutating func removeAll() { all.removeAll() }

  /// - Returns: whether it was held.
  mutating func remove(slot: Int32) -> Bool {
    guard let place = all.firstIndex(where: { $0.request.slot == slot }) else { return false }
    all.remove(at: place)
    return true
  }

  /// A namespace is about to be detached: its requests never reach the backend.
  mutating func orphan(nsid: UInt32) {
    for place in all.indices where all[place].request.nsid == nsid { all[place].isOrphan = true }
  }

  /// The oldest request that is due, removed: submit it to the backend now.
  /// - Returns: the request, which fault held it, and the status of its submission.
  mutating func submitNext(
    nowNs: UInt64, _ execute: (IORequest) -> Status?
  ) -> (request: IORequest, kind: UInt8, rule: UInt32, status: Status?)? {
    guard let place = all.firstIndex(where: { $0.isOrphan || $0.dueNs <= nowNs }) else { return nil }
    let held = all.remove(at: place)
    if held.isOrphan { return (held.request, held.kind, held.rule, .internalError) }
    var request = held.request
    let status = held.ranges.withUnsafeBufferPointer { ranges in
      if !ranges.isEmpty { request.ranges = ranges }
      return execute(request)
    }
    return (held.request, held.kind, held.rule, status)
  }
}
