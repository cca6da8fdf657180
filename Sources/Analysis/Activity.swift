import Text

/// What the engine's thread does at one moment. The raw value is the index in this order.
public enum Activity: Int, CaseIterable, Sendable {
  /// Serves a command in the stage of the same name.
  case fetch, map, dataIn, execute, dataOut, complete, interrupt
  /// Works between two stages: turns from a command to the next, and records events.
  case engine
  /// Digests data, waits for room in its ring, writes a checkpoint or hashes the state: it would not do that without a recording.
  case recording
  /// Polls and finds nothing.
  case poll
  /// Has not polled for 4 µs or longer: it had no core, or it had yielded it, or it slept.
  case absent

  public static let count = 11

  /// The name in every report.
  public var name: String { "\(self)".hyphenated }

  /// The thread does something that a command needs.
  public var isBusy: Bool { self != .poll && self != .absent }
}

/// A time per activity, in nanoseconds.
public struct ActivityTimes: Sendable {
  private var values = InlineArray<11, UInt64>(repeating: 0)

  public init() {}

  public subscript(activity: Activity) -> UInt64 {
    get { values[activity.rawValue] }
    set { values[activity.rawValue] = newValue }
  }

  public var sum: UInt64 { Activity.allCases.reduce(0) { $0 &+ self[$1] } }

  /// Become what `earlier` was, and `ns` more of one activity. Every value is written once: copying all of them and then
  /// changing one would make the processor wait, if the next copy follows soon.
  @inline(__always)
  mutating func become(_ earlier: borrowing ActivityTimes, plus ns: UInt64, of activity: Activity) {
    for index in 0..<Activity.count {
      values[index] = earlier.values[index] &+ (index == activity.rawValue ? ns : 0)
    }
  }

  /// Add what passed between two states of a timeline, of which `earlier` is the earlier.
  @inline(__always)
  mutating func add(from earlier: ActivityTimes, to later: ActivityTimes) {
    for index in 0..<Activity.count { values[index] &+= later.values[index] &- earlier.values[index] }
  }
}
