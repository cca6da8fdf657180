import Backends
import Target
import Trace

/// Configuration of the endpoint.
public struct EndpointConfiguration: Equatable, Sendable {
  /// The controller's settings, except its namespaces.
  public var subsystem = Subsystem()
  public var namespaces: [NamespaceConfiguration] = []
  /// The largest possible namespace identifier; nil for 32, or the largest configured.
  public var namespacesMax: UInt32?
  /// PCI device identifier.
  public var deviceID: UInt16 = 1
  /// PCI subsystem identifier.
  public var subsystemID: UInt16 = 0
  /// MSI-X and MSI interrupts offered in addition to INTx; 0 for none.
  public private(set) var msixInterrupts: UInt16 = 0
  public private(set) var msiInterrupts: UInt16 = 0
  /// Allocate the memory of namespaces before a host connects, so that no command waits for page faults.
  public var prefaults = false
  /// Without a command for this long the engine's thread sleeps between polls.
  public var idleMs: UInt32 = 5000
  /// Length of such a sleep.
  public var napMs: UInt32 = 5
  /// Core of the engine's thread; nil for any.
  public var core: Int?
  /// Faults to inject.
  public var faults = FaultPlan()

  public init() { offerInterrupts(msix: subsystem.ioQueuesMax + 1) }

  /// Whether the namespace that a host finds first stores written data.
  public var keepsData: Bool {
    if case .null = namespaces.min(by: { $0.nsid < $1.nsid })?.backend { false } else { true }
  }

  /// Add one namespace.
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

  /// Offer the host these interrupts, and set the controller's vectors to the larger count.
  /// - Parameters:
  ///   - msix: at most 2048.
  ///   - msi: at most 32; becomes a power of two (PCIe Base 6.0, 7.7.1).
  public mutating func offerInterrupts(msix: UInt16, msi: UInt16 = 0) {
    msixInterrupts = msix
    msiInterrupts = msi.nonzeroBitCount <= 1 ? msi : 1 << (UInt16.bitWidth - msi.leadingZeroBitCount)
    subsystem.vectors = max(msixInterrupts, msiInterrupts, 1)
  }
}

/// Destination of the endpoint's events.
public struct EndpointRecording: Sendable {
  /// The ring that the engine fills.
  public var ring: Ring
  /// What the engine does if the ring is full.
  public var whenFull = FullRing.wait
  /// Record the data of commands, not only their digests.
  public var keepsPayload = false
  /// Events of the engine, in slots of 32 bytes, between two hashes of its state; nil: by the size of the state.
  public var stateHashEvery: UInt64?
  /// Frequency of the recording's clock.
  public var ticksPerSecond: UInt64

  public init(ring: Ring, ticksPerSecond: UInt64) {
    self.ring = ring
    self.ticksPerSecond = ticksPerSecond
  }
}
