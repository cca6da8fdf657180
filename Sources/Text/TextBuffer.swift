/// Text as bytes, for output of millions of lines: once the buffer has its size, appending allocates nothing.
public struct TextBuffer: ~Copyable {
  /// Bytes.
  public private(set) var count = 0
  private var capacity = 1 << 12
  private var base = UnsafeMutablePointer<UInt8>.allocate(capacity: 1 << 12)

  public init() {}

  deinit { base.deallocate() }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
  public var text: String { String(decoding: bytes, as: UTF8.self) }

  /// Forget the text, keep the memory.
  public mutating func removeAll() { count = 0 }

  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    UnsafeMutableRawPointer(room(bytes.count)).copyMemory(from: start, byteCount: bytes.count)
    count += bytes.count
  }

  public mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  public mutating func append(_ character: Unicode.Scalar) {
    room(1).pointee = UInt8(ascii: character)
    count += 1
  }

  /// Append the number in decimal.
  public mutating func append(_ number: UInt64) {
    let digitsMax = 20
    let end = room(digitsMax) + digitsMax
    var (first, left) = (end, number)
    repeat {
      let (quotient, digit) = left.quotientAndRemainder(dividingBy: 10)
      first -= 1
      first.pointee = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: digit)
      left = quotient
    } while left > 0
    (base + count).update(from: first, count: end - first)
    count += end - first
  }

  /// Append the number as `0x1f`.
  public mutating func append(hex number: UInt64) {
    let digits = max(1, (67 - number.leadingZeroBitCount) / 4)
    let start = room(2 + digits)
    start[0] = UInt8(ascii: "0")
    start[1] = UInt8(ascii: "x")
    for place in 0..<digits {
      let digit = UInt8(truncatingIfNeeded: number >> UInt64(4 * (digits - 1 - place))) & 15
      start[2 + place] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }
    count += 2 + digits
  }

  public mutating func append(spaces: Int) {
    for _ in 0..<max(0, spaces) { append(" ") }
  }

  /// Room for this many bytes after the text.
  private mutating func room(_ bytes: Int) -> UnsafeMutablePointer<UInt8> {
    if capacity - count < bytes { grow(bytes) }
    return base + count
  }

  private mutating func grow(_ bytes: Int) {
    capacity = max(2 * capacity, count + bytes)
    let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
    larger.update(from: base, count: count)
    base.deallocate()
    base = larger
  }
}
