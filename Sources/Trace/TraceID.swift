import Text

/// Identifies a trace and its rings: 128 random bits.
public struct TraceID: Hashable, Sendable, CustomStringConvertible {
  public let high: UInt64
  public let low: UInt64

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  public static func random() -> TraceID {
    TraceID(high: .random(in: 0...UInt64.max), low: .random(in: 0...UInt64.max))
  }

  /// Parse `description`.
  public init?(_ text: String) {
    guard text.utf8.count == 32, !text.utf8.contains(UInt8(ascii: "+")), let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }

  /// 32 lower-case hexadecimal digits.
  public var description: String { high.hexDigits(16) + low.hexDigits(16) }
}
