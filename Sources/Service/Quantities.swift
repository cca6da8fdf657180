import Foundation

/// 1234567 as `1,234,567`.
public func grouped(_ value: UInt64) -> String {
  var text = ""
  for (place, digit) in String(value).reversed().enumerated() {
    if place > 0, place % 3 == 0 { text.append(",") }
    text.append(digit)
  }
  return String(text.reversed())
}

/// `12.3 MB`, decimal.
public func byteText(_ bytes: UInt64) -> String {
  for (factor, unit) in [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")] where Double(bytes) >= factor {
    return String(format: "%.1f %@", Double(bytes) / factor, unit)
  }
  return "\(bytes) B"
}
