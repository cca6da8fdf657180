/// Cycle counter ticks to nanoseconds since a trace began, by one multiplication.
public struct TimeScale: Sendable {
  public let startTicks: UInt64
  public let ticksPerSecond: UInt64
  /// Nanoseconds a tick, in units of 2^-32.
  private let multiplier: UInt64

  public init(startTicks: UInt64, ticksPerSecond: UInt64) {
    precondition(ticksPerSecond > 0)
    self.startTicks = startTicks
    self.ticksPerSecond = ticksPerSecond
    multiplier = UInt64(1e9 * 4_294_967_296 / Double(ticksPerSecond))
  }

  /// What lies before the trace's begin is at 0.
  @inline(__always)
  public func ns(_ ticks: UInt64) -> UInt64 {
    guard ticks > startTicks else { return 0 }
    let product = (ticks &- startTicks).multipliedFullWidth(by: multiplier)
    return product.high << 32 | product.low >> 32
  }

  /// The length of a stretch that ends at `ticks`: the difference of its ends' nanoseconds, so that stretches that
  /// touch in ticks touch in nanoseconds.
  @inline(__always)
  func span(_ span: UInt64, endingAt ticks: UInt64) -> UInt64 { ns(ticks) &- ns(ticks &- span) }
}
