import Platform
import Synchronization
import Trace

/// Stops a running workload, from any thread. Commands in flight get a few more seconds; then they are named and
/// abandoned.
public final class StopFlag: Sendable {
  /// Time of the stop, nanoseconds; 0 before it.
  private let stoppedNs = Atomic<UInt64>(0)
  /// Called with a description of a wait that continues after the stop.
  private let tell: @Sendable (String) -> Void

  /// A wait that lasts this long after the stop is reported.
  private static let silenceNs: UInt64 = 1_000_000_000
  /// Every wait ends this long after the stop.
  private static let graceNs: UInt64 = 5_000_000_000

  /// - Parameter tell: called with a description of a wait that continues after the stop; once per wait, on any thread.
  public init(tell: @escaping @Sendable (String) -> Void = { _ in }) { self.tell = tell }

  /// Ask the workload to stop.
  public func stop() {
    _ = stoppedNs.compareExchange(expected: 0, desired: Clock.monotonicNs(), ordering: .relaxed)
  }

  public var isStopped: Bool { stoppedNs.load(ordering: .relaxed) != 0 }

  /// Report a wait that has lasted long after the stop.
  /// - Returns: whether it has been reported, now or before.
  func explain(_ wait: @autoclosure () -> String, _ now: UInt64, unless hasExplained: Bool) -> Bool {
    guard !hasExplained, elapsed(now) >= StopFlag.silenceNs else { return hasExplained }
    tell(wait())
    return true
  }

  /// Whether every wait must end.
  func isOver(_ now: UInt64) -> Bool { elapsed(now) >= StopFlag.graceNs }

  /// Nanoseconds since the stop; 0 before it.
  private func elapsed(_ now: UInt64) -> UInt64 {
    let stopped = stoppedNs.load(ordering: .relaxed)
    return stopped != 0 && now > stopped ? now - stopped : 0
  }
}
