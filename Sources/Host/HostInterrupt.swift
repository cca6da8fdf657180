import Glibc
import Platform

/// An interrupt for a user-space driver: a counter that the device raises.
public final class HostInterrupt: Sendable {
  private let event: EventDescriptor
  var descriptor: Int32 { event.descriptor }

  init() throws(HostError) {
    do throws(SystemError) { event = try EventDescriptor() } catch {
      throw HostError("cannot create an event descriptor: \(error)")
    }
  }

  /// Sleep until the interrupt is raised, at most `milliseconds`.
  /// - Returns: how often it was raised since the last call; 0 for a timeout.
  public func wait(milliseconds: Int32) -> UInt64 {
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&polled, 1, milliseconds) > 0 else { return 0 }
    return event.consume()
  }
}
