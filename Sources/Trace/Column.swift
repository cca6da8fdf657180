/// How a column's values are stored in a chunk: the bytes that `ChunkEncoder` writes and `ChunkDecoder` reads.
enum ColumnTag {
  /// + number of value bytes (0...8): all values are equal.
  static let constant: UInt8 = 0x00
  /// The values of an earlier column of the chunk.
  static let reference: UInt8 = 0x10
  /// + `Transform`: values split into planes, lowest byte first.
  static let planes: UInt8 = 0x20
}

/// What is done to a column's values before they are split into planes.
enum Transform: UInt8 {
  /// Nothing.
  case plain = 0
  /// Zigzag of the difference from the value before (0 before the first).
  case delta = 1
  /// Zigzag of the difference from one value that stands before the planes.
  case offset = 2
}

/// How the bytes of a plane, or those that events carry, are stored.
enum PlaneMode {
  static let constant: UInt8 = 0
  static let reference: UInt8 = 1
  static let stored: UInt8 = 2
  static let zstd: UInt8 = 3
}

/// Zigzag in `width` bytes: small differences of either sign become small numbers.
@inline(__always)
func zigzag(_ difference: UInt64, shift: UInt64) -> UInt64 {
  let signed = Int64(bitPattern: difference << shift) >> Int64(shift)
  return UInt64(bitPattern: (signed << 1) ^ (signed >> 63)) & (UInt64.max >> shift)
}

@inline(__always)
func unzigzag(_ value: UInt64) -> UInt64 { (value >> 1) ^ (0 &- (value & 1)) }
