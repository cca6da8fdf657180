import NVMe
import Text

/// What the host does when commands exceed their time limit, in the order of the usual drivers: abort them, then reset
/// the controller.
extension Workload {
  /// A controller that needs more resets than this is given up.
  private static let resetsMax: UInt64 = 8

  /// Ask the controller to abort the late commands.
  /// - Returns: false if it must be reset: it has stopped, its link is down, or an abort has not helped.
  func abortLate(
    _ run: inout Run, _ queue: inout QueuePair, _ controller: HostController, _ now: UInt64
  ) throws(HostError) -> Bool {
    let late = queue.lateIDs(now, limitNs: controller.timeoutNs)
    let fresh = late.filter { !queue.commands[$0].isAborted }
    run.result.timeouts += UInt64(fresh.count)
    guard fresh.count == late.count, try !controller.status().fatal else { return false }
    for id in fresh {
      var abort = SubmissionEntry(opcode: AdminOpcode.abort.rawValue, cid: CommandID(0))
      abort.cdw10 = UInt32(queue.qid.rawValue) | UInt32(id) << 16
      run.result.aborts += 1
      do throws(HostError) { _ = try controller.execute(abort) } catch {
        guard error.kind == .late else { throw error }
        return false
      }
      queue.noteAbort(id, HostController.nowNs())
    }
    return true
  }

  /// Reset the controller, which gives up the commands in flight; the workload continues on a new queue pair.
  func reset(_ run: inout Run, _ controller: HostController, _ queue: consuming QueuePair) throws(HostError) {
    let address = queue.submissionAddress
    run.result.unexpected += queue.unexpected
    run.result.lost += UInt64(queue.outstanding)
    run.result.resets += 1
    guard run.result.resets <= Workload.resetsMax else {
      throw HostError("the controller does not work after \(Workload.resetsMax) resets", kind: .late)
    }
    try controller.restart()
    try controller.unshare(address)
    run.isToContinue = true
  }

  /// Do what `misbehaviour` says.
  /// - Returns: whether to reset the controller.
  func misbehave(_ run: inout Run, _ queue: inout QueuePair) -> Bool {
    switch misbehaviour {
    case .neverDrain:
      queue.freesEntries = false
      run.misbehaveNext(after: .max)
    case .reuseCID:
      run.submitReused(&queue)
      run.misbehaveNext(after: 500)
    case .resetInFlight:
      run.misbehaveNext(after: .max)
      return queue.outstanding > 0
    case nil: break
    }
    return false
  }
}
