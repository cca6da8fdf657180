import NVMe
import Target

extension Controller {
  /// Handle expired timers.
  mutating func handleTimers<P: Port & ~Copyable>(_ port: inout P) -> Bool {
    var worked = false
    while timers > 0, let timer = port.expired() {
      worked = true
      switch timer {
      case .aggregation(let cqid): endAggregation(cqid, &port)
      case .keepAlive: endKeepAlive(&port)
      case .configuration: pollConfiguration(&port)
      }
      port.observe(self)
    }
    return worked
  }

  /// The aggregation time of these entries has passed (Base 2.1, 5.1.25.1.4).
  private mutating func endAggregation<P: Port & ~Copyable>(_ cqid: QueueID, _ port: inout P) {
    guard Int(cqid.rawValue) < queuesMax, completionQueues[Int(cqid.rawValue)].isAggregating else { return }
    let queue = completionQueues + Int(cqid.rawValue)
    queue.pointee.isAggregating = false
    timers -= 1
    if Mutant.lostInterrupt.isPlanted { return }
    if queue.pointee.unannounced > 0 { raiseInterrupt(queue, cqid, &port) }
  }

  // MARK: Keep Alive

  /// The host has sent a command, or changed the keep alive timeout (Base 2.1, 3.9).
  mutating func armKeepAlive<P: Port & ~Copyable>(_ port: inout P) {
    let timeoutMs = target.features.keepAliveTimer
    guard timeoutMs > 0 else { return disarmKeepAlive(&port) }
    if !keepAliveIsArmed { timers += 1 }
    keepAliveIsArmed = true
    sawTraffic = false
    port.arm(.keepAlive, afterUs: UInt64(timeoutMs) * 1000)
  }

  mutating func disarmKeepAlive<P: Port & ~Copyable>(_ port: inout P) {
    guard keepAliveIsArmed else { return }
    keepAliveIsArmed = false
    timers -= 1
    port.disarm(.keepAlive)
  }

  /// Any command restarts the timer (Base 2.1, 3.9.3); without one the controller gives up its host.
  private mutating func endKeepAlive<P: Port & ~Copyable>(_ port: inout P) {
    guard keepAliveIsArmed else { return }
    keepAliveIsArmed = false
    timers -= 1
    if Mutant.keepAliveIgnored.isPlanted { return }
    if sawTraffic { return Mutant.keepAliveNotRearmed.isPlanted ? () : armKeepAlive(&port) }
    target.noteError(.keepAliveTimerExpired)
    fail()
  }
}
