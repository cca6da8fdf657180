import CPlatform
import Glibc
import Platform

/// Converts cycle counter ticks to nanoseconds of a trace by one fixed factor, so that spans adjacent in ticks are
/// adjacent in nanoseconds. `clock` events record the error against the system's clocks.
public struct TickScale: Equatable, Sendable {
  /// Tick of the trace's time 0.
  public let start: UInt64
  /// Nanoseconds per tick, times 2³².
  public let multiplier: UInt64

  public init(start: UInt64, multiplier: UInt64) {
    self.start = start
    self.multiplier = multiplier
  }

  /// Ticks that already are nanoseconds, from 0: for events decoded from a trace.
  public static let identity = TickScale(start: 0, multiplier: 1 << 32)

  /// Start a trace's time now; ticks are nanoseconds of CLOCK_MONOTONIC.
  public static func monotonicFromNow() -> TickScale {
    TickScale(start: TickSource.monotonic.now(), multiplier: 1 << 32)
  }

  /// Frequency of the clock.
  public var ticksPerSecond: UInt64 { UInt64(1e9 * 4_294_967_296 / Double(max(multiplier, 1))) }

  /// Nanoseconds since the trace began, rounded down; 0 for earlier ticks.
  @inline(__always)
  public func nanoseconds(_ ticks: UInt64) -> UInt64 {
    let since = ticks &- start
    if since > UInt64(Int64.max) { return 0 }
    let product = since.multipliedFullWidth(by: multiplier)
    return product.high << 32 | product.low >> 32
  }

  /// The tick at a time, nanoseconds since the trace began.
  func ticks(at nanoseconds: UInt64) -> UInt64 {
    guard multiplier > nanoseconds >> 32 else { return .max }
    return start &+ multiplier.dividingFullWidth((nanoseconds >> 32, nanoseconds << 32)).quotient
  }

  /// Start a trace's time now, with the counter's rate measured against CLOCK_MONOTONIC_RAW over `milliseconds`.
  public static func measure(milliseconds: UInt64 = 20) -> TickScale {
    let first = ClockSnapshot.now()
    var last = first
    while last.monotonic &- first.monotonic < milliseconds * 1_000_000 {
      Backoff.sleep(ns: 1_000_000)
      last = ClockSnapshot.now()
    }
    let rate = Double(last.monotonic &- first.monotonic) / Double(max(last.ticks &- first.ticks, 1))
    return TickScale(start: last.ticks, multiplier: UInt64(rate * 4_294_967_296))
  }
}

/// The source of a recording's ticks.
public enum TickSource: Sendable {
  /// The cycle counter.
  case cycles
  /// CLOCK_MONOTONIC in nanoseconds, the clock of kernel probes.
  case monotonic

  public func now() -> UInt64 {
    switch self {
    case .cycles: nvmepf_ticks_after_loads()
    case .monotonic: Clock.nanoseconds(CLOCK_MONOTONIC)
    }
  }
}

/// The machine's clocks, sampled together.
public struct ClockSnapshot: Equatable, Sendable {
  public let ticks: UInt64
  /// CLOCK_MONOTONIC_RAW, nanoseconds.
  public let monotonic: UInt64
  /// CLOCK_REALTIME, nanoseconds since 1970.
  public let realtime: UInt64

  /// The closest of a few samples: an interrupt between two readings would separate them.
  public static func now(_ source: TickSource = .cycles) -> ClockSnapshot {
    var best: (width: UInt64, snapshot: ClockSnapshot)?
    for _ in 0..<8 {
      let before = source.now()
      let monotonic = Clock.monotonicNs()
      let after = source.now()
      let realtime = Clock.realtimeNs()
      let end = source.now()
      let width = end &- before
      if let best, best.width <= width { continue }
      let middle = before &+ (after &- before) / 2
      best = (width, ClockSnapshot(ticks: middle, monotonic: monotonic, realtime: realtime))
    }
    return best!.snapshot
  }

  public init(ticks: UInt64, monotonic: UInt64, realtime: UInt64) {
    (self.ticks, self.monotonic, self.realtime) = (ticks, monotonic, realtime)
  }
}
