/// Bytes that violate the format. Callers that know the file and the position turn it into a `TraceError`.
struct Malformed: Error {
  let what: StaticString
  init(_ what: StaticString) { self.what = what }
  static let contradiction = Malformed("contradicts itself")
}

/// Reads little-endian values from untrusted bytes.
struct ByteReader {
  private(set) var rest: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

  mutating func read<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(Malformed) -> Value {
    let size = MemoryLayout<Value>.size
    guard rest.count >= size else { throw Malformed("it ends too early") }
    let value = Value(littleEndian: rest.loadUnaligned(as: Value.self))
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(size))
    return value
  }

  mutating func bytes(_ count: Int) throws(Malformed) -> UnsafeRawBufferPointer {
    guard count >= 0 && count <= rest.count else { throw Malformed("it ends too early") }
    let bytes = UnsafeRawBufferPointer(rebasing: rest.prefix(count))
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
    return bytes
  }

  /// The next `count` bytes as text; invalid UTF-8 is replaced.
  mutating func text(_ count: Int) throws(Malformed) -> String {
    String(decoding: try bytes(count), as: UTF8.self)
  }
}
