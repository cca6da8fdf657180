/// Hashes that are the same in every process and version, as Swift's own are not.
public enum StableHash {
  /// FNV-1a over both texts, its bits mixed: similar texts must not have similar hashes.
  /// - Parameter purpose: a text has a hash of its own for each.
  public static func of(_ purpose: String, _ text: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in "\(purpose):\(text)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return SeededGenerator.mix(hash)
  }
}
