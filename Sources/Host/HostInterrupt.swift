import CPlatform
import Glibc

/// An interrupt as a user-space driver hears it: a counter that the device raises.
public final class HostInterrupt: Sendable {
  public let descriptor: Int32

  public init() throws(HostError) {
    descriptor = nvmepf_eventfd()
    guard descriptor >= 0 else { throw HostError("cannot make an event descriptor: \(text(-descriptor))") }
  }

  deinit { close(descriptor) }

  /// Sleep until the interrupt is raised, at most `milliseconds`.
  /// - Returns: how often it was raised since the last time; 0 when it was not.
  public func wait(milliseconds: Int32) -> UInt64 {
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&polled, 1, milliseconds) > 0 else { return 0 }
    var count: UInt64 = 0
    return read(descriptor, &count, 8) == 8 ? count : 0
  }
}
