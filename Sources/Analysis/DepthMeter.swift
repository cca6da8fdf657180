/// Commands in flight over time, counted as they begin and end.
struct DepthMeter {
  private(set) var depthMax: UInt64 = 0
  /// Commands × nanoseconds.
  private var area: UInt128 = 0
  /// The area when the latest command ended that was in the trace from beginning to end.
  private(set) var areaAtEnd: UInt128 = 0
  /// Every loss of commands in flight starts a new generation; commands of older generations no longer count.
  private(set) var generation: UInt32 = 0
  private var depth: UInt64 = 0
  private var time: UInt64 = 0

  private mutating func advance(to now: UInt64) {
    area += UInt128(depth) * UInt128(now - time)
    time = now
  }

  /// A command that first appears at `now` and has been in flight since `begin`.
  mutating func enter(begin: UInt64, now: UInt64) {
    advance(to: now)
    area += UInt128(now - min(begin, now))
    depth += 1
    depthMax = max(depthMax, depth)
  }

  mutating func leave(generation: UInt32, now: UInt64) {
    advance(to: now)
    if generation == self.generation, depth > 0 { depth -= 1 }
  }

  mutating func restart(now: UInt64) {
    advance(to: now)
    depth = 0
    generation &+= 1
  }

  /// A whole command has left.
  mutating func markEnd() { areaAtEnd = area }
}
