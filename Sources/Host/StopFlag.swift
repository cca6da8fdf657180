import Synchronization
import Trace

/// Tells a running workload, from any thread, to come to its end.
public final class StopFlag: Sendable {
  /// When it was told, nanoseconds; 0 while it has not been.
  private let stoppedNs = Atomic<UInt64>(0)

  /// What is under way when the end is asked for may take this much longer.
  private static let graceNs: UInt64 = 1_000_000_000

  public init() {}

  public func stop() {
    _ = stoppedNs.compareExchange(expected: 0, desired: Clock.monotonicNs(), ordering: .relaxed)
  }

  public var isStopped: Bool { stoppedNs.load(ordering: .relaxed) != 0 }

  /// Whether a wait is to be given up, whatever it is for.
  func isOver(_ now: UInt64) -> Bool {
    let stopped = stoppedNs.load(ordering: .relaxed)
    return stopped != 0 && now > stopped && now - stopped >= StopFlag.graceNs
  }
}
