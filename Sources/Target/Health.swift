import NVMe

/// Counters of the SMART / Health Information log page (Base 2.1, 5.1.12.1.3). Resets do not clear them. A checkpoint
/// may hold any values, so the counters wrap.
public struct Health: BitwiseCopyable, Equatable, Sendable {
  /// Executed read and compare commands.
  public var hostReadCommands: UInt64 = 0
  /// Executed write commands.
  public var hostWriteCommands: UInt64 = 0
  public var bytesRead: UInt64 = 0
  public var bytesWritten: UInt64 = 0
  public var mediaErrors: UInt64 = 0
  /// How often the controller lost its host without a shutdown.
  public var unsafeShutdowns: UInt64 = 0
  /// How often the controller was enabled from its initial state.
  public var powerCycles: UInt64 = 0
  /// When the controller was first enabled, in milliseconds since 1970; 0 before.
  public var firstEnabledMs: UInt64 = 0
  /// When it was last enabled.
  public var enabledMs: UInt64 = 0

  public init() {}

  /// Composite Temperature, in kelvin: nothing heats up here.
  static let temperature: UInt16 = 300

  /// A request was executed, or failed on the way.
  @inlinable @inline(__always)
  public mutating func count(_ request: IORequest, _ status: Status) {
    if status.isMediaError { mediaErrors &+= 1 }
    switch request.opcode {
    case .read, .compare:
      hostReadCommands &+= 1
      if status.isSuccess { bytesRead &+= request.byteCount }
    case .write:
      hostWriteCommands &+= 1
      if status.isSuccess { bytesWritten &+= request.byteCount }
    default: break
    }
  }
}

extension Target {
  /// CC.EN was set.
  public mutating func noteEnabled(nowMs: UInt64) {
    if health.firstEnabledMs == 0 { health.firstEnabledMs = nowMs }
    health.enabledMs = nowMs
    health.powerCycles = max(health.powerCycles, 1)
  }

  /// The host disconnected, like a power failure of a drive.
  /// - Parameter wasShutDown: it shut the controller down before.
  public mutating func noteHostGone(wasShutDown: Bool) {
    health.powerCycles &+= 1
    if !wasShutDown { health.unsafeShutdowns &+= 1 }
  }
}
