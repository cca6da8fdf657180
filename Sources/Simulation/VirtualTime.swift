import Platform

/// Time that passes only where the simulation says so, and a little with every look at it. Copies share it.
public struct VirtualTime: TimeSource, BitwiseCopyable, @unchecked Sendable {
  /// Nanoseconds since the simulation began; its owner frees it.
  private let now: UnsafeMutablePointer<UInt64>

  /// What a look at the clock takes, nanoseconds.
  private static let lookNs: UInt64 = 12
  /// The simulation's first moment: 2026-01-01, nanoseconds since 1970.
  private static let epochNs: UInt64 = 1_767_225_600_000_000_000

  init() {
    now = .allocate(capacity: 1)
    now.initialize(to: 0)
  }

  func deallocate() { now.deallocate() }

  var ns: UInt64 { now.pointee }

  /// Let time pass until then, if it is not past.
  func advance(to ns: UInt64) { now.pointee = max(now.pointee, ns) }

  @inline(__always)
  public func ticks() -> UInt64 {
    now.pointee &+= VirtualTime.lookNs
    return now.pointee
  }
  @inline(__always)
  public func ticksAfterLoads() -> UInt64 { ticks() }
  public func monotonicNs() -> UInt64 { now.pointee }
  public func realtimeNs() -> UInt64 { VirtualTime.epochNs &+ now.pointee }
}
