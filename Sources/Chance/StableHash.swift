/// Hashes that are the same in every process and version, unlike Swift's own.
public enum StableHash {
  /// FNV-1a over both texts, with its bits mixed so that similar texts get dissimilar hashes.
  /// - Parameter purpose: each purpose has its own hash of a text.
  public static func of(_ purpose: String, _ text: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in "\(purpose):\(text)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return SeededGenerator.mix(hash)
  }
}
