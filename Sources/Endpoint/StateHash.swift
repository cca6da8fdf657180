import Chance

/// The hash of an engine's state: of the bytes of its checkpoint, the same on every machine and in every process.
///
/// The bytes are taken as words of 64 bits, little-endian, the last filled up with zeros, and their number follows as one
/// more. Each word changes the hash by a bijection, so of two states that differ in one word the hashes always differ.
public struct StateHash: Equatable, Sendable {
  public let value: UInt64
  /// Bytes of the checkpoint.
  public let length: Int

  init(value: UInt64, length: Int) { (self.value, self.length) = (value, length) }

  /// The hash of a checkpoint's bytes.
  public init(of checkpoint: UnsafeRawBufferPointer) {
    var hasher = StateHasher()
    for var byte in checkpoint { hasher.code("", &byte) }
    self = hasher.hash
  }
}

/// Hashes the fields that a walk visits.
struct StateHasher: StateSink {
  private var value: UInt64 = 0
  /// The bytes since the last whole word.
  private var word: UInt64 = 0
  private var count = 0

  @inline(__always)
  mutating func code<Value: StateInteger>(_ name: StaticString, _ field: inout Value) {
    let bits = UInt64(truncatingIfNeeded: field) & UInt64.max >> (64 - Value.bitWidth)
    let place = count % 8 * 8
    word |= bits << place
    count += Value.bitWidth / 8
    if place + Value.bitWidth >= 64 {
      StateHasher.mix(word, into: &value)
      // Nothing is left of a field that ends with the word.
      word = bits >> (64 - place)
    }
  }

  var hash: StateHash {
    var value = value
    if count % 8 != 0 { StateHasher.mix(word, into: &value) }
    StateHasher.mix(UInt64(count), into: &value)
    return StateHash(value: value, length: count)
  }

  @inline(__always)
  private static func mix(_ word: UInt64, into value: inout UInt64) { value = SeededGenerator.mix(value ^ word) }
}
