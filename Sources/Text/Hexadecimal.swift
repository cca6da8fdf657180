extension BinaryInteger {
  /// As `0x1f`.
  public var hex: String { "0x" + String(self, radix: 16) }

  /// As `0x0f`, with at least so many digits.
  public func hex(digits: Int) -> String { "0x" + String(self, radix: 16).zeroPadded(to: digits) }
}

extension UnsignedInteger {
  /// The lowest digits of the number, without `0x`, with zeros in front.
  public func hexDigits(_ digits: Int) -> String {
    String(String(self, radix: 16).zeroPadded(to: digits).suffix(digits))
  }
}

extension String {
  fileprivate func zeroPadded(to digits: Int) -> String {
    String(repeating: "0", count: max(0, digits - utf8.count)) + self
  }
}
