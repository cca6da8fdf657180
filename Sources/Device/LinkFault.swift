import Backends
import Platform
import Synchronization

/// Takes the link down for a time when a fault asks for it. The engine's thread cannot do that itself, because it must
/// answer meanwhile.
final class LinkFault: @unchecked Sendable {
  /// Nanoseconds that the link stays down; 0 for no request.
  private let requestNs = Atomic<UInt64>(0)
  private let isEnding = Atomic<Bool>(false)
  private let wanted = Signal()
  private var thread: WorkerThread?

  /// Ask for a loss, from the engine's thread. A loss in progress is not prolonged.
  func lose(ns: UInt64) {
    requestNs.store(ns, ordering: .releasing)
    wanted.raise()
  }

  /// - Parameter setLink: called on a thread of its own, until `stop` returns.
  func start(_ setLink: @escaping @Sendable (Bool) -> Void) throws(SystemError) {
    thread = try WorkerThread(name: "nvmepf-link") { [self] in
      while true {
        wanted.wait()
        if isEnding.load(ordering: .acquiring) { return }
        let ns = requestNs.exchange(0, ordering: .acquiringAndReleasing)
        guard ns > 0 else { continue }
        setLink(false)
        waitDown(ns)
        setLink(true)
        requestNs.store(0, ordering: .releasing)
      }
    }
  }

  /// The link is down for so long, or until the end.
  private func waitDown(_ ns: UInt64) {
    let end = ns == .max ? .max : Clock.monotonicNs() &+ ns
    while !isEnding.load(ordering: .acquiring), Clock.monotonicNs() < end {
      let leftMs = (end &- Clock.monotonicNs()) / 1_000_000
      _ = wanted.wait(milliseconds: Int(min(leftMs + 1, 100)))
    }
    if isEnding.load(ordering: .acquiring) { wanted.raise() }
  }

  /// End the thread.
  func stop() {
    guard let thread else { return }
    isEnding.store(true, ordering: .releasing)
    wanted.raise()
    thread.join()
    self.thread = nil
  }
}
