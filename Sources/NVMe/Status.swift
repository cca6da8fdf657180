/// The Status field of a completion queue entry without the phase tag: Status Code 7:0, Status Code Type 10:8,
/// Command Retry Delay 12:11, More 13, Do Not Retry 14 (Base 2.1, 4.2.3).
public struct Status: RawRepresentable, BitwiseCopyable, Hashable, Sendable {
  public var rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  init(type: UInt16, code: UInt16, retry: Bool = false) {
    rawValue = type << 8 | code | (retry ? 0 : 1 << 14)
  }

  @inlinable
  public var isSuccess: Bool { rawValue & 0x7ff == 0 }
  /// More: the error log has an entry for it.
  public static let more: UInt16 = 1 << 13
  /// Status Code Type and Status Code.
  @inlinable
  public var code: UInt16 { rawValue & 0x7ff }

  public static let success = Status(rawValue: 0)

  // Generic command status (Base 2.1, 4.2.3.1).
  public static let invalidOpcode = Status(type: 0, code: 0x01)
  public static let invalidField = Status(type: 0, code: 0x02)
  public static let commandIDConflict = Status(type: 0, code: 0x03)
  public static let dataTransferError = Status(type: 0, code: 0x04, retry: true)
  public static let internalError = Status(type: 0, code: 0x06, retry: true)
  public static let abortRequested = Status(type: 0, code: 0x07, retry: true)
  public static let failedFusedCommand = Status(type: 0, code: 0x09, retry: true)
  public static let missingFusedCommand = Status(type: 0, code: 0x0a)
  public static let invalidNamespaceOrFormat = Status(type: 0, code: 0x0b)
  public static let commandSequenceError = Status(type: 0, code: 0x0c)
  public static let invalidSGLSegmentDescriptor = Status(type: 0, code: 0x0d)
  public static let invalidNumberOfSGLDescriptors = Status(type: 0, code: 0x0e)
  public static let dataSGLLengthInvalid = Status(type: 0, code: 0x0f)
  public static let sglDescriptorTypeInvalid = Status(type: 0, code: 0x11)
  public static let prpOffsetInvalid = Status(type: 0, code: 0x13)
  public static let hostIdentifierInconsistentFormat = Status(type: 0, code: 0x18)
  public static let keepAliveTimerExpired = Status(type: 0, code: 0x19)
  public static let namespaceIsWriteProtected = Status(type: 0, code: 0x20)
  public static let transientTransportError = Status(type: 0, code: 0x22, retry: true)
  public static let lbaOutOfRange = Status(type: 0, code: 0x80)
  public static let capacityExceeded = Status(type: 0, code: 0x81)
  public static let reservationConflict = Status(type: 0, code: 0x83)

  // Command specific status (Base 2.1, 4.2.3.2).
  public static let completionQueueInvalid = Status(type: 1, code: 0x00)
  public static let invalidQueueIdentifier = Status(type: 1, code: 0x01)
  public static let invalidQueueSize = Status(type: 1, code: 0x02)
  public static let abortCommandLimitExceeded = Status(type: 1, code: 0x03)
  public static let asynchronousEventRequestLimitExceeded = Status(type: 1, code: 0x05)
  public static let invalidInterruptVector = Status(type: 1, code: 0x08)
  public static let invalidLogPage = Status(type: 1, code: 0x09)
  public static let invalidQueueDeletion = Status(type: 1, code: 0x0c)
  public static let featureIdentifierNotSaveable = Status(type: 1, code: 0x0d)
  public static let featureNotChangeable = Status(type: 1, code: 0x0e)
  public static let featureNotNamespaceSpecific = Status(type: 1, code: 0x0f)
  public static let ioCommandSetNotSupported = Status(type: 1, code: 0x29)
  /// NVM Command Set 1.1, figure "Command Specific Status Values".
  public static let commandSizeLimitExceeded = Status(type: 1, code: 0x83)

  // Media and data integrity errors (Base 2.1, 4.2.3.3).
  public static let writeFault = Status(type: 2, code: 0x80)
  public static let unrecoveredReadError = Status(type: 2, code: 0x81)
  public static let compareFailure = Status(type: 2, code: 0x85)
  public static let accessDenied = Status(type: 2, code: 0x86)

  /// Whether the medium, not the command, is at fault.
  @inlinable
  public var isMediaError: Bool { rawValue >> 8 & 7 == 2 && self.code != Status.compareFailure.code }
}
