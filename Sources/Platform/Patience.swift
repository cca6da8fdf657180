import CPlatform
import Glibc

/// What a thread does while it waits for another: spin as long as the answer may come at any moment, then give its core
/// away between looks, then sleep. Hosts, engines and the producers of rings wait by the same policy.
public struct Patience: Sendable {
  public enum Step: Equatable, Sendable {
    case spin
    case yield
    /// For this long, or until an interrupt where there is one.
    case sleep(ns: UInt64)
  }

  private static let sleepMinNs: UInt64 = 50_000
  private static let sleepMaxNs: UInt64 = 10_000_000

  private let spinNs: UInt64
  private let sleepsAfterNs: UInt64
  /// When the waiting began; 0 before the first step.
  private var since: UInt64 = 0

  /// - Parameters:
  ///   - spinNs: how long to spin.
  ///   - sleepsAfterNs: until then yield; no less than `spinNs`.
  public init(spinNs: UInt64, sleepsAfterNs: UInt64) {
    precondition(spinNs <= sleepsAfterNs)
    (self.spinNs, self.sleepsAfterNs) = (spinNs, sleepsAfterNs)
  }

  /// Who has a core to itself: it sleeps only when nothing that works at all takes that long.
  public static let polling = Patience(spinNs: 20_000, sleepsAfterNs: 100_000_000)
  /// Who is woken by an interrupt, since threads outnumber cores. An engine that runs answers within the spin; one that
  /// does not waits for this core. A yield would not give it: the scheduler goes on sharing it evenly with all that yield,
  /// and eight of them took 12 s on one core for what takes 0.9 s with sleep.
  public static let interrupted = Patience(spinNs: 4_000, sleepsAfterNs: 4_000)
  /// Who waits for a thread that writes a file.
  public static let writing = Patience(spinNs: 20_000, sleepsAfterNs: 200_000)

  /// An engine that polls for its hosts. Whoever shares its core gets it as soon as a host does not answer at once.
  /// - Parameter idleMs: without work for this long it sleeps between looks.
  public static func serving(idleMs: UInt32) -> Patience {
    Patience(spinNs: 20_000, sleepsAfterNs: max(UInt64(idleMs) * 1_000_000, 20_000))
  }

  /// What was waited for has come.
  @inline(__always)
  public mutating func restart() { since = 0 }

  /// What to do before the next look. A sleep is a sixteenth of the wait so far, so an answer is seen at most that late.
  /// - Parameter now: nanoseconds of a monotonic clock.
  public mutating func step(now: UInt64) -> Step {
    if since == 0 { since = now }
    let waited = now &- since
    if waited < spinNs { return .spin }
    if waited < sleepsAfterNs { return .yield }
    return .sleep(ns: min(max(waited / 16, Patience.sleepMinNs), Patience.sleepMaxNs))
  }

  /// Take that step.
  public mutating func pause() {
    switch step(now: Clock.monotonicNs()) {
    case .spin: nvmepf_relax()
    case .yield: sched_yield()
    case .sleep(let ns): Patience.sleep(ns: ns)
    }
  }

  /// At most ten milliseconds; a signal ends it early.
  public static func sleep(ns: UInt64) {
    var time = timespec(tv_sec: 0, tv_nsec: Int(min(ns, sleepMaxNs)))
    nanosleep(&time, nil)
  }
}
