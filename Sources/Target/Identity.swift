import Chance
import Text

/// Derives an endpoint's identity from a text that is unique on the machine: the same text gives the same identity.
extension Subsystem {
  /// Derive NQN, serial number and controller identifier from a seed, such as the path where the endpoint is served.
  public mutating func identify(by seed: String) {
    nqn = "nqn.2014-08.org.nvmexpress:uuid:\(NamespaceUUID.derived(from: seed))"
    serial = "NVMEPF" + StableHash.of("serial", seed).hexDigits(14)
    deriveController(from: seed)
  }

  /// Derive the controller identifier from a seed, so that a host can distinguish it from others of its subsystem.
  /// - Parameter range: the identifiers that the subsystem may assign.
  public mutating func deriveController(from seed: String, in range: ClosedRange<UInt16> = 1...0xffef) {
    let count = UInt64(range.upperBound - range.lowerBound) + 1
    controllerID = range.lowerBound + UInt16(StableHash.of("controller", seed) % count)
  }
}

extension NamespaceUUID {
  /// Derived from a text: version 8, variant 1 (RFC 9562, 5.8).
  public static func derived(from text: String) -> NamespaceUUID {
    NamespaceUUID(
      high: StableHash.of("high", text) & 0xffff_ffff_ffff_0fff | 0x8000,
      low: StableHash.of("low", text) & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000)
  }
}

extension NamespaceUUID: CustomStringConvertible {
  /// In the format of RFC 9562.
  public var description: String {
    let (first, second) = (high.hexDigits(16), low.hexDigits(16))
    return [
      first.prefix(8), first.dropFirst(8).prefix(4), first.suffix(4), second.prefix(4), second.suffix(12),
    ].joined(separator: "-")
  }
}
