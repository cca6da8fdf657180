/// Admin command opcodes (Base 2.1, figure "Opcodes for Admin Commands").
public enum AdminOpcode: UInt8, BitwiseCopyable, Sendable {
  case deleteIOSubmissionQueue = 0x00
  case createIOSubmissionQueue = 0x01
  case getLogPage = 0x02
  case deleteIOCompletionQueue = 0x04
  case createIOCompletionQueue = 0x05
  case identify = 0x06
  case abort = 0x08
  case setFeatures = 0x09
  case getFeatures = 0x0a
  case asynchronousEventRequest = 0x0c
  case keepAlive = 0x18
}

/// I/O command opcodes (NVM Command Set 1.1, 3.3).
public enum IOOpcode: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  case flush = 0x00
  case write = 0x01
  case read = 0x02
  case writeZeroes = 0x08

  /// As reports and tools show it.
  public var name: String {
    switch self {
    case .flush: "flush"
    case .write: "write"
    case .read: "read"
    case .writeZeroes: "write-zeroes"
    }
  }
}

/// Feature identifiers (Base 2.1, figure "Feature Identifiers").
public enum FeatureID: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  case arbitration = 0x01
  case powerManagement = 0x02
  case temperatureThreshold = 0x04
  case volatileWriteCache = 0x06
  case numberOfQueues = 0x07
  case interruptCoalescing = 0x08
  case interruptVectorConfiguration = 0x09
  case writeAtomicity = 0x0a
  case asynchronousEventConfiguration = 0x0b
  case keepAliveTimer = 0x0f
}

/// Controller or Namespace Structure of Identify (Base 2.1, 5.1.13).
public enum IdentifyCNS: UInt8, BitwiseCopyable, Sendable {
  case namespace = 0x00
  case controller = 0x01
  case activeNamespaces = 0x02
  case namespaceDescriptors = 0x03
}

/// Log page identifiers (Base 2.1, 5.1.12).
public enum LogPageID: UInt8, BitwiseCopyable, Sendable {
  case errorInformation = 0x01
  case smart = 0x02
  case firmwareSlot = 0x03
}
