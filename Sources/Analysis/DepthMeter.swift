/// Commands in flight over time, counted one by one as they begin and end.
struct DepthMeter {
  private(set) var depthMax: UInt64 = 0
  /// Commands × nanoseconds.
  private(set) var area: UInt128 = 0
  /// Whatever loses sight of commands in flight begins a new era; the commands of an older one are not counted any more.
  private(set) var era: UInt32 = 0
  private var depth: UInt64 = 0
  private var time: UInt64 = 0

  private mutating func advance(to now: UInt64) {
    area += UInt128(depth) * UInt128(now - time)
    time = now
  }

  /// A command is first heard of at `now`, and has been in flight since `begin`.
  mutating func enter(begin: UInt64, now: UInt64) {
    advance(to: now)
    area += UInt128(now - min(begin, now))
    depth += 1
    depthMax = max(depthMax, depth)
  }

  mutating func leave(era: UInt32, now: UInt64) {
    advance(to: now)
    if era == self.era, depth > 0 { depth -= 1 }
  }

  mutating func restart(now: UInt64) {
    advance(to: now)
    depth = 0
    era &+= 1
  }

  /// Commands × nanoseconds until `now`.
  func area(until now: UInt64) -> UInt128 { area + UInt128(depth) * UInt128(now - time) }
}
