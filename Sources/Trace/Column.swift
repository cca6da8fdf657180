import CZstd

/// How a column of values stands in a chunk.
///
/// Every column begins with a byte that says how it is encoded:
/// - 0, constant: the value, 8 bytes.
/// - 1, planes: a byte for the transform (0 the values, 1 their zigzag differences), a byte for the width, then a plane
///   for each byte of the width, lowest first. A plane is a byte for its mode and: (0) the byte that it repeats, (1) a
///   length in 4 bytes and a zstd frame, (2) a length in 4 bytes and its bytes.
/// - 2, reference: the number of an earlier column with the same values, 2 bytes.
enum ColumnEncoding {
  static let constant: UInt8 = 0
  static let planes: UInt8 = 1
  static let reference: UInt8 = 2

  static let raw: UInt8 = 0
  static let delta: UInt8 = 1

  static let repeated: UInt8 = 0
  static let compressed: UInt8 = 1
  static let stored: UInt8 = 2
}

@inline(__always)
func zigzag(_ difference: UInt64) -> UInt64 {
  difference << 1 ^ UInt64(bitPattern: Int64(bitPattern: difference) >> 63)
}

@inline(__always)
func unzigzag(_ value: UInt64) -> UInt64 { value >> 1 ^ (0 &- (value & 1)) }

/// Memory that grows and is used again.
struct Scratch: ~Copyable {
  private(set) var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)

  /// At least `count` bytes; what was in them may be gone.
  mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
    if bytes.count < count || bytes.baseAddress == nil {
      bytes.deallocate()
      bytes = .allocate(byteCount: max(count, 64) + count / 4, alignment: 64)
    }
    return bytes.baseAddress!
  }

  deinit { bytes.deallocate() }
}

/// Encodes columns behind one another.
struct ColumnEncoder: ~Copyable {
  private let context: OpaquePointer
  /// What was encoded so far: `count` bytes of it.
  private var output = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
  private(set) var count = 0
  private var plane = Scratch()
  /// Columns that a later one may refer to.
  private var earlier: [(hash: UInt64, length: Int, index: Int)] = []
  private var columns = 0
  private let level: Int32 = 1
  /// Equal hashes stand for equal columns. A host that chooses the values must not be able to choose the hashes.
  private let hashKey = UInt64.random(in: 0...UInt64.max)

  init() { context = ZSTD_createCCtx() }

  deinit {
    ZSTD_freeCCtx(context)
    output.deallocate()
  }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: output[..<count]) }

  mutating func reset() {
    count = 0
    columns = 0
    earlier.removeAll(keepingCapacity: true)
  }

  mutating func put(_ values: UnsafeMutablePointer<UInt64>, _ length: Int) {
    precondition(length > 0)
    defer { columns += 1 }
    var bits: UInt64 = 0
    var differences: UInt64 = 0
    var deltaBits: UInt64 = 0
    var repeats = 0
    var hash = hashKey
    var previous = values[0]
    var previousDelta: UInt64 = 0
    for index in 0..<length {
      let value = values[index]
      let delta = zigzag(value &- previous)
      bits |= value
      deltaBits |= delta
      differences |= value ^ values[0]
      repeats += delta == previousDelta ? 1 : 0
      hash = (hash ^ value) &* 0x9e37_79b9_7f4a_7c15
      hash ^= hash >> 29
      previousDelta = delta
      previous = value
    }
    if differences == 0 {
      append(ColumnEncoding.constant)
      append(values[0])
      return
    }
    if let same = earlier.first(where: { $0.hash == hash && $0.length == length }) {
      append(ColumnEncoding.reference)
      append(UInt16(same.index))
      return
    }
    earlier.append((hash, length, columns))
    let isDelta = deltaBits < bits && (repeats * 2 > length || width(deltaBits) < width(bits))
    append(ColumnEncoding.planes)
    append(isDelta ? ColumnEncoding.delta : ColumnEncoding.raw)
    append(UInt8(width(isDelta ? deltaBits : bits)))
    if isDelta {
      var last: UInt64 = 0
      for index in 0..<length {
        let value = values[index]
        values[index] = zigzag(value &- last)
        last = value
      }
      // The first difference is the first value: it may be wider than the others.
      let first = width(values[0])
      if first > width(deltaBits) { output[count - 1] = UInt8(first) }
    }
    for place in 0..<Int(output[count - 1]) { putPlane(values, length, place) }
  }

  /// Bytes that values with these bits need.
  private func width(_ bits: UInt64) -> Int { max(1, (71 - bits.leadingZeroBitCount) / 8) }

  private mutating func putPlane(_ values: UnsafeMutablePointer<UInt64>, _ length: Int, _ place: Int) {
    let target = plane.reserve(length).assumingMemoryBound(to: UInt8.self)
    let shift = UInt64(8 * place)
    var differences: UInt8 = 0
    let first = UInt8(truncatingIfNeeded: values[0] >> shift)
    for index in 0..<length {
      let byte = UInt8(truncatingIfNeeded: values[index] >> shift)
      target[index] = byte
      differences |= byte ^ first
    }
    if differences == 0 {
      append(ColumnEncoding.repeated)
      append(first)
    } else {
      put(UnsafeRawBufferPointer(start: target, count: length))
    }
  }

  /// Bytes, compressed where that makes them fewer: mode, length, contents.
  mutating func put(_ raw: UnsafeRawBufferPointer) {
    let bound = ZSTD_compressBound(raw.count)
    makeRoom(bound + 16)
    let place = output.baseAddress! + count + 5
    let size = ZSTD_compressCCtx(context, place, bound, raw.baseAddress, raw.count, level)
    let isSmaller = ZSTD_isError(size) == 0 && size < raw.count
    append(isSmaller ? ColumnEncoding.compressed : ColumnEncoding.stored)
    append(UInt32(isSmaller ? size : raw.count))
    if !isSmaller, let base = raw.baseAddress { place.copyMemory(from: base, byteCount: raw.count) }
    count += isSmaller ? size : raw.count
  }

  mutating func append<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    makeRoom(MemoryLayout<Value>.size)
    output.storeBytes(of: value.littleEndian, toByteOffset: count, as: Value.self)
    count += MemoryLayout<Value>.size
  }

  private mutating func makeRoom(_ more: Int) {
    guard output.count - count < more else { return }
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * output.count + more, alignment: 64)
    larger.copyMemory(from: bytes)
    output.deallocate()
    output = larger
  }
}

