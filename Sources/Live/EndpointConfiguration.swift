import Target
import Trace

/// What lies behind one namespace.
public enum BackendConfiguration: Equatable, Sendable {
  /// Completes everything and keeps nothing; `bytes` is the size that it shows.
  case null(bytes: UInt64, serviceTime: ServiceTime)
  /// Memory of this process, zero until it is written.
  case memory(bytes: UInt64)
  /// A regular file or a block device. `buffered`: through the page cache, as nvmet's `buffered_io`.
  case file(path: String, buffered: Bool)
  /// An NVMe character device, such as `/dev/ng0n1`, that gets what it is asked to do as NVMe commands; admin commands stay here.
  case passthrough(path: String)
}

extension BackendConfiguration: CustomStringConvertible {
  /// As a configuration names it, but for the service time: `memory:1073741824`, `/dev/sda`.
  public var description: String {
    switch self {
    case .null(let bytes, _): "null:\(bytes)"
    case .memory(let bytes): "memory:\(bytes)"
    case .file(let path, _), .passthrough(let path): path
    }
  }
}

/// How long a null backend takes for a command.
public enum ServiceTime: Equatable, Sendable {
  case none
  /// The same for every command, in nanoseconds.
  case constant(ns: UInt64)
  /// Drawn from an exponential distribution with this mean, in nanoseconds; the seed makes it repeatable.
  case exponential(meanNs: UInt64, seed: UInt64)
  /// Drawn evenly from this range of nanoseconds.
  case uniform(ns: ClosedRange<UInt64>, seed: UInt64)
}

/// One namespace that hosts see.
public struct NamespaceConfiguration: Equatable, Sendable {
  /// 1 to `Subsystem.namespacesLimit`.
  public var nsid: UInt32
  public var backend: BackendConfiguration
  /// Logical block size as a power of two of bytes: 9 or 12; nil for what the backend prefers.
  public var blockShift: UInt8?
  /// Shown in the namespace's identification; nil for one made from the subsystem's NQN.
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

/// How the endpoint is set up.
public struct EndpointConfiguration: Equatable, Sendable {
  /// What the controller is, but for its namespaces.
  public var subsystem = Subsystem()
  public var namespaces: [NamespaceConfiguration] = []
  /// The largest namespace identifier that there may be; nil for 32, or the largest that is configured.
  public var namespacesMax: UInt32?
  /// PCI device identifier.
  public var deviceID: UInt16 = 1
  /// PCI subsystem identifier.
  public var subsystemID: UInt16 = 0
  /// MSI-X and MSI interrupts that the host is offered beside INTx; 0 for none.
  public private(set) var msixInterrupts: UInt16 = 0
  public private(set) var msiInterrupts: UInt16 = 0
  /// Have the memory of namespaces in memory before a host comes, so that no command waits for page faults.
  public var prefaults = false
  /// Without a command for this long the engine's thread naps between polls.
  public var idleMs: UInt32 = 5000
  /// How long such a nap is.
  public var napMs: UInt32 = 5
  /// The core that the engine's thread is tied to; nil for any.
  public var core: Int?

  public init() { offerInterrupts(msix: subsystem.ioQueuesMax + 1) }

  /// Whether the namespace that a host finds first gives back what is written to it.
  public var keepsData: Bool {
    if case .null = namespaces.min(by: { $0.nsid < $1.nsid })?.backend { false } else { true }
  }

  /// One namespace.
  public init(backend: BackendConfiguration, ioQueuesMax: UInt16) {
    subsystem.ioQueuesMax = ioQueuesMax
    namespaces = [NamespaceConfiguration(nsid: 1, backend: backend)]
    offerInterrupts(msix: ioQueuesMax + 1)
  }

  /// The subsystem with room for its namespaces.
  func subsystemWithRoom() throws(EndpointError) -> Subsystem {
    var subsystem = subsystem
    let highest = namespaces.map(\.nsid).max() ?? 1
    subsystem.namespacesMax = namespacesMax ?? max(subsystem.namespacesMax, highest)
    guard highest <= subsystem.namespacesMax, subsystem.namespacesMax <= Subsystem.namespacesLimit else {
      throw EndpointError(
        description: "namespace \(highest) is beyond --namespaces-max \(subsystem.namespacesMax) (1 to "
          + "\(Subsystem.namespacesLimit))")
    }
    return subsystem
  }

  /// Offer the host these interrupts, and the controller as many vectors as the larger count.
  /// - Parameters:
  ///   - msix: at most 2048.
  ///   - msi: at most 32; becomes a power of two (PCIe Base 6.0, 7.7.1).
  public mutating func offerInterrupts(msix: UInt16, msi: UInt16 = 0) {
    msixInterrupts = msix
    msiInterrupts = msi.nonzeroBitCount <= 1 ? msi : 1 << (UInt16.bitWidth - msi.leadingZeroBitCount)
    subsystem.vectors = max(msixInterrupts, msiInterrupts, 1)
  }
}

/// Where the endpoint's events go.
public struct EndpointRecording {
  public var ring: Ring
  public var whenFull = FullRing.wait
  public var keepsPayload = false
  public var ticksPerSecond: UInt64

  public init(ring: Ring, ticksPerSecond: UInt64) {
    self.ring = ring
    self.ticksPerSecond = ticksPerSecond
  }
}
