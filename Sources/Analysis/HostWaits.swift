/// What a host's thread does while a visible completion queue entry waits for it. The raw value is the index in this order.
public enum HostState: Int, CaseIterable, Sendable {
  /// Handles other entries, or submits commands.
  case busy
  /// Has yielded its core, or sleeps.
  case rested
  /// Polls, or has no core.
  case polled

  /// The name in every report.
  public var name: String { "\(self)" }
}

/// A time per state, in nanoseconds.
public struct HostWaits: Sendable {
  private var values = InlineArray<3, UInt64>(repeating: 0)

  public init() {}

  public internal(set) subscript(state: HostState) -> UInt64 {
    get { values[state.rawValue] }
    set { values[state.rawValue] = newValue }
  }

  public var sum: UInt64 { HostState.allCases.reduce(0) { $0 &+ self[$1] } }
}

/// What is known of a host's thread when it sees an entry.
struct HostSight {
  /// When it saw the entry.
  let time: UInt64
  /// The latest time in which it waited for an entry, and its latest rest.
  let idle: Range<UInt64>
  let rest: Range<UInt64>
  /// Its first event after that; nil until then.
  var next: UInt64?

  /// What the thread did since `begin`, when the entry became visible or was announced, and until `end`, when it freed the
  /// entry, except for what it did with this entry.
  func waits(from begin: UInt64, to end: UInt64) -> HostWaits {
    var waits = HostWaits()
    let seen = min(time, end)
    if seen > begin {
      let idle = idle.clamped(to: begin..<seen)
      let rest = rest.clamped(to: idle)
      waits[.rested] = UInt64(rest.count)
      waits[.polled] = UInt64(idle.count - rest.count)
      waits[.busy] = seen - begin - UInt64(idle.count)
    }
    let handled = max(next ?? end, seen, begin)
    if end > handled { waits[.busy] += end - handled }
    return waits
  }
}
