import Target

/// The backend of one namespace.
public enum BackendConfiguration: Equatable, Sendable {
  /// Completes everything and stores nothing; `bytes` is the reported size.
  case null(bytes: UInt64, serviceTime: ServiceTime)
  /// Memory of this process, initially zero.
  case memory(bytes: UInt64)
  /// A regular file or a block device. `buffered`: through the page cache, as nvmet's `buffered_io`.
  case file(path: String, buffered: Bool)
  /// An NVMe character device, such as `/dev/ng0n1`, which receives I/O as NVMe commands but no admin commands.
  case passthrough(path: String)
}

extension BackendConfiguration: CustomStringConvertible {
  /// As in a configuration, without the service time: `memory:1073741824`, `/dev/sda`.
  public var description: String {
    switch self {
    case .null(let bytes, _): "null:\(bytes)"
    case .memory(let bytes): "memory:\(bytes)"
    case .file(let path, _), .passthrough(let path): path
    }
  }
}

/// Service time of a null backend.
public enum ServiceTime: Equatable, Sendable {
  case none
  /// The same for every command, in nanoseconds.
  case constant(ns: UInt64)
  /// Exponentially distributed with this mean, in nanoseconds; the seed makes it repeatable.
  case exponential(meanNs: UInt64, seed: UInt64)
  /// Uniformly distributed in this range of nanoseconds.
  case uniform(ns: ClosedRange<UInt64>, seed: UInt64)
}

/// One namespace.
public struct NamespaceConfiguration: Equatable, Sendable {
  /// 1 to `Subsystem.namespacesLimit`.
  public var nsid: UInt32
  public var backend: BackendConfiguration
  /// Logical block size as a power of two of bytes: 9 or 12; nil for the backend's preference.
  public var blockShift: UInt8?
  /// UUID of the namespace; nil to derive it from the subsystem's NQN.
  public var uuid: NamespaceUUID?
  /// Namespace Globally Unique Identifier; nil for none.
  public var nguid: NamespaceUUID?
  public var isReadOnly = false
  /// Whether hosts may use reservations, as nvmet's `resv_enable`.
  public var hasReservations = false

  public init(nsid: UInt32, backend: BackendConfiguration) {
    self.nsid = nsid
    self.backend = backend
  }
}
