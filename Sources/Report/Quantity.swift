/// Numbers as the report writes them.
enum Quantity {
  /// With that many decimal places.
  static func decimal(_ value: Double, _ places: Int) -> String {
    let factor = [1.0, 10, 100, 1000][places]
    let scaled = (value * factor).rounded()
    guard scaled.magnitude < 1e18 else { return value.description }
    let digits = String(UInt64(scaled.magnitude))
    let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
    let sign = scaled < 0 ? "-" : ""
    return places == 0 ? sign + padded : sign + padded.dropLast(places) + "." + padded.suffix(places)
  }

  /// Three significant digits, as far as that needs decimal places.
  static func significant(_ value: Double) -> String {
    decimal(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
  }

  /// In groups of three digits.
  static func count(_ value: UInt64) -> String {
    let digits = Array(String(value))
    var text = ""
    for (place, digit) in digits.enumerated() {
      if place > 0, (digits.count - place) % 3 == 0 { text.append(" ") }
      text.append(digit)
    }
    return text
  }

  /// "1 command", "1 204 224 commands".
  static func count(_ value: UInt64, _ noun: String) -> String { "\(count(value)) \(noun)\(value == 1 ? "" : "s")" }

  /// A time in the unit that suits it.
  static func time(_ ns: Double) -> String {
    switch ns {
    case ..<99.95: "\(trimmed(decimal(ns, 1))) ns"
    case ..<999.5: "\(decimal(ns, 0)) ns"
    case ..<999_500: "\(significant(ns / 1e3)) µs"
    case ..<999_500_000: "\(significant(ns / 1e6)) ms"
    default: "\(significant(ns / 1e9)) s"
    }
  }

  static func time(_ ns: UInt64) -> String { time(Double(ns)) }

  static func bytes(_ bytes: Double) -> String {
    switch bytes {
    case ..<999.5: "\(decimal(bytes, 0)) B"
    case ..<999_500: "\(significant(bytes / 1e3)) kB"
    case ..<999_500_000: "\(significant(bytes / 1e6)) MB"
    default: "\(significant(bytes / 1e9)) GB"
    }
  }

  /// 0.073 is "7.3%"; what is more than nothing does not read as nothing.
  static func percent(_ share: Double) -> String {
    share > 0 && share < 0.0005 ? "<0.1%" : "\(decimal(share * 100, 1))%"
  }

  /// In a sentence, where a tenth of a percent says nothing.
  static func roughly(_ share: Double) -> String {
    share > 0 && share < 0.0095 ? percent(share) : "\(decimal(share * 100, 0))%"
  }

  private static func trimmed(_ text: String) -> String { text.hasSuffix(".0") ? String(text.dropLast(2)) : text }
}

/// Broken into lines of at most 88 columns; the lines after the first are indented. A number stays with its unit.
func wrapped(_ text: String) -> String {
  var pieces: [String] = []
  for word in text.split(separator: " ") {
    if let last = pieces.last?.last, last.isNumber {
      pieces[pieces.count - 1] += " " + word
    } else {
      pieces.append(String(word))
    }
  }
  var lines: [String] = []
  var line = ""
  for piece in pieces {
    if !line.isEmpty, line.count + 1 + piece.count > 88 {
      lines.append(line)
      line = "  " + piece
    } else {
      line += (line.isEmpty ? "" : " ") + piece
    }
  }
  lines.append(line)
  return lines.joined(separator: "\n")
}
