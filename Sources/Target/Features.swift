import NVMe

/// Values of the features that a host can read and set (Base 2.1, 5.1.25).
public struct Features: Equatable, Sendable {
  /// Arbitration Burst (2:0), a power of two of commands, 7 without limit; the weights above it are kept.
  public var arbitration: UInt32 = 3
  public var powerManagement: UInt32 = 0
  public var temperatureThreshold: UInt32 = 0x157
  public var volatileWriteCache: UInt32 = 1
  /// 0's based, submission queues below, completion queues above.
  public var numberOfQueues: UInt32 = 0
  /// Aggregation Threshold (7:0, 0's based) and Time (15:8, 100 µs).
  public var interruptCoalescing: UInt32 = 7
  /// By vector: bit 16 is Coalescing Disable.
  public var vectorConfiguration: [UInt32]
  public var writeAtomicity: UInt32 = 0
  public var asynchronousEventConfiguration: UInt32 = 0
  /// Milliseconds; 0 is off.
  public var keepAliveTimer: UInt32 = 0

  public init(vectors: UInt16) {
    vectorConfiguration = (0..<UInt32(vectors)).map { $0 == 0 ? 1 << 16 : 0 }
  }

  /// Commands that may be fetched from one queue in a row.
  public var burst: Int { arbitration & 7 == 7 ? .max : 1 << (arbitration & 7) }

  /// Completion queue entries after which an interrupt is raised at once.
  public func threshold(vector: UInt16) -> UInt32 {
    vectorConfiguration[Int(vector)] & 1 << 16 != 0 ? 1 : (interruptCoalescing & 0xff) + 1
  }
}

extension Target {
  /// Get Features (Base 2.1, 5.1.11).
  /// - Returns: Dword 0 of the completion.
  public func getFeatures(_ sqe: SubmissionEntry) throws(Status) -> UInt32 {
    guard let id = FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { throw .invalidField }
    switch sqe.cdw10 >> 8 & 7 {
    case 0: return try value(of: id, features, sqe)
    // Default. Nothing can be saved, so the saved value is the default too.
    case 1, 2: return try value(of: id, Features(vectors: subsystem.vectors), sqe)
    // Supported capabilities: bit 2, changeable; none is saveable or specific to a namespace.
    case 3: return id == .writeAtomicity ? 0 : 1 << 2
    default: throw .invalidField
    }
  }

  private func value(of id: FeatureID, _ features: Features, _ sqe: SubmissionEntry) throws(Status) -> UInt32 {
    switch id {
    case .arbitration: return features.arbitration
    case .powerManagement: return features.powerManagement
    case .temperatureThreshold: return features.temperatureThreshold
    case .volatileWriteCache: return features.volatileWriteCache
    case .numberOfQueues:
      let queues = UInt32(subsystem.ioQueuesMax) - 1
      return queues | queues << 16
    case .interruptCoalescing: return features.interruptCoalescing
    case .interruptVectorConfiguration:
      let vector = Int(sqe.cdw11 & 0xffff)
      guard vector < features.vectorConfiguration.count else { throw .invalidField }
      return features.vectorConfiguration[vector] | UInt32(vector)
    case .writeAtomicity: return features.writeAtomicity
    case .asynchronousEventConfiguration: return features.asynchronousEventConfiguration
    case .keepAliveTimer: return features.keepAliveTimer
    }
  }

  /// Set Features (Base 2.1, 5.1.25).
  /// - Parameter ioQueuesExist: the number of queues can no longer be negotiated.
  /// - Returns: Dword 0 of the completion.
  public mutating func setFeatures(_ sqe: SubmissionEntry, ioQueuesExist: Bool) throws(Status) -> UInt32 {
    guard let id = FeatureID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)) else { throw .invalidField }
    guard sqe.cdw10 & 1 << 31 == 0 else { throw .featureIdentifierNotSaveable }
    let value = sqe.cdw11
    switch id {
    case .arbitration: features.arbitration = value
    case .powerManagement:
      guard value & 0x1f == 0 else { throw .invalidField }
      features.powerManagement = value
    case .temperatureThreshold: features.temperatureThreshold = value
    case .volatileWriteCache: features.volatileWriteCache = value & 1
    case .numberOfQueues:
      guard !ioQueuesExist else { throw .commandSequenceError }
      guard value & 0xffff != 0xffff, value >> 16 != 0xffff else { throw .invalidField }
      let most = UInt32(subsystem.ioQueuesMax) - 1
      features.numberOfQueues = most | most << 16
      return features.numberOfQueues
    case .interruptCoalescing: features.interruptCoalescing = value & 0xffff
    case .interruptVectorConfiguration:
      let vector = Int(value & 0xffff)
      guard vector < features.vectorConfiguration.count else { throw .invalidField }
      features.vectorConfiguration[vector] = value & 1 << 16
    case .writeAtomicity: throw .featureNotChangeable
    case .asynchronousEventConfiguration: features.asynchronousEventConfiguration = value
    case .keepAliveTimer: features.keepAliveTimer = value
    }
    return 0
  }
}
