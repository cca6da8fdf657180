import CPlatform
import Glibc

/// The machine's clocks.
public enum Clock {
  /// CLOCK_MONOTONIC_RAW, nanoseconds.
  public static func monotonicNs() -> UInt64 { nanoseconds(CLOCK_MONOTONIC_RAW) }
  /// CLOCK_REALTIME, nanoseconds since 1970.
  public static func realtimeNs() -> UInt64 { nanoseconds(CLOCK_REALTIME) }

  /// Any of the system's clocks.
  public static func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// The cycle counter.
  @inline(__always)
  public static func ticks() -> UInt64 { nvmepf_ticks() }
  /// The cycle counter, read after all earlier loads have their values.
  @inline(__always)
  public static func ticksAfterLoads() -> UInt64 { nvmepf_ticks_after_loads() }
}
