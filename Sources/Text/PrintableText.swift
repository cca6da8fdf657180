/// Untrusted text: from a trace, a configuration, a socket, the kernel, a file name. Terminals obey control characters,
/// and bidirectional controls and line separators falsify what is displayed, so such text is always escaped.
extension String {
  /// The text in one line with every character visible: escapes control and format characters and line separators.
  /// - Parameter limit: Unicode scalars; the middle of longer text is left out.
  public func printable(limit: Int = 2000) -> String {
    guard utf8.count > limit else { return escaped(keepingLines: false) }
    let head = unicodeScalars.prefix(limit * 3 / 4)
    let tail = unicodeScalars[head.endIndex...].suffix(limit / 4)
    let left = self[head.endIndex..<tail.startIndex].utf8.count
    let text = left == 0 ? self : "\(String(head))[…\(left) bytes…]\(String(tail))"
    return text.escaped(keepingLines: false)
  }

  /// The same for text of several lines, of any length.
  public var printableLines: String { escaped(keepingLines: true) }

  /// JSON text in which the characters escaped by `printable` are `\u` escapes, so that the value stays the same.
  public var printableJSON: String {
    if isPlain(keepingLines: true) { return self }
    var text = ""
    for scalar in unicodeScalars {
      if scalar.isSafe || scalar == "\n" {
        text.unicodeScalars.append(scalar)
      } else {
        for unit in String(scalar).utf16 { text += "\\u" + unit.hexDigits(4) }
      }
    }
    return text
  }

  private func escaped(keepingLines: Bool) -> String {
    if isPlain(keepingLines: keepingLines) { return self }
    var text = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "\n" where keepingLines: text += "\n"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.isSafe: text.unicodeScalars.append(scalar)
      case _ where scalar.isASCII: text += "\\x" + scalar.value.hexDigits(2)
      default: text += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return text
  }
}

extension String {
  /// Whether nothing needs an escape, as in most text.
  fileprivate func isPlain(keepingLines: Bool) -> Bool {
    func isPlain(_ bytes: some Sequence<UInt8>) -> Bool {
      // Without a branch per byte, so that the loop is vectorised.
      var others = 0
      for byte in bytes { others += byte.isPlain || (keepingLines && byte == .lineFeed) ? 0 : 1 }
      return others == 0
    }
    return utf8.withContiguousStorageIfAvailable(isPlain) ?? isPlain(utf8)
  }
}

extension UInt8 {
  fileprivate static let lineFeed = UInt8(ascii: "\n")
  fileprivate var isPlain: Bool { self >= 0x20 && self < 0x7f }
}

extension Unicode.Scalar {
  fileprivate var isSafe: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
    default: true
    }
  }
}
