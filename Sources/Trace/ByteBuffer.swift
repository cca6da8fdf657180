/// Growing scratch memory of the chunk coder. It keeps its size, so a chunk costs no allocation once the largest has
/// been processed.
struct ByteBuffer: ~Copyable {
  private(set) var base: UnsafeMutableRawPointer
  private(set) var capacity: Int
  /// Bytes in use.
  private(set) var count = 0

  init(capacity: Int = 64) {
    base = .allocate(byteCount: capacity, alignment: 64)
    self.capacity = capacity
  }

  /// `count` bytes to be overwritten.
  init(count: Int) {
    self.init(capacity: count)
    self.count = count
  }

  deinit { base.deallocate() }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
  var end: UnsafeMutableRawPointer { base + count }

  mutating func removeAll() { count = 0 }

  /// Hold `count` bytes to be overwritten, in place of the present ones.
  mutating func resize(to count: Int) {
    removeAll()
    reserve(count)
    self.count = count
  }

  /// Make room for `more` bytes after those in use. Invalidates pointers into the buffer.
  mutating func reserve(_ more: Int) {
    let needed = count + more
    if needed <= capacity { return }
    if count == 0 {
      base.deallocate()
      (base, capacity) = (.allocate(byteCount: needed, alignment: 64), needed)
      return
    }
    let grown = max(needed, 2 * capacity)
    let moved = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 64)
    moved.copyMemory(from: base, byteCount: count)
    base.deallocate()
    (base, capacity) = (moved, grown)
  }

  /// Add `more` bytes that were reserved and written at `end`.
  mutating func advance(_ more: Int) {
    precondition(more >= 0 && count + more <= capacity)
    count += more
  }

  mutating func removeLast(_ bytes: Int) {
    precondition(bytes >= 0 && bytes <= count)
    count -= bytes
  }

  mutating func append<Value: FixedWidthInteger>(_ value: Value) {
    let size = MemoryLayout<Value>.size
    reserve(size)
    end.storeBytes(of: value.littleEndian, as: Value.self)
    count += size
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    reserve(bytes.count)
    end.copyMemory(from: start, byteCount: bytes.count)
    count += bytes.count
  }

  mutating func append(utf8 string: String) {
    var string = string
    string.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  /// Append zeros up to a multiple of `alignment`.
  mutating func pad(to alignment: Int) {
    while count % alignment != 0 { append(UInt8(0)) }
  }

  /// Overwrite bytes appended earlier at `offset`.
  mutating func set<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    precondition(offset >= 0 && offset + MemoryLayout<Value>.size <= count)
    base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
  }
}
