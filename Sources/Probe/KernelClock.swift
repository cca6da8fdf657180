import Trace

/// Maps CLOCK_MONOTONIC, the kernel's clock, to the ticks of a recording: a line that continues every second from its
/// current value, so that the order of the kernel's times is preserved, and is corrected towards the current readings
/// of both clocks.
public struct KernelClock: Sendable {
  let source: TickSource
  private var line: Line
  /// Applies to events before `line`.
  private var former: Line
  /// The clocks at their last common reading.
  private var last: (ns: UInt64, ticks: UInt64)

  private struct Line {
    let ns: UInt64
    let ticks: UInt64
    let ticksPerNs: Double

    func ticks(at time: UInt64) -> UInt64 {
      if ticksPerNs == 1 { return ticks &+ (time &- ns) }
      let since = Double(Int64(bitPattern: time &- ns)) * ticksPerNs
      return ticks &+ UInt64(bitPattern: Int64(max(min(since, 9e18), -9e18)))
    }
  }

  /// The recording's ticks are CLOCK_MONOTONIC.
  public static let same = KernelClock(.monotonic, ns: 0, ticks: 0, ticksPerNs: 1)

  /// To ticks of the cycle counter, through the current moment, at the measured rate.
  public init(ticksPerSecond: UInt64) {
    let (ns, ticks) = KernelClock.read()
    self.init(.cycles, ns: ns, ticks: ticks, ticksPerNs: Double(ticksPerSecond) / 1e9)
  }

  init(_ source: TickSource, ns: UInt64, ticks: UInt64, ticksPerNs: Double) {
    self.source = source
    line = Line(ns: ns, ticks: ticks, ticksPerNs: ticksPerNs)
    former = line
    last = (ns, ticks)
  }

  /// The tick of a CLOCK_MONOTONIC time.
  func ticks(at time: UInt64) -> UInt64 { (time >= line.ns ? line : former).ticks(at: time) }

  /// Read both clocks, and correct the line so that it meets them in a second.
  /// - Returns: the error of the events' times so far, in nanoseconds.
  mutating func correct() -> UInt64 {
    if case .monotonic = source { return 0 }
    let (ns, ticks) = KernelClock.read()
    return correct(ns: ns, ticks: ticks)
  }

  mutating func correct(ns: UInt64, ticks: UInt64) -> UInt64 {
    guard ns > max(last.ns, line.ns) else { return 0 }
    // The counter's rate changes with corrections of CLOCK_MONOTONIC, by parts in ten thousand at most.
    let seen = Double(ticks &- last.ticks) / Double(ns - last.ns)
    let rate = abs(seen / line.ticksPerNs - 1) < 0.001 ? seen : line.ticksPerNs
    let predicted = self.ticks(at: ns)
    let error = Double(Int64(bitPattern: ticks &- predicted))
    let bend = max(min(error / 1e9, rate / 100), -rate / 100)
    former = line
    line = Line(ns: ns, ticks: predicted, ticksPerNs: rate + bend)
    last = (ns, ticks)
    return UInt64(abs(error) / rate)
  }

  /// The closest of a few readings: an interrupt between the two clocks would separate them.
  private static func read() -> (ns: UInt64, ticks: UInt64) {
    var best: (width: UInt64, ns: UInt64, ticks: UInt64) = (.max, 0, 0)
    for _ in 0..<8 {
      let before = TickSource.cycles.now()
      let ns = TickSource.monotonic.now()
      let width = TickSource.cycles.now() &- before
      if width < best.width { best = (width, ns, before &+ width / 2) }
    }
    return (best.ns, best.ticks)
  }
}