/// Decodes columns; their bytes are not trusted.
struct ColumnDecoder: ~Copyable {
  private let context: OpaquePointer
  private var plane = Scratch()

  init() { context = ZSTD_createDCtx() }

  deinit { ZSTD_freeDCtx(context) }

  /// One column of `length` values into `values`.
  /// - Parameter earlier: the column of that number and how long it is; nil where there is none.
  mutating func take(
    _ reader: inout ByteReader, _ values: UnsafeMutablePointer<UInt64>, _ length: Int,
    earlier: (Int) -> (UnsafeMutablePointer<UInt64>, Int)?
  ) throws(TraceError) {
    switch try reader.get(UInt8.self) {
    case ColumnEncoding.constant:
      values.update(repeating: try reader.get(UInt64.self), count: length)
    case ColumnEncoding.reference:
      guard let (same, count) = earlier(Int(try reader.get(UInt16.self))), count == length else { throw .damagedColumn }
      values.update(from: same, count: length)
    case ColumnEncoding.planes: try takePlanes(&reader, values, length)
    default: throw .damagedColumn
    }
  }

  private mutating func takePlanes(
    _ reader: inout ByteReader, _ values: UnsafeMutablePointer<UInt64>, _ length: Int
  ) throws(TraceError) {
    let transform = try reader.get(UInt8.self)
    let width = try reader.get(UInt8.self)
    guard transform <= ColumnEncoding.delta, (1...8).contains(width) else { throw .damagedColumn }
    let target = plane.reserve(length)
    values.update(repeating: 0, count: length)
    for place in 0..<UInt64(width) {
      let mode = try reader.get(UInt8.self)
      if mode == ColumnEncoding.repeated {
        let value = UInt64(try reader.get(UInt8.self)) << (8 * place)
        for index in 0..<length { values[index] |= value }
      } else {
        try takeBytes(&reader, mode, UnsafeMutableRawBufferPointer(start: target, count: length))
        let bytes = target.assumingMemoryBound(to: UInt8.self)
        for index in 0..<length { values[index] |= UInt64(bytes[index]) << (8 * place) }
      }
    }
    guard transform == ColumnEncoding.delta else { return }
    var last: UInt64 = 0
    for index in 0..<length {
      last = last &+ unzigzag(values[index])
      values[index] = last
    }
  }

  /// What `ColumnEncoder.put(_:)` wrote: exactly as many bytes as `target` has.
  mutating func takeBytes(_ reader: inout ByteReader, _ mode: UInt8, _ target: UnsafeMutableRawBufferPointer)
    throws(TraceError)
  {
    let bytes = try reader.take(Int(try reader.get(UInt32.self)))
    switch mode {
    case ColumnEncoding.compressed:
      let size = ZSTD_decompressDCtx(context, target.baseAddress, target.count, bytes.baseAddress, bytes.count)
      guard ZSTD_isError(size) == 0, size == target.count else { throw .damagedColumn }
    case ColumnEncoding.stored:
      guard bytes.count == target.count else { throw .damagedColumn }
      target.copyMemory(from: bytes)
    default: throw .damagedColumn
    }
  }
}

extension TraceError {
  static let damagedColumn = TraceError(.damaged, "a column contradicts itself")
}
