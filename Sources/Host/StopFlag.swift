import Platform
import Synchronization
import Trace

/// Tells a running workload, from any thread, to come to its end. What is under way gets a few seconds more; what it is
/// then still waiting for is named and left.
public final class StopFlag: Sendable {
  /// When it was told, nanoseconds; 0 while it has not been.
  private let stoppedNs = Atomic<UInt64>(0)
  /// Called with what a wait is for that goes on after the stop.
  let tell: @Sendable (String) -> Void

  /// A wait that goes on for this long after the stop says what it is for.
  private static let silenceNs: UInt64 = 1_000_000_000
  /// No wait goes on for longer than this after the stop.
  private static let graceNs: UInt64 = 5_000_000_000

  /// - Parameter tell: called with what a wait is for that goes on after the stop; once for each, on any thread.
  public init(tell: @escaping @Sendable (String) -> Void = { _ in }) { self.tell = tell }

  public func stop() {
    _ = stoppedNs.compareExchange(expected: 0, desired: Clock.monotonicNs(), ordering: .relaxed)
  }

  public var isStopped: Bool { stoppedNs.load(ordering: .relaxed) != 0 }

  /// Whether a wait has gone on for so long after the stop that it should say what it is for.
  func isOverdue(_ now: UInt64) -> Bool { elapsed(now) >= StopFlag.silenceNs }

  /// Whether every wait is to be left.
  func isOver(_ now: UInt64) -> Bool { elapsed(now) >= StopFlag.graceNs }

  /// Nanoseconds since the stop; 0 before it.
  private func elapsed(_ now: UInt64) -> UInt64 {
    let stopped = stoppedNs.load(ordering: .relaxed)
    return stopped != 0 && now > stopped ? now - stopped : 0
  }
}
