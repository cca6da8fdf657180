import Endpoint

/// The engine's armed timers. There are few, so they are in an array.
struct TimerList: ~Copyable {
  private var armed: [(timer: EngineTimer, dueNs: UInt64)] = []
  /// When the first of them is due; `.max` if none is armed.
  private(set) var firstDueNs = UInt64.max

  var isEmpty: Bool { armed.isEmpty }

  mutating func arm(_ timer: EngineTimer, afterUs: UInt64, nowNs: UInt64) {
    disarm(timer)
    let spanNs = max(afterUs, 1) * 1000
    // CC is polled at fixed intervals, independent of writes.
    let dueNs = timer == .configuration ? (nowNs / spanNs + 1) * spanNs : nowNs &+ spanNs
    armed.append((timer, dueNs))
    firstDueNs = min(firstDueNs, dueNs)
  }

  mutating func disarm(_ timer: EngineTimer) {
    armed.removeAll { $0.timer == timer }
    firstDueNs = armed.map(\.dueNs).min() ?? .max
  }

  /// The next expired timer, which is thereby disarmed.
  mutating func expired(nowNs: UInt64) -> EngineTimer? {
    guard firstDueNs <= nowNs, let index = armed.firstIndex(where: { $0.dueNs == firstDueNs }) else {
      return nil
    }
    let timer = armed[index].timer
    disarm(timer)
    return timer
  }
}
