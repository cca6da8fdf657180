/// Commands in flight, counted from their begin to their end: their mean over the time from the first beginning of a
/// finished command to the last end of one, and the largest number at once.
///
/// A command that leaves without an end may do so before that time is known. A command shows at its fetch, when it has
/// been in flight for a while: it also counts at the moments in between at which others ended.
struct DepthMeter {
  private static let earlyMax = 4096
  private static let generationsMax = 1 << 16

  private var first = UInt64.max
  private var last: UInt64 = 0
  /// Commands × nanoseconds of those that have left.
  private var area: UInt128 = 0
  /// Of those that left since the latest end: up to that, and until they left, which counts if another end follows.
  private var areaToLast: UInt128 = 0
  private var areaToNow: UInt128 = 0
  /// Those that left without an end and began before `first`.
  private var early: [Range<UInt64>] = []
  /// Every loss of commands in flight starts a new generation; commands of older generations no longer count.
  private(set) var generation: UInt32 = 0
  private var generationEnds: [UInt64] = []
  private var depth: UInt64 = 0
  private var peaks = Peaks()

  /// A new command has been in flight since `begin`.
  mutating func enter(begin: UInt64) {
    depth += 1
    peaks.add(depth, since: begin)
  }

  /// A command of the present generation is no longer in flight.
  mutating func leave(now: UInt64) {
    guard depth > 0 else { return }
    peaks.end(at: now, depth)
    depth -= 1
  }

  mutating func finish(begin: UInt64, end: UInt64) {
    (first, last) = (min(first, begin), max(last, end))
    area += UInt128(end - begin) + areaToNow
    (areaToLast, areaToNow) = (0, 0)
  }

  /// A command left without an end.
  mutating func drop(begin: UInt64, end: UInt64) {
    guard end > begin else { return }
    if begin < first {
      if early.count < DepthMeter.earlyMax { early.append(begin..<end) }
    } else {
      areaToLast += part(begin, end)
      areaToNow += UInt128(end - begin)
    }
  }

  mutating func restart(now: UInt64) {
    if generationEnds.count < DepthMeter.generationsMax { generationEnds.append(now) }
    depth = 0
    generation &+= 1
    peaks.forget()
  }

  /// What has left so far does not count.
  mutating func forget() {
    (first, last, area, areaToLast, areaToNow) = (.max, 0, 0, 0, 0)
    early.removeAll()
  }

  /// Nil for the present generation, and for one that is too old.
  func end(ofGeneration generation: UInt32) -> UInt64? {
    generation < generationEnds.count ? generationEnds[Int(generation)] : nil
  }

  /// How long a command was in flight during the time that counts.
  func part(_ begin: UInt64, _ end: UInt64) -> UInt128 {
    let (from, to) = (max(begin, first), min(end, last))
    return to > from ? UInt128(to - from) : 0
  }

  /// - Parameter inFlight: the parts of the commands that have not left.
  func mean(with inFlight: UInt128) -> Double {
    guard last > first else { return 0 }
    let all = early.reduce(area + areaToLast + inFlight) { $0 + part($1.lowerBound, $1.upperBound) }
    return Double(all) / Double(last - first)
  }

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
