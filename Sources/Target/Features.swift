import NVMe

/// Values of the features that a host can read and set (Base 2.1, 5.1.25).
public struct Features: Equatable, Sendable {
  /// Arbitration Burst (2:0), a power of two of commands, 7 without limit; the weights above it are stored.
  public var arbitration: UInt32
  /// Power State (4:0), always 0; the bits above it are stored.
  public var powerManagement: UInt32 = 0
  /// Composite temperature thresholds in kelvin: over, and under.
  public var overTemperature: UInt32 = 0x157
  public var underTemperature: UInt32 = 0
  /// Time Limited Error Recovery, in 100 ms, by namespace identifier; 0 if not set.
  public var errorRecovery: [UInt32: UInt32] = [:]
  /// Reservation notifications masked by the host, by namespace identifier; 0 if none.
  public var reservationMask: [UInt32: UInt32] = [:]
  /// 1 if the write cache is enabled.
  public var volatileWriteCache: UInt32 = 1
  /// 0's based, submission queues in the lower half, completion queues in the upper.
  public var numberOfQueues: UInt32
  /// Aggregation Threshold (7:0, 0's based) and Time (15:8, 100 µs).
  public var interruptCoalescing: UInt32
  /// By vector: bit 16 is Coalescing Disable.
  public var vectorConfiguration: [UInt32]
  /// Disable Normal (bit 0).
  public var writeAtomicity: UInt32 = 0
  /// Bit 8: Attached Namespace Attribute Notices.
  public var asynchronousEventConfiguration: UInt32 = 1 << 8
  /// Milliseconds; 0 is off.
  public var keepAliveTimer: UInt32 = 0
  /// Set by the host, in milliseconds since 1970; nil counts from the reset.
  public var timestampMs: UInt64?
  /// When it was set, by the port's clock.
  public var timestampSetMs: UInt64 = 0
  /// The first bytes of Host Behavior Support, the first in bits 7:0: ACRE, ETDAS, LBAFEE, HDISNS.
  public var hostBehavior: UInt32 = 0
  /// Zero if the host has not identified itself.
  public var hostIdentifier = HostIdentifier()

  public init(_ subsystem: Subsystem) {
    arbitration = UInt32(subsystem.arbitrationBurst)
    interruptCoalescing = UInt32(subsystem.coalescingThreshold - 1) | UInt32(subsystem.coalescingTime) << 8
    vectorConfiguration = [UInt32](repeating: 0, count: Int(subsystem.vectors))
    let queues = UInt32(subsystem.ioQueuesMax) - 1
    numberOfQueues = queues | queues << 16
  }

  /// Remove the values of a namespace that is gone.
  mutating func forget(_ nsid: UInt32) {
    errorRecovery[nsid] = nil
    reservationMask[nsid] = nil
  }

  /// Commands fetched from one queue in a row.
  public var burst: Int { arbitration & 7 == 7 ? .max : 1 << (arbitration & 7) }

  /// Completion queue entries after which an interrupt is raised immediately.
  public func threshold(vector: UInt16) -> UInt32 {
    vectorConfiguration[Int(vector)] & 1 << 16 != 0 ? 1 : (interruptCoalescing & 0xff) + 1
  }

  /// How long fewer entries may wait for their interrupt, in microseconds; 0 for not at all.
  public func aggregationUs(vector: UInt16) -> UInt32 {
    vectorConfiguration[Int(vector)] & 1 << 16 != 0 ? 0 : (interruptCoalescing >> 8 & 0xff) * 100
  }

  /// Milliseconds of a Timestamp, and its origin (Base 2.1, 5.1.25.1.7).
  func timestamp(nowMs: UInt64, enabledMs: UInt64) -> UInt64 {
    let (base, since) = timestampMs.map { ($0, timestampSetMs) } ?? (0, enabledMs)
    let milliseconds = (base &+ (nowMs &- min(since, nowMs))) & 0xffff_ffff_ffff
    return milliseconds | (timestampMs == nil ? 0 : 1) << 49
  }
}

/// The host identifier: 8 bytes, or 16 (Base 2.1, 5.1.25.1.28).
public struct HostIdentifier: BitwiseCopyable, Hashable, Sendable {
  public var low: UInt64 = 0
  public var high: UInt64 = 0

