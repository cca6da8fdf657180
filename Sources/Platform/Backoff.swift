import CPlatform
import Glibc

/// How a thread waits for another: it spins while the answer may come at any moment, then yields its core between
/// polls, then sleeps. Hosts, engines and the producers of rings share this policy.
public struct Backoff: Sendable {
  /// What a waiting thread does next.
  public enum Step: Equatable, Sendable {
    case spin
    case yield
    /// For this long, or until an interrupt if there is one.
    case sleep(ns: UInt64)
  }

  private static let sleepMinNs: UInt64 = 50_000
  private static let sleepMaxNs: UInt64 = 10_000_000

  private let spinNs: UInt64
  private let sleepsAfterNs: UInt64
  /// Start of the wait; 0 before the first step.
  private var since: UInt64 = 0

  /// - Parameters:
  ///   - spinNs: how long to spin.
  ///   - sleepsAfterNs: how long to spin and yield before sleeping; at least `spinNs`.
  public init(spinNs: UInt64, sleepsAfterNs: UInt64) {
    precondition(spinNs <= sleepsAfterNs)
    (self.spinNs, self.sleepsAfterNs) = (spinNs, sleepsAfterNs)
  }

  /// For a thread with its own core: it sleeps only when the other side takes unusually long.
  public static let polling = Backoff(spinNs: 20_000, sleepsAfterNs: 100_000_000)
  /// For a thread woken by an interrupt, because threads outnumber cores. A running engine answers within the spin;
  /// otherwise it waits for this core. A yield would not help: the scheduler keeps sharing the core among all yielding
  /// threads, and eight of them took 12 s on one core for work that takes 0.9 s with sleep.
  public static let interrupted = Backoff(spinNs: 4_000, sleepsAfterNs: 4_000)
  /// For a thread that waits for another to write a file.
  public static let writing = Backoff(spinNs: 20_000, sleepsAfterNs: 200_000)

  /// For an engine that polls. It yields its core as soon as a host does not answer immediately.
  /// - Parameter idleMs: without work for this long it sleeps between polls.
  public static func serving(idleMs: UInt32) -> Backoff {
    Backoff(spinNs: 20_000, sleepsAfterNs: max(UInt64(idleMs) * 1_000_000, 20_000))
  }

  /// End the wait.
  @inline(__always)
  public mutating func restart() { since = 0 }

  /// The step before the next poll. A sleep lasts a sixteenth of the wait so far, which bounds the delay of an answer.
  /// - Parameter now: nanoseconds of a monotonic clock.
  public mutating func step(now: UInt64) -> Step {
    if since == 0 { since = now }
    let waited = now &- since
    if waited < spinNs { return .spin }
    if waited < sleepsAfterNs { return .yield }
    return .sleep(ns: min(max(waited / 16, Backoff.sleepMinNs), Backoff.sleepMaxNs))
  }

  /// Perform the next step.
  public mutating func pause() {
    switch step(now: Clock.monotonicNs()) {
    case .spin: nvmepf_relax()
    case .yield: sched_yield()
    case .sleep(let ns): Backoff.sleep(ns: ns)
    }
  }

  /// Sleep at most ten milliseconds; a signal ends it early.
  public static func sleep(ns: UInt64) {
    var time = timespec(tv_sec: 0, tv_nsec: Int(min(ns, sleepMaxNs)))
    nanosleep(&time, nil)
  }
}
