/// Writes integers one behind the other, little-endian.
struct StateWriter {
  private let bytes: UnsafeMutableRawBufferPointer
  private(set) var count = 0

  init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

  mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    bytes.storeBytes(of: value.littleEndian, toByteOffset: count, as: Value.self)
    count += MemoryLayout<Value>.size
  }

  mutating func put(_ value: Bool) { put(UInt8(value ? 1 : 0)) }

  mutating func put(_ text: String) {
    put(UInt16(text.utf8.count))
    for byte in text.utf8 { put(byte) }
  }
}

/// Why bytes are not a checkpoint.
public enum CheckpointError: Error {
  case truncated
  /// A value that the engine could not have written.
  case invalid
  /// Written in a layout that this version does not know.
  case unknownVersion
}

/// Reads what `StateWriter` wrote; the bytes are not trusted.
struct StateReader {
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isAtEnd: Bool { offset == bytes.count }

  mutating func get<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type = Value.self) throws(CheckpointError)
    -> Value
  {
    guard bytes.count - offset >= MemoryLayout<Value>.size else { throw .truncated }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
    offset += MemoryLayout<Value>.size
    return Value(littleEndian: value)
  }

  mutating func getBool() throws(CheckpointError) -> Bool {
    let value = try get(UInt8.self)
    guard value <= 1 else { throw .invalid }
    return value == 1
  }

  mutating func getText() throws(CheckpointError) -> String {
    let count = Int(try get(UInt16.self))
    guard bytes.count - offset >= count else { throw .truncated }
    defer { offset += count }
    return String(decoding: bytes[offset..<offset + count], as: UTF8.self)
  }

  /// A count of what follows, at most `limit`.
  mutating func getCount(_ limit: Int) throws(CheckpointError) -> Int {
    let count = Int(try get(UInt32.self))
    guard count <= limit else { throw .invalid }
    return count
  }
}
