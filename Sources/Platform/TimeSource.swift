/// What time it is, for whatever must not ask the machine itself: a port, a backend, a recorder. It is a type parameter,
/// so the machine's own costs nothing, and a simulation has time of its own.
public protocol TimeSource: ~Copyable {
  /// What events are stamped with. Ticks never go back.
  func ticks() -> UInt64
  /// The same, read after all loads before it have their values.
  func ticksAfterLoads() -> UInt64
  /// Nanoseconds of a clock that nobody sets.
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
