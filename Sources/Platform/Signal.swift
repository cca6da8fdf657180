import CPlatform
import Glibc

/// One thread tells another that something has happened, or, raised from the beginning, that it no longer uses what
/// one thread at a time may use.
public final class Signal: @unchecked Sendable {
  private var semaphore = sem_t()

  public init(isRaised: Bool = false) { sem_init(&semaphore, 0, isRaised ? 1 : 0) }

  deinit { sem_destroy(&semaphore) }

  public func raise() { sem_post(&semaphore) }

  public func wait() { while sem_wait(&semaphore) != 0 {} }

  /// - Returns: false when it did not happen within that time.
  public func wait(milliseconds: Int) -> Bool {
    // Of a clock that nobody sets.
    let ns = Int(Clock.nanoseconds(CLOCK_MONOTONIC)) + milliseconds * 1_000_000
    var until = timespec(tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000)
    while true {
      let error = nvmepf_wait_until(&semaphore, &until)
      if error != EINTR { return error == 0 }
    }
  }
}
