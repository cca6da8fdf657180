/// A sequence of random numbers from a seed (SplitMix64): the same seed gives the same run. The only generator in the
/// package.
public struct SeededGenerator: RandomNumberGenerator, BitwiseCopyable, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    return SeededGenerator.mix(state)
  }

  /// In the range 0..<1.
  public mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// True with probability 1/`count`.
  public mutating func oneIn(_ count: UInt64) -> Bool { next() % count == 0 }

  /// A number with its bits mixed over all 64: similar numbers give dissimilar results.
  public static func mix(_ number: UInt64) -> UInt64 {
    var mixed = number
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}
