/// What a CPU did in a window of time whose end moves on, in a fixed amount of memory.
///
/// Only what is final is added, each nanosecond once, and so nothing is ever taken back.
struct UseWindow: Sendable {
  let begin: UInt64
  private(set) var end: UInt64
  /// In the window.
  private(set) var times = DriverTimes()
  /// Since its end.
  private var after = DriverTimes()

  /// - Parameter rest: what it did since then.
  init(since begin: UInt64, rest: DriverTimes) { (self.begin, end, after) = (begin, begin, rest) }

  /// The CPU did this from one moment to another, after everything added before.
  mutating func add(_ activity: DriverActivity, from: UInt64, to: UInt64) {
    let from = max(from, begin)
    guard from < to else { return }
    times[activity] &+= min(to, max(from, end)) - from
    after[activity] &+= to - min(to, max(from, end))
  }

  /// - Parameter rest: what was added for the time after this end.
  mutating func extend(to end: UInt64, rest: DriverTimes) {
    self.end = end
    times += after - rest
    after = rest
  }

  /// The end moves on to a moment about which nothing is known any more.
  mutating func skip(to end: UInt64) { self.end = end }
}
