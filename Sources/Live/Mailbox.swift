import Glibc
import NVMe
import Synchronization
import Target

/// What the serving thread asks of the engine's thread.
enum ShardRequest {
  case readRegister(offset: UInt64, width: Int)
  case writeRegister(offset: UInt64, width: Int, value: UInt64)
  case map(MemoryMap.Range)
  case unmap(address: UInt64, length: UInt64)
  case setInterrupt(InterruptLine, descriptor: Int32)
  case triggerInterrupt(InterruptLine)
  case maskPin
  case unmaskPin
  case disablePin(Bool)
  case readPin
  case removeInterrupts
  case reset(ResetReason)
  case attach(Namespace, NamespaceBackend)
  case detach(UInt32)
  case stop
}

/// One request at a time from one thread to another, answered with a number.
///
/// The engine looks for a request between two polls: one load of a line that seldom changes.
final class Mailbox: @unchecked Sendable {
  private let full = Atomic<Bool>(false)
  private var request = ShardRequest.stop
  private var answer: UInt64 = 0
  private var posted = sem_t()
  private var answered = sem_t()
  /// Held by whoever asks: several threads may.
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

  /// How long an answer takes at most where nothing is amiss.
  private static let silenceMs = 1000

  /// Ask, and wait for the answer.
  /// - Parameter onSilence: called as often as a second has passed without one.
  func ask(_ request: ShardRequest, onSilence: () -> Void) -> UInt64 {
    pthread_mutex_lock(&asking)
    defer { pthread_mutex_unlock(&asking) }
    self.request = request
    full.store(true, ordering: .releasing)
    sem_post(&posted)
    while true {
      var until = Mailbox.time(inMilliseconds: Mailbox.silenceMs)
      if sem_timedwait(&answered, &until) == 0 { return answer }
      if errno == ETIMEDOUT { onSilence() }
    }
  }

  @inline(__always)
  var isFull: Bool { full.load(ordering: .acquiring) }

  /// The waiting request. `isFull` was true.
  func take() -> ShardRequest { request }

  func reply(_ answer: UInt64) {
    self.answer = answer
    // The post that belongs to this request, unless `wait` took it.
    sem_trywait(&posted)
    full.store(false, ordering: .releasing)
    sem_post(&answered)
  }

  /// Sleep until there is a request, at most `milliseconds`.
  func wait(milliseconds: Int) {
    var until = Mailbox.time(inMilliseconds: milliseconds)
    // A request found this way is noticed through `isFull`; the count is put back for `reply`.
    if sem_timedwait(&posted, &until) == 0 { sem_post(&posted) }
  }

  private static func time(inMilliseconds milliseconds: Int) -> timespec {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    time.tv_nsec += milliseconds * 1_000_000
    time.tv_sec += time.tv_nsec / 1_000_000_000
    time.tv_nsec %= 1_000_000_000
    return time
  }
}
