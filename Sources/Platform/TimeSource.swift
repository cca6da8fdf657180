/// Time for components that must not ask the machine: ports, backends, recorders. It is a type parameter, so the
/// machine's clocks cost nothing extra, and a simulation has its own time.
public protocol TimeSource: ~Copyable {
  /// Time stamps of events. Ticks never go back.
  func ticks() -> UInt64
  /// The same, read after all earlier loads have their values.
  func ticksAfterLoads() -> UInt64
  /// Nanoseconds of a clock that is never set.
  func monotonicNs() -> UInt64
  /// Nanoseconds since 1970.
  func realtimeNs() -> UInt64
}

/// The machine's clocks.
public struct MachineTime: TimeSource, BitwiseCopyable, Sendable {
  public init() {}

  @inline(__always)
  public func ticks() -> UInt64 { Clock.ticks() }
  @inline(__always)
  public func ticksAfterLoads() -> UInt64 { Clock.ticksAfterLoads() }
  public func monotonicNs() -> UInt64 { Clock.monotonicNs() }
  public func realtimeNs() -> UInt64 { Clock.realtimeNs() }
}
