import Text

/// Admin command opcodes (Base 2.1, figure "Opcodes for Admin Commands").
public enum AdminOpcode: UInt8, BitwiseCopyable, CaseIterable, Sendable {
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

  /// The name in reports and tools: `create-io-submission-queue`.
  public var name: String { "\(self)".hyphenated }

  /// Whether some commands with this opcode use a namespace identifier.
  public var namesNamespace: Bool { [.identify, .getLogPage, .getFeatures, .setFeatures].contains(self) }
}

/// I/O command opcodes (NVM Command Set 1.1, 3.3; Base 2.1, 7).
public enum IOOpcode: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  case flush = 0x00
  case write = 0x01
  case read = 0x02
  case compare = 0x05
  case writeZeroes = 0x08
  case datasetManagement = 0x09
  case verify = 0x0c
  case reservationRegister = 0x0d
  case reservationReport = 0x0e
  case reservationAcquire = 0x11
  case reservationRelease = 0x15
  case copy = 0x19

  /// The name in reports and tools: `write-zeroes`.
  public var name: String { "\(self)".hyphenated }

  /// Whether CDW10 and CDW11 contain a logical block: the first one, or the destination of a copy.
  public var hasStartingBlock: Bool { [.read, .write, .compare, .writeZeroes, .verify, .copy].contains(self) }

  public var isReservation: Bool {
    switch self {
    case .reservationRegister, .reservationReport, .reservationAcquire, .reservationRelease: true
    default: false
    }
  }
}

/// Feature identifiers (Base 2.1, figure "Feature Identifiers").
public enum FeatureID: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  case arbitration = 0x01
  case powerManagement = 0x02
  case temperatureThreshold = 0x04
  case errorRecovery = 0x05
  case volatileWriteCache = 0x06
  case numberOfQueues = 0x07
  case interruptCoalescing = 0x08
  case interruptVectorConfiguration = 0x09
  case writeAtomicity = 0x0a
  case asynchronousEventConfiguration = 0x0b
  case timestamp = 0x0e
  case keepAliveTimer = 0x0f
  case hostBehaviorSupport = 0x16
  case hostIdentifier = 0x81
  case reservationNotificationMask = 0x82
  case reservationPersistence = 0x83
  case namespaceWriteProtection = 0x84

  /// Whether each namespace has its own value.
  public var isOfNamespace: Bool {
    [.errorRecovery, .reservationNotificationMask, .reservationPersistence, .namespaceWriteProtection].contains(self)
  }

  /// Whether the namespace identifier FFFFFFFFh sets the value of all namespaces.
  public var canBeSetForAll: Bool { self == .errorRecovery || self == .reservationNotificationMask }
}

/// Controller or Namespace Structure of Identify (Base 2.1, 5.1.13).
public enum IdentifyCNS: UInt8, BitwiseCopyable, Sendable {
  case namespace = 0x00
  case controller = 0x01
  case activeNamespaces = 0x02
  case namespaceDescriptors = 0x03
  case commandSetNamespace = 0x05
  case commandSetController = 0x06
  case commandSetActiveNamespaces = 0x07
  case independentNamespace = 0x08
  case enduranceGroups = 0x19
  case commandSetCombinations = 0x1c

  /// Whether the namespace identifier selects the data.
  public var namesNamespace: Bool {
    ![.controller, .commandSetController, .enduranceGroups, .commandSetCombinations].contains(self)
  }
}

/// Log page identifiers (Base 2.1, 5.1.12).
public enum LogPageID: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  case supportedLogPages = 0x00
  case errorInformation = 0x01
  case smart = 0x02
  case firmwareSlot = 0x03
  case changedNamespaces = 0x04
  case commandsSupportedAndEffects = 0x05
  case featuresSupportedAndEffects = 0x12
  case managementCommandsSupportedAndEffects = 0x13
  case reservationNotification = 0x80
}
