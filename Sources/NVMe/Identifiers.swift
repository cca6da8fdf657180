/// A queue's identifier. 0 is the admin queue (NVM Express Base 2.1, 3.3.1).
public struct QueueID: RawRepresentable, BitwiseCopyable, Hashable, Comparable, Sendable {
  public var rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }
  public init(_ value: UInt16) { rawValue = value }
  public static let admin = QueueID(0)
  public static func < (a: QueueID, b: QueueID) -> Bool { a.rawValue < b.rawValue }
}

/// A command's identifier, unique among the outstanding commands of its submission queue (Base 2.1, 4.1).
public struct CommandID: RawRepresentable, BitwiseCopyable, Hashable, Sendable {
  public var rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }
  public init(_ value: UInt16) { rawValue = value }
}

/// An address in host memory as seen by the controller over PCI, in bytes.
public struct PCIAddress: RawRepresentable, BitwiseCopyable, Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  public init(_ value: UInt64) { rawValue = value }
  public static func < (a: PCIAddress, b: PCIAddress) -> Bool { a.rawValue < b.rawValue }
}
