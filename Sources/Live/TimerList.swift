import Endpoint
import Trace

/// The engine's timers that are armed. There are few: they lie in an array.
struct TimerList: ~Copyable {
  private var armed: [(timer: EngineTimer, dueNs: UInt64)] = []
  private var firstDueNs = UInt64.max

  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) {
    disarm(timer)
    let now = Clock.monotonicNs()
    let spanNs = max(afterUs, 1) * 1000
    // CC is looked at in fixed steps, whenever it was written.
    let dueNs = timer == .configuration ? (now / spanNs + 1) * spanNs : now + spanNs
    armed.append((timer, dueNs))
    firstDueNs = min(firstDueNs, dueNs)
  }

  mutating func disarm(_ timer: EngineTimer) {
    armed.removeAll { $0.timer == timer }
    firstDueNs = armed.map(\.dueNs).min() ?? .max
  }

  /// A timer whose time has come; it is disarmed by that.
  mutating func expired() -> EngineTimer? {
    guard firstDueNs <= Clock.monotonicNs(), let index = armed.firstIndex(where: { $0.dueNs == firstDueNs }) else {
      return nil
    }
    let timer = armed[index].timer
    disarm(timer)
    return timer
  }
}

extension EngineTimer {
  /// As the trace has it when it expires.
  func record(time: UInt64) -> Record {
    switch self {
    case .aggregation(let cqid): Record(time: time, kind: .timer, flags: 0, qid: cqid.rawValue)
    case .keepAlive: Record(time: time, kind: .timer, flags: 1)
    case .configuration: Record(time: time, kind: .timer, flags: 2)
    }
  }
}
