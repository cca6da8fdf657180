/// Buckets of times, 128 per octave: each holds times that differ by at most one part in 128.
public enum TimeBuckets {
  private static let bits = 7

  /// The bucket of a time, in any unit.
  @inline(__always)
  public static func index(of time: UInt64) -> Int {
    let magnitude = max(0, 63 - time.leadingZeroBitCount - bits)
    return magnitude << bits + Int(time >> UInt64(magnitude))
  }

  /// The smallest time in a bucket.
  public static func lowerBound(_ index: Int) -> UInt64 {
    let magnitude = max(0, index >> bits - 1)
    return UInt64(index - magnitude << bits) << UInt64(magnitude)
  }
}
