/// Numbers as all output writes them: "1,204,224", "53.0 MB", "6.43 µs", "7.3%".
public enum Quantity {
  /// With a fixed number of decimal places, 3 at most.
  public static func decimal(_ value: Double, _ places: Int) -> String {
    let factor = [1.0, 10, 100, 1000][places]
    let scaled = (value * factor).rounded()
    guard scaled.magnitude < 1e18 else { return value.description }
    let (whole, fraction) = UInt64(scaled.magnitude).quotientAndRemainder(dividingBy: UInt64(factor))
    let sign = scaled < 0 ? "-" : ""
    return sign + count(whole) + (places == 0 ? "" : "." + String(UInt64(factor) + fraction).dropFirst())
  }

  /// Three significant digits, at most two of them decimal places; more digits before the point stay.
  public static func significant(_ value: Double) -> String {
    decimal(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
  }

  /// Grouped by three digits: "1,204,224".
  public static func count(_ value: some BinaryInteger) -> String {
    var digits = Array(String(value.magnitude).utf8)
    for place in stride(from: digits.count - 3, to: 0, by: -3) { digits.insert(UInt8(ascii: ","), at: place) }
    return (value < 0 ? "-" : "") + String(decoding: digits, as: UTF8.self)
  }

  /// "1 command", "1,204,224 commands".
  public static func count(_ value: some BinaryInteger, _ noun: String, _ plural: String? = nil) -> String {
    "\(count(value)) \(value == 1 ? noun : plural ?? noun + "s")"
  }

  /// A duration of nanoseconds, in the unit that suits it.
  public static func time(_ ns: Double) -> String {
    switch ns {
    case ..<99.95: "\(trimmed(decimal(ns, 1))) ns"
    case ..<999.5: "\(decimal(ns, 0)) ns"
    case ..<999_500: "\(significant(ns / 1e3)) µs"
    case ..<999_500_000: "\(significant(ns / 1e6)) ms"
    default: "\(significant(ns / 1e9)) s"
    }
  }

  /// Of whole nanoseconds.
  public static func time(_ ns: UInt64) -> String { time(Double(ns)) }

  /// In decimal units: 53.0 MB are 53,000,000 bytes.
  public static func bytes(_ bytes: Double) -> String {
    switch bytes {
    case ..<999.5: "\(decimal(bytes, 0)) B"
    case ..<999_500: "\(significant(bytes / 1e3)) kB"
    case ..<999_500_000: "\(significant(bytes / 1e6)) MB"
    default: "\(significant(bytes / 1e9)) GB"
    }
  }

  /// In decimal units, of whole bytes.
  public static func bytes(_ bytes: UInt64) -> String { self.bytes(Double(bytes)) }

  /// 0.073 is "7.3%"; a small share never reads as zero.
  public static func percent(_ share: Double) -> String {
    share > 0 && share < 0.0005 ? "<0.1%" : "\(decimal(share * 100, 1))%"
  }

  /// In whole percent, for sentences.
  public static func roughly(_ share: Double) -> String {
    share > 0 && share < 0.0095 ? percent(share) : "\(decimal(share * 100, 0))%"
  }

  /// A time as users write it: `100us`, `1.5ms`, or nanoseconds without a unit.
  /// - Returns: nil unless it is such a time and fits.
  public static func nanoseconds(_ text: String) -> UInt64? {
    for (suffix, factor) in [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1.0)] where text.hasSuffix(suffix)
    {
      guard let first = text.first, first.isNumber || first == ".", let number = Double(text.dropLast(suffix.count)),
        number >= 0, number * factor < 1.8e19
      else { return nil }
      return UInt64((number * factor).rounded())
    }
    return nil
  }

  private static func trimmed(_ text: String) -> String { text.hasSuffix(".0") ? String(text.dropLast(2)) : text }
}
