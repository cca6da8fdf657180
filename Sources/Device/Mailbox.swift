import Backends
import CPlatform
import Glibc
import NVMe
import Platform
import Synchronization
import Target

/// What other threads ask of the engine's thread, and what it answers: 0 where nothing is said.
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
  /// The host unmasks INTx; signal it at once if it is asserted.
  case unmaskPin
  /// INTx must not be signalled while this is set.
  case disablePin(Bool)
  /// Answers 1 where INTx is asserted.
  case readPin
  case removeInterrupts
  /// Once it is answered, the page before is not looked at any more. The controller is in its initial state, without a
  /// and the new page is all zeros: the engine's record of doorbells agrees with both.
  case setDoorbells(UnsafeMutablePointer<Atomic<UInt32>>)
  case reset(ResetReason)
  /// Answers 1, or 0 while commands of a namespace that had this identifier are under way.
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
  private var posted = sem_t()
  private var answered = sem_t()
  /// Held by the thread that asks; several may.
  private var asking = pthread_mutex_t()

  init() {
    sem_init(&posted, 0, 0)
    sem_init(&answered, 0, 0)
    pthread_mutex_init(&asking, nil)
  }

  deinit {
    sem_destroy(&posted)
    sem_destroy(&answered)
    pthread_mutex_destroy(&asking)
  }

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
    // A day counts as no limit: another wait follows.
    var until = timespec.inMilliseconds(milliseconds ?? 86_400_000)
    while nvmepf_lock_until(&asking, &until) != 0 {
      guard milliseconds == nil else { return nil }
      until = timespec.inMilliseconds(86_400_000)
    }
    defer { pthread_mutex_unlock(&asking) }
    let limit = milliseconds == nil ? nil : until
    if isLate {
      guard waitAnswered(until: limit, onSilence) else { return nil }
      isLate = false
    }
    self.request = request
    full.store(true, ordering: .releasing)
    sem_post(&posted)
    isLate = !waitAnswered(until: limit, onSilence)
    return isLate ? nil : answer
  }

  /// - Returns: false after the time limit.
  private func waitAnswered(until limit: timespec?, _ onSilence: () -> Void) -> Bool {
    while true {
      var next = timespec.inMilliseconds(Mailbox.silenceMs)
      let isLast = limit.map { ($0.tv_sec, $0.tv_nsec) <= (next.tv_sec, next.tv_nsec) } ?? false
      if let limit, isLast { next = limit }
      let error = nvmepf_wait_until(&answered, &next)
      if error == 0 { return true }
      guard error == ETIMEDOUT else { continue }
      if isLast { return false }
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
    sem_trywait(&posted)
    full.store(false, ordering: .releasing)
    sem_post(&answered)
  }

  /// Sleep until there is a request, at most `milliseconds`.
  func wait(milliseconds: Int) {
    var until = timespec.inMilliseconds(milliseconds)
    // The engine notices this request through `isFull`; restore the count for `reply`.
    if nvmepf_wait_until(&posted, &until) == 0 { sem_post(&posted) }
  }
}
