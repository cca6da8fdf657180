/// Dword 0 of an Asynchronous Event Request's completion (Base 2.1, 5.1.2.1).
public struct AsynchronousEvent: Hashable, Sendable {
  /// Asynchronous Event Type.
  public var type: UInt8
  /// Asynchronous Event Information.
  public var information: UInt8
  /// The log page whose reading clears the event.
  public var logPage: UInt8

  public init(type: UInt8, information: UInt8, logPage: UInt8) {
    self.type = type
    self.information = information
    self.logPage = logPage
  }

  /// Dword 0 of its completion (Base 2.1, 5.1.2).
  public var dw0: UInt32 { UInt32(type & 7) | UInt32(information) << 8 | UInt32(logPage) << 16 }

  /// Error status: a doorbell of a queue that does not exist was written.
  public static let writeToInvalidDoorbell = AsynchronousEvent(type: 0, information: 0, logPage: 1)
  /// Error status: an invalid doorbell value was written.
  public static let invalidDoorbellWriteValue = AsynchronousEvent(type: 0, information: 1, logPage: 1)
  /// SMART / health status: the temperature has reached a threshold.
  public static let temperatureThreshold = AsynchronousEvent(type: 1, information: 1, logPage: 2)
  /// Notice: namespaces were added, removed or changed.
  public static let namespaceAttributeChanged = AsynchronousEvent(type: 2, information: 0, logPage: 4)
}
