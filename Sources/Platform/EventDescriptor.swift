import CPlatform
import Glibc

/// A counter that one thread raises and another waits for with `poll`: an eventfd. Neither ever blocks.
public final class EventDescriptor: Sendable {
  /// Readable while it is raised.
  public let descriptor: Int32

  public init() throws(SystemError) {
    descriptor = nvmepf_eventfd()
    guard descriptor >= 0 else { throw SystemError(code: -descriptor) }
  }

  deinit { close(descriptor) }

  /// From any thread or a signal handler.
  public func raise() {
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }

  /// Sleep until it is raised, at most for `limit`.
  public func wait(atMostMs limit: Int32) {
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = poll(&polled, 1, limit)
  }

  /// - Returns: how often it was raised since the last call; 0 if it was not.
  public func consume() -> UInt64 {
    var count: UInt64 = 0
    return read(descriptor, &count, 8) == 8 ? count : 0
  }
}

extension EventDescriptor {
  /// Whether a foreign descriptor is an eventfd: nothing else accepts eight bytes at once and never raises SIGPIPE.
  ///
  /// Leaves its flags alone. O_NONBLOCK belongs to the client as well: a blocking `read` of it would no longer wait,
  /// and a malicious client would clear the flag again.
  public static func isValid(_ descriptor: Int32) -> Bool {
    var status = stat()
    // An anonymous inode has no type, which excludes pipes, sockets and files, even without /proc.
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == 0 else { return false }
    var name = [UInt8](repeating: 0, count: 64)
    let count = name.withUnsafeMutableBytes {
      readlink("/proc/self/fd/\(descriptor)", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 || name[..<count].elementsEqual("anon_inode:[eventfd]".utf8)
  }
}
