/// Commands in flight over time, counted from their begin to their end.
///
/// A command shows at its fetch, when it has been in flight for a while: it also counts at the moments in between at
/// which others ended.
struct DepthMeter {
  /// Commands × nanoseconds.
  private var area: UInt128 = 0
  /// The area when the latest command ended that was in the trace from beginning to end.
  private(set) var areaAtEnd: UInt128 = 0
  /// Every loss of commands in flight starts a new generation; commands of older generations no longer count.
  private(set) var generation: UInt32 = 0
  private var depth: UInt64 = 0
  private var time: UInt64 = 0
  private var peaks = Peaks()

  private mutating func advance(to now: UInt64) {
    area += UInt128(depth) * UInt128(now - time)
    time = now
  }

  /// A command that first appears at `now` and has been in flight since `begin`.
  mutating func enter(begin: UInt64, now: UInt64) {
    advance(to: now)
    area += UInt128(now - min(begin, now))
    depth += 1
    peaks.add(depth, since: begin)
  }

  mutating func leave(generation: UInt32, now: UInt64) {
    advance(to: now)
    guard generation == self.generation, depth > 0 else { return }
    peaks.end(at: now, depth)
    depth -= 1
  }

  mutating func restart(now: UInt64) {
    advance(to: now)
    depth = 0
    generation &+= 1
    peaks.forget()
  }

  /// A whole command has left.
  mutating func markEnd() { areaAtEnd = area }

  /// The largest number of commands in flight at once. Exact, if no command waits for its fetch while thousands of others
  /// end.
  var depthMax: UInt64 { peaks.highest }
}

/// The depth just before each of the latest commands ended, for commands that turn out to have begun before.
private struct Peaks {
  private struct Peak {
    var time: UInt64
    var depth: UInt64
    /// How many more commands had begun, compared with the peak before.
    var change: Int64
  }

  private static let countMax = 1 << 14

  private var recent: [Peak] = []
  /// Of the next peak.
  private var nextChange: Int64 = 0
  private var top: UInt64 = 0

  /// `depth` commands are in flight; one that is new among them has been since `begin`.
  mutating func add(_ depth: UInt64, since begin: UInt64) {
    top = max(top, depth)
    let first = firstPeak(after: begin)
    guard first < recent.count else { return }
    recent[first].change += 1
    nextChange -= 1
  }

  /// Of `depth` commands in flight one ends.
  mutating func end(at time: UInt64, _ depth: UInt64) {
    if recent.count == Peaks.countMax { settle(Peaks.countMax / 2) }
    recent.append(Peak(time: time, depth: depth, change: nextChange))
    nextChange = 0
  }

  /// No command that appears from now on was in flight before.
  mutating func forget() {
    settle(recent.count)
    nextChange = 0
  }

  var highest: UInt64 { max(top, highest(of: recent.count).highest) }

  private mutating func settle(_ count: Int) {
    let (highest, missed) = highest(of: count)
    top = max(top, highest)
    recent.removeFirst(count)
    if recent.isEmpty { nextChange += missed } else { recent[0].change += missed }
  }

  /// - Returns: the highest of the oldest peaks, and how many more commands had begun at the last of them.
  private func highest(of count: Int) -> (highest: UInt64, missed: Int64) {
    var (highest, missed) = (UInt64(0), Int64(0))
    for peak in recent[..<count] {
      missed += peak.change
      highest = max(highest, peak.depth + UInt64(max(0, missed)))
    }
    return (highest, missed)
  }

  private func firstPeak(after time: UInt64) -> Int {
    var (low, high) = (0, recent.count)
    while low < high {
      let middle = (low + high) / 2
      if recent[middle].time > time { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
