/// Encodings of a column's values in a chunk, as written by `ChunkEncoder` and read by `DecodedChunk`.
enum ColumnTag {
  /// + number of value bytes (0...8): all values are equal.
  static let constant: UInt8 = 0x00
  /// The values of an earlier column of the chunk.
  static let reference: UInt8 = 0x10
  /// + `Transform`: the lowest bytes of all values, then the next, ... The byte after the tag is the number of these
  /// planes, + 16 times the binary logarithm of the width in bytes at which differences wrap around.
  static let planes: UInt8 = 0x20
}

/// Transformation of a column's values before they are split into planes.
enum Transform: UInt8 {
  /// None.
  case plain = 0
  /// Zigzag of the difference from the previous value (0 before the first).
  case delta = 1
  /// Zigzag of the difference from a base value stored before the planes.
  case offset = 2
}

/// Encodings of the bytes of a plane, or of bytes that events carry.
enum PlaneMode {
  static let constant: UInt8 = 0
  static let reference: UInt8 = 1
  static let stored: UInt8 = 2
  static let zstd: UInt8 = 3
}

/// What a column's values are computed in: 32 bits where they fit, else 64.
typealias ColumnWord = BitwiseCopyable & FixedWidthInteger & UnsignedInteger

/// Zigzag: small differences of either sign become small numbers. `shift` is the number of bits by which a column's
/// numbers are narrower than `Word`.
@inline(__always)
func zigzag<Word: FixedWidthInteger & UnsignedInteger>(_ difference: Word, shift: Word) -> Word {
  let aligned = difference &<< shift
  let sign = 0 &- (aligned &>> Word(Word.bitWidth - 1))
  return (aligned &<< 1 ^ sign) &>> shift
}

@inline(__always)
func unzigzag(_ value: UInt64) -> UInt64 { (value >> 1) ^ (0 &- (value & 1)) }
