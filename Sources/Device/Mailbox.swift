import Backends
import NVMe
import Platform
import Synchronization
import Target

/// Requests of other threads to the engine's thread. The answer is 0 unless stated otherwise.
enum ShardRequest {
  /// Answers its value.
  case readRegister(offset: UInt64, width: Int)
  case writeRegister(offset: UInt64, width: Int, value: UInt64)
  /// Answers 1, or 0 where the map does not take the range.
  case map(MemoryMap.Range)
  /// Once it is answered, nothing in the range is touched any more.
  case unmap(address: UInt64, length: UInt64)
  /// Signal the descriptor from now on; -1 for nothing. It changes on the engine's thread, so that no interrupt falls
  /// between the old one and the new. Answers 0, or an errno.
  case setInterrupt(InterruptLine, InterruptSignal?, descriptor: Int32)
  /// Raise the interrupt as if the device had.
  case triggerInterrupt(InterruptLine)
  case maskPin
  /// The host unmasks INTx; signal it immediately if it is asserted.
  case unmaskPin
  /// INTx must not be signalled while this is set.
  case disablePin(Bool)
  /// Answers 1 where INTx is asserted.
  case readPin
  case removeInterrupts
  /// Once it is answered, the engine no longer reads the previous page. The controller is in its initial state, without
  /// queues, and the new page is all zeros: the engine's record of doorbells agrees with both.
  case setDoorbells(UnsafeMutablePointer<Atomic<UInt32>>)
  case reset(ResetReason)
  /// Answers 1, or 0 while commands of a namespace that had this identifier are in flight.
  case attach(Namespace, NamespaceBackend)
  case detach(UInt32)
  case stop
}

/// One request at a time from one thread to another, answered with a number.
///
/// The engine checks for a request between two polls: one load of a cache line that rarely changes.
final class Mailbox: @unchecked Sendable {
  private let full = Atomic<Bool>(false)
  private var request = ShardRequest.stop
  private var answer: UInt64 = 0
  private let posted = Signal()
  private let answered = Signal()
  /// Held by the thread that asks; several may.
  private let asking = Signal(isRaised: true)

  /// Maximum time of an answer under normal conditions.
  private static let silenceMs = 1000
  /// A thread has given up a request that the engine's thread may still handle.
  private var isLate = false

  /// Send a request and wait for the answer.
  /// - Parameters:
  ///   - milliseconds: time limit, including waits for other requests; nil for none.
  ///   - onSilence: called after each second without an answer.
  /// - Returns: nil if the engine's thread did not answer in time. It may handle the request later.
  func ask(_ request: ShardRequest, withinMs milliseconds: Int?, onSilence: () -> Void) -> UInt64? {
    let endNs = milliseconds.map { Clock.monotonicNs() + UInt64($0) * 1_000_000 }
    guard wait(for: asking, until: endNs, {}) else { return nil }
    defer { asking.raise() }
    if isLate {
      guard wait(for: answered, until: endNs, onSilence) else { return nil }
      isLate = false
    }
    self.request = request
    full.store(true, ordering: .releasing)
    posted.raise()
    isLate = !wait(for: answered, until: endNs, onSilence)
    return isLate ? nil : answer
  }

  /// - Returns: false after the time limit.
  private func wait(for signal: Signal, until endNs: UInt64?, _ onSilence: () -> Void) -> Bool {
    while true {
      let now = Clock.monotonicNs()
      let leftMs = endNs.map { $0 > now ? Int(($0 - now + 999_999) / 1_000_000) : 0 } ?? .max
      if signal.wait(milliseconds: min(leftMs, Mailbox.silenceMs)) { return true }
      if leftMs <= Mailbox.silenceMs { return false }
      onSilence()
    }
  }

  @inline(__always)
  var isFull: Bool { full.load(ordering: .acquiring) }

  /// The waiting request. `isFull` must be true.
  func receive() -> ShardRequest { request }

  func reply(_ answer: UInt64) {
    self.answer = answer
    // Consumes the post of this request, unless `wait` did.
    _ = posted.wait(milliseconds: 0)
    full.store(false, ordering: .releasing)
    answered.raise()
  }

  /// Sleep until there is a request, at most `milliseconds`.
  func wait(milliseconds: Int) {
    // The engine notices this request through `isFull`; restore the count for `reply`.
    if posted.wait(milliseconds: milliseconds) { posted.raise() }
  }
}
