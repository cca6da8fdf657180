import Intervals

/// The I/O commands that ended in one window of time. Windows begin at multiples of their length, from the beginning of
/// the trace on.
public struct TimeWindow: Sendable {
  /// Nanoseconds since the trace began, up to but not including `toNs`.
  public let fromNs: UInt64
  public let toNs: UInt64
  public let commands: UInt64
  public let failed: UInt64
  /// Sum of the commands' latencies, in nanoseconds.
  public let sumNs: UInt128
  /// Nil if fewer than ten commands support it.
  public let p50Ns: UInt64?
  /// Nil if fewer than a thousand commands, ten of them slower, support it.
  public let p99Ns: UInt64?
  public let maxNs: UInt64
  /// Mean number of commands in flight during the window, of those that finished in the trace.
  public let depth: Double

  /// 0 if no command ended.
  public var meanNs: Double { commands == 0 ? 0 : Double(sumNs) / Double(commands) }
  /// Commands per second.
  public var iops: Double { toNs > fromNs ? Double(commands) * 1e9 / Double(toNs - fromNs) : 0 }
}

/// Statistics of the I/O commands by window of time.
public struct TimeWindows: Sendable {
  /// Limits the lines of a report and the memory of an analysis.
  public static let countMax = 1000

  public let lengthNs: UInt64
  private var windows: [Window] = []
  /// Number of the first window, counted from the beginning of the trace.
  private var base: UInt64 = 0
  private var firstBegin = UInt64.max
  private var lastEnd: UInt64 = 0

  private struct Window {
    var commands: UInt64 = 0
    var failed: UInt64 = 0
    /// Commands × nanoseconds in flight, of the commands that begin or end in this window.
    var area: UInt128 = 0
    /// How many more commands than in the previous window are in flight throughout.
    var change: Int64 = 0
    var latency = DistributionRecorder(isCoarse: true)
  }

  init(lengthNs: UInt64) {
    precondition(lengthNs > 0)
    self.lengthNs = lengthNs
  }

  /// Number of windows from the first command to the last; a result exists only if it is at most `countMax`.
  public var count: UInt64 { firstBegin > lastEnd ? 0 : lastEnd / lengthNs - base + 1 }

  mutating func record(_ times: borrowing CommandTimes) {
    if firstBegin == .max { base = times.begin / lengthNs }
    (firstBegin, lastEnd) = (min(firstBegin, times.begin), max(lastEnd, times.end))
    // Only a command that the first one overtook begins before the first window.
    let begin = max(times.begin, base * lengthNs)
    let end = max(times.end, begin)
    let (first, last) = (begin / lengthNs - base, end / lengthNs - base)
    guard last < UInt64(TimeWindows.countMax) else { return }
    if windows.count <= Int(last) + 1 {
      windows.append(contentsOf: repeatElement(Window(), count: Int(last) + 2 - windows.count))
    }
    windows[Int(last)].commands += 1
    windows[Int(last)].failed += times.hasFailed ? 1 : 0
    windows[Int(last)].latency.record(times.total)
    guard first < last else {
      windows[Int(last)].area += UInt128(end - begin)
      return
    }
    windows[Int(first)].area += UInt128((first + 1 + base) * lengthNs - begin)
    windows[Int(last)].area += UInt128(end - (last + base) * lengthNs)
    windows[Int(first) + 1].change += 1
    windows[Int(last)].change -= 1
  }

  /// The windows in order; nil if there are more than `countMax`. The first begins with the first command, the last
  /// ends with the last.
  public var values: [TimeWindow]? {
    guard count <= UInt64(TimeWindows.countMax) else { return nil }
    var throughout: Int64 = 0
    return (0..<Int(count)).map { index in
      let window = windows[index]
      throughout += window.change
      let begin = (base + UInt64(index)) * lengthNs
      let from = max(begin, firstBegin)
      let to = max(min(begin + lengthNs, lastEnd), from)
      let all = window.latency.distribution
      let area = Double(window.area) + Double(throughout) * Double(lengthNs)
      return TimeWindow(
        fromNs: from, toNs: to, commands: window.commands, failed: window.failed, sumNs: all.sumNs,
        p50Ns: all.count >= 10 ? all.p50Ns : nil, p99Ns: all.count >= 1000 ? all.p99Ns : nil, maxNs: all.maxNs,
        depth: to > from ? area / Double(to - from) : 0)
    }
  }
}
