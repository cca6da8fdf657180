import Platform

/// Time that the simulation advances; every reading of the clock advances it a little too. Copies share it.
public struct VirtualTime: TimeSource, BitwiseCopyable, @unchecked Sendable {
  /// Nanoseconds since the simulation began; its owner deallocates it.
  private let now: UnsafeMutablePointer<UInt64>

  /// How long reading the clock takes.
  private static let readNs: UInt64 = 12
  /// The beginning of the simulation, 2026-01-01, in nanoseconds since 1970.
  private static let epochNs: UInt64 = 1_767_225_600_000_000_000

  init() {
    now = .allocate(capacity: 1)
    now.initialize(to: 0)
  }

  func deallocate() { now.deallocate() }

  var ns: UInt64 { now.pointee }

  /// Advance to this time, unless it has passed.
  func advance(to ns: UInt64) { now.pointee = max(now.pointee, ns) }

  @inline(__always)
  func advance(by ns: UInt64) { now.pointee &+= ns }

  @inline(__always)
  public func ticks() -> UInt64 {
    now.pointee &+= VirtualTime.readNs
    return now.pointee
  }
  @inline(__always)
  public func ticksAfterLoads() -> UInt64 { ticks() }
  public func monotonicNs() -> UInt64 { now.pointee }
  public func realtimeNs() -> UInt64 { VirtualTime.epochNs &+ now.pointee }
}