  public init() {}
  public init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  public var isZero: Bool { low == 0 && high == 0 }
}

extension Target {
  /// Granularity of Keep Alive timeouts.
  static let keepAliveGranularityMs: UInt32 = 100

  /// Bytes of the Host Behavior Support data structure (Base 2.1, 5.1.25.1.14).
  static let hostBehaviorBytes = 512

  /// Bytes of data of a Get or Set Features command.
  public func featureBytes(_ sqe: SubmissionEntry) -> Int {
    switch FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) {
    case .timestamp: 8
    case .hostBehaviorSupport: Target.hostBehaviorBytes
    case .hostIdentifier: sqe.cdw11 & 1 != 0 ? 16 : 8
    default: 0
    }
  }

  /// Whether the command gets or sets a value that depends on the time.
  public func featureNeedsTime(_ sqe: SubmissionEntry) -> Bool {
    UInt8(truncatingIfNeeded: sqe.cdw10) == FeatureID.timestamp.rawValue
  }

  // MARK: Get

  /// The Select field of Get Features.
  public enum FeatureSelect: UInt32 {
    case current = 0
    case `default` = 1
    case saved = 2
    case supportedCapabilities = 3
  }

  /// Get Features (Base 2.1, 5.1.11).
  /// - Parameter data: receives `featureBytes` if the feature has data.
  /// - Returns: Dword 0 of the completion, and whether there are data.
  public func getFeatures(_ sqe: SubmissionEntry, nowMs: UInt64, data: UnsafeMutableRawBufferPointer) throws(Status)
    -> (dw0: UInt32, hasData: Bool)
  {
    guard let id = FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)),
      let select = FeatureSelect(rawValue: sqe.cdw10 >> 8 & 7)
    else { throw .invalidField }
    var sqe = sqe
    if id.isOfNamespace {
      // Hosts of older specifications name no namespace and get the value of the first.
      if sqe.nsid == 0 { sqe.nsid = namespaces.first(from: 1)?.nsid ?? 0 }
      if sqe.nsid != 0 { try checkFeatureNamespace(id, sqe.nsid) }
    }
    switch select {
    case .supportedCapabilities:
      // Bit 1: per namespace; bit 2: changeable; none can be saved.
      return ((id.isOfNamespace ? 1 << 1 : 0) | (id == .reservationPersistence ? 0 : 1 << 2), false)
    case .current where id == .namespaceWriteProtection:
      return (namespace(sqe.nsid)?.isWriteProtected == true ? 1 : 0, false)
    case .current: return (try value(of: id, features, sqe, nowMs, data), featureBytes(sqe) > 0)
    // Nothing can be saved, so the saved value is the default.
    case .default, .saved: return (try value(of: id, Features(subsystem), sqe, nowMs, data), featureBytes(sqe) > 0)
    }
  }

  private func value(
    of id: FeatureID, _ features: Features, _ sqe: SubmissionEntry, _ nowMs: UInt64,
    _ data: UnsafeMutableRawBufferPointer
  ) throws(Status) -> UInt32 {
    switch id {
    case .arbitration: return features.arbitration
    case .powerManagement: return features.powerManagement
    case .temperatureThreshold: return try temperature(features, sqe.cdw11)
    case .errorRecovery: return features.errorRecovery[sqe.nsid] ?? 0
    case .reservationNotificationMask: return features.reservationMask[sqe.nsid] ?? 0
    case .volatileWriteCache: return features.volatileWriteCache
    case .numberOfQueues: return features.numberOfQueues
    case .interruptCoalescing: return features.interruptCoalescing
    case .interruptVectorConfiguration:
      let vector = Int(sqe.cdw11 & 0xffff)
      guard vector < features.vectorConfiguration.count else { throw .invalidField }
      return features.vectorConfiguration[vector] | UInt32(vector)
    case .writeAtomicity: return features.writeAtomicity
    case .asynchronousEventConfiguration: return features.asynchronousEventConfiguration
    case .keepAliveTimer: return features.keepAliveTimer
    case .timestamp:
      Layout(data).put(features.timestamp(nowMs: nowMs, enabledMs: health.enabledMs), at: 0)
      return 0
    case .hostBehaviorSupport:
      let layout = Layout(data)
      layout.put(features.hostBehavior, at: 0)
      return 0
    case .hostIdentifier:
      let layout = Layout(data)
      layout.put(features.hostIdentifier.low, at: 0)
      if sqe.cdw11 & 1 != 0 { layout.put(features.hostIdentifier.high, at: 8) }
      return 0
    case .reservationPersistence, .namespaceWriteProtection: return 0
    }
  }

  /// Only the composite temperature has thresholds.
  private func temperature(_ features: Features, _ cdw11: UInt32) throws(Status) -> UInt32 {
    guard cdw11 >> 16 & 0xf == 0 else { throw .invalidField }
    switch cdw11 >> 20 & 3 {
    case 0: return features.overTemperature
    case 1: return features.underTemperature
    default: throw .invalidField
    }
  }

  private func checkFeatureNamespace(_ id: FeatureID, _ nsid: UInt32) throws(Status) {
    guard let namespace = namespace(nsid) else { throw missingNamespace(nsid) }
    if id == .reservationNotificationMask || id == .reservationPersistence, !namespace.hasReservations {
      throw .invalidField
    }
  }

  // MARK: Set

  /// Set Features (Base 2.1, 5.1.25).
  /// - Parameters:
  ///   - data: `featureBytes` of them, from the host.
  ///   - ioQueuesExist: the number of queues can no longer be negotiated.
  /// - Returns: Dword 0 of the completion.
  public mutating func setFeatures(
    _ sqe: SubmissionEntry, data: UnsafeRawBufferPointer, nowMs: UInt64, ioQueuesExist: Bool
  ) throws(Status) -> UInt32 {
    guard let id = FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { throw .invalidField }
    guard sqe.cdw10 & 1 << 31 == 0 else { throw .featureIdentifierNotSaveable }
    if id.isOfNamespace {
      if !(id.canBeSetForAll && sqe.nsid == .max) { try checkFeatureNamespace(id, sqe.nsid) }
    } else if sqe.nsid != 0, sqe.nsid != .max {
      throw .featureNotNamespaceSpecific
    }
    let value = sqe.cdw11
    switch id {
    case .arbitration: features.arbitration = value
    case .powerManagement:
      guard value & 0x1f == 0 else { throw .invalidField }
      features.powerManagement = value
    case .temperatureThreshold: try setTemperature(value)
    case .errorRecovery:
      // Deallocated or Unwritten Logical Block Error Enable: no namespace supports it.
      guard value & 1 << 16 == 0 else { throw .invalidField }
      set(\.errorRecovery, sqe.nsid, value & 0xffff)
    case .volatileWriteCache: features.volatileWriteCache = value & 1
    case .numberOfQueues:
      guard !ioQueuesExist else { throw .commandSequenceError }
      guard value & 0xffff != 0xffff, value >> 16 != 0xffff else { throw .invalidField }
      return features.numberOfQueues
    case .interruptCoalescing: features.interruptCoalescing = value & 0xffff
    case .interruptVectorConfiguration:
      let vector = Int(value & 0xffff)
      guard vector < features.vectorConfiguration.count else { throw .invalidField }
      features.vectorConfiguration[vector] = value & 1 << 16
    case .writeAtomicity: features.writeAtomicity = value & 1
    case .asynchronousEventConfiguration: try setAsynchronousEvents(value)
    case .keepAliveTimer:
      let step = Target.keepAliveGranularityMs
      features.keepAliveTimer = value > .max - step ? value : (value + step - 1) / step * step
    case .timestamp:
      features.timestampMs = data.loadUnaligned(as: UInt64.self) & 0xffff_ffff_ffff
      features.timestampSetMs = nowMs
    case .hostBehaviorSupport: try setHostBehavior(data)
    case .hostIdentifier: try setHostIdentifier(data)
    case .reservationNotificationMask: set(\.reservationMask, sqe.nsid, value & 0xe)
    case .reservationPersistence:
      // Persist Through Power Loss is not supported.
      guard value & 1 == 0 else { throw .invalidField }
    case .namespaceWriteProtection:
      // No protection, or protection until the host removes it.
      guard value & 7 <= 1 else { throw .invalidField }
      namespaces.setWriteProtected(sqe.nsid, value & 7 == 1)
    }
    return 0
  }

  /// Set the value of one namespace, or of all.
  private mutating func set(
    _ feature: WritableKeyPath<Features, [UInt32: UInt32]>, _ nsid: UInt32, _ value: UInt32
  ) {
    var next: UInt32 = nsid == .max ? 1 : nsid
    while let namespace = namespaces.first(from: next), nsid == .max || namespace.nsid == nsid {
      features[keyPath: feature][namespace.nsid] = value
      next = namespace.nsid + 1
    }
  }

  /// The namespace whose cache must be on the medium before a Set Features succeeds: the one that it protects (Base
  /// 2.1, 8.1.16), or all if it disables the cache. Nil for none.
  public func namespaceToFlush(by sqe: SubmissionEntry) -> UInt32? {
    switch FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) {
    case .namespaceWriteProtection where sqe.cdw11 & 7 == 1 && namespace(sqe.nsid)?.isWriteProtected == false:
      namespaceFlushed(by: sqe)
    case .volatileWriteCache where sqe.cdw11 & 1 == 0 && hasWriteCache: namespaceFlushed(by: sqe)
    default: nil
    }
  }

  /// The caches for a Set Features for which `namespaceToFlush` returned a namespace.
  public func namespaceFlushed(by sqe: SubmissionEntry) -> UInt32 {
    UInt8(truncatingIfNeeded: sqe.cdw10) == FeatureID.volatileWriteCache.rawValue ? .max : sqe.nsid
  }

  /// Cached data could not be written: restore the feature.
  public mutating func restoreFeature(_ sqe: SubmissionEntry) {
    if UInt8(truncatingIfNeeded: sqe.cdw10) == FeatureID.volatileWriteCache.rawValue {
      features.volatileWriteCache = 1
    } else {
      namespaces.setWriteProtected(sqe.nsid, false)
    }
  }

  /// A host may enable notices that the controller never sends, except those of endurance groups (Base 2.1,
  /// 5.1.25.1.5).
  private mutating func setAsynchronousEvents(_ value: UInt32) throws(Status) {
    guard value & 1 << 14 == 0 else { throw .invalidField }
    let wasWanted = features.asynchronousEventConfiguration & 1 << 1 != 0
    features.asynchronousEventConfiguration = value
    // A condition that already holds when its notice is enabled is reported.
    if !wasWanted { warn() }
  }

  private mutating func warn() {
    if criticalWarning & 1 << 1 != 0 { add(.temperatureThreshold) }
  }

  private mutating func setTemperature(_ value: UInt32) throws(Status) {
    // A host may also select all sensors, which is the composite temperature alone.
    _ = try temperature(features, value >> 16 & 0xf == 0xf ? value & ~(0xf << 16) : value)
    if value >> 20 & 3 == 0 {
      features.overTemperature = value & 0xffff
    } else {
      features.underTemperature = value & 0xffff
    }
    warn()
  }

  /// Critical Warning of the SMART log page: bit 1, the temperature has reached a threshold (Base 2.1, 5.1.12.1.3).
  var criticalWarning: UInt8 {
    let temperature = UInt32(Health.temperature)
    return temperature >= features.overTemperature || temperature <= features.underTemperature ? 1 << 1 : 0
  }

  /// Host capabilities do not oblige the controller (Base 2.1, 5.1.25.1.14). Each field is 0 or 1. Copy Descriptor
  /// Formats Enable selects among the formats that CDFS reports beyond the first two; this controller reports none of
  /// those, so the field must be 0.
  private mutating func setHostBehavior(_ data: UnsafeRawBufferPointer) throws(Status) {
    let fields = UInt32(littleEndian: data.loadUnaligned(as: UInt32.self))
    let copyFormats = data.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
    guard fields & 0xfefe_fefe == 0, copyFormats == 0 else { throw .invalidField }
    features.hostBehavior = fields
  }

  /// A host that has identified itself cannot change its identifier (Base 2.1, 5.1.25.1.28).
  private mutating func setHostIdentifier(_ data: UnsafeRawBufferPointer) throws(Status) {
    let identifier = HostIdentifier(
      low: data.loadUnaligned(as: UInt64.self),
      high: data.count == 16 ? data.loadUnaligned(fromByteOffset: 8, as: UInt64.self) : 0)
    guard features.hostIdentifier.isZero || features.hostIdentifier == identifier else { throw .commandSequenceError }
    features.hostIdentifier = identifier
  }
}
