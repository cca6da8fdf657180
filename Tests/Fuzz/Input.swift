/// The fuzzer's bytes, taken from the front; zeros when there are no more.
struct Input {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  init(_ data: UnsafePointer<UInt8>, _ count: Int) { bytes = UnsafeRawBufferPointer(start: data, count: count) }

  var isEmpty: Bool { position >= bytes.count }

  mutating func consume<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type = Value.self) -> Value {
    var value = Value.zero
    let count = min(MemoryLayout<Value>.size, bytes.count - position)
    guard count > 0 else { return value }
    withUnsafeMutableBytes(of: &value) {
      $0.copyBytes(from: UnsafeRawBufferPointer(rebasing: bytes[position..<position + count]))
    }
    position += count
    return value
  }

  /// At most `limit` bytes.
  mutating func rest(_ limit: Int) -> UnsafeRawBufferPointer {
    let count = max(0, min(limit, bytes.count - position))
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: bytes[min(position, bytes.count)..<min(position, bytes.count) + count])
  }
}
