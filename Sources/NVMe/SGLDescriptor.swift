/// A Scatter Gather List descriptor: 16 bytes, little-endian (Base 2.1, 4.3.2.1).
public struct SGLDescriptor: BitwiseCopyable, Equatable, Sendable {
  public var address: UInt64
  /// Length in 31:0; SGL Identifier in 63:56.
  private var lengthAndIdentifier: UInt64

  /// Bytes.
  public static let size = 16

  /// SGL Descriptor Type (Base 2.1, figure "SGL Descriptor Type").
  public enum Kind: UInt8, BitwiseCopyable, Sendable {
    case dataBlock = 0
    case bitBucket = 1
    case segment = 2
    case lastSegment = 3
  }

  public init(address: UInt64, lengthAndIdentifier: UInt64) {
    self.address = address
    self.lengthAndIdentifier = lengthAndIdentifier
  }

  public init(_ kind: Kind, address: UInt64, length: UInt32) {
    self.address = address
    lengthAndIdentifier = UInt64(length) | UInt64(kind.rawValue) << 60
  }

  /// Bytes.
  public var length: UInt32 { UInt32(truncatingIfNeeded: lengthAndIdentifier) }
  /// Nil for a type or subtype that a PCIe controller does not support.
  public var kind: Kind? {
    guard lengthAndIdentifier >> 56 & 0xf == 0 else { return nil }
    return Kind(rawValue: UInt8(lengthAndIdentifier >> 60))
  }
  /// DPTR 127:64 of a command with this descriptor as SGL1.
  public var upper: UInt64 { lengthAndIdentifier }
}

extension SubmissionEntry {
  /// SGL1: the data pointer of a command whose PSDT is not 0.
  public var sgl1: SGLDescriptor {
    get { SGLDescriptor(address: prp1, lengthAndIdentifier: prp2) }
    set { (prp1, prp2) = (newValue.address, newValue.upper) }
  }
}
