import CPlatform
import Glibc

/// The machine's clocks.
public enum Clock {
  /// CLOCK_MONOTONIC_RAW, in nanoseconds.
  public static func monotonicNs() -> UInt64 { read(CLOCK_MONOTONIC_RAW) }
  /// CLOCK_REALTIME, in nanoseconds since 1970.
  public static func realtimeNs() -> UInt64 { read(CLOCK_REALTIME) }

  private static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// Cycle counter ticks a second, measured against CLOCK_MONOTONIC_RAW over 20 ms.
  public static func measureTicksPerSecond() -> Double {
    let (ticks, ns) = together()
    let end = ns + 20_000_000
    var now = together()
    while now.ns < end { now = together() }
    return Double(now.ticks &- ticks) / Double(now.ns - ns) * 1e9
  }

  /// Both clocks at one moment: of a few attempts the one that took the shortest.
  private static func together() -> (ticks: UInt64, ns: UInt64) {
    var best: (width: UInt64, ticks: UInt64, ns: UInt64) = (.max, 0, 0)
    for _ in 0..<5 {
      let before = nvmepf_ticks()
      let ns = monotonicNs()
      let width = nvmepf_ticks() &- before
      if width < best.width { best = (width, before &+ width / 2, ns) }
    }
    return (best.ticks, best.ns)
  }
}
