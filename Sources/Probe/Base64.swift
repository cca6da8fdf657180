/// Decodes base64 text that this package's own build produced.
func base64Bytes(_ text: StaticString) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(text.utf8CodeUnitCount / 4 * 3)
  var (bits, count): (UInt32, Int) = (0, 0)
  for index in 0..<text.utf8CodeUnitCount {
    let value: UInt32
    switch text.utf8Start[index] {
    case let letter where letter >= UInt8(ascii: "A") && letter <= UInt8(ascii: "Z"):
      value = UInt32(letter - UInt8(ascii: "A"))
    case let letter where letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "z"):
      value = UInt32(letter - UInt8(ascii: "a")) + 26
    case let digit where digit >= UInt8(ascii: "0") && digit <= UInt8(ascii: "9"):
      value = UInt32(digit - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): value = 62
    case UInt8(ascii: "/"): value = 63
    default: return bytes
    }
    bits = bits << 6 | value
    count += 6
    if count >= 8 {
      count -= 8
      bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
    }
  }
  return bytes
}
