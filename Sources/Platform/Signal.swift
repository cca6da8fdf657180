import CPlatform
import Glibc

/// Tells another thread that something has happened. One that is raised from the beginning is a lock whose holder changes
/// with `wait` and `raise`, and whose `wait` can have a time limit.
public final class Signal: @unchecked Sendable {
  private var semaphore = sem_t()

  public init(isRaised: Bool = false) { sem_init(&semaphore, 0, isRaised ? 1 : 0) }

  deinit { sem_destroy(&semaphore) }

  public func raise() { sem_post(&semaphore) }

  public func wait() { while sem_wait(&semaphore) != 0 {} }

  /// - Returns: false if it was not raised within that time.
  public func wait(milliseconds: Int) -> Bool {
    // CLOCK_MONOTONIC is never set.
    let ns = Int(Clock.nanoseconds(CLOCK_MONOTONIC)) + milliseconds * 1_000_000
    var until = timespec(tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000)
    while true {
      let error = nvmepf_wait_until(&semaphore, &until)
      if error != EINTR { return error == 0 }
    }
  }
}
