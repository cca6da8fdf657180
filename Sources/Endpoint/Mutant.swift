/// Faults that can be planted in the engine to test whether the simulation finds them (`make mutants`).
public enum Mutant: String, CaseIterable, Sendable {
  /// The phase tag does not change when a completion queue wraps around.
  case phaseFlip = "phase-flip"
  /// SQHD is one entry ahead.
  case wrongHead = "wrong-sqhd"
  /// The second entry of a PRP list is read in place of the first.
  case listOffByOne = "prp-list-off-by-one"
  /// Entries that have waited long enough raise no interrupt.
  case lostInterrupt = "lost-coalesced-interrupt"
  /// Some entries are fetched twice.
  case doubleFetch = "double-fetch"
  /// A completion queue is never full.
  case queueOverrun = "completion-queue-overrun"
  /// A completion queue is full one entry too early.
  case fullTooEarly = "completion-queue-full-test"
  /// The slots of Compare commands are never released.
  case slotLeak = "slot-leak"
  /// Any value of a completion queue's head doorbell is accepted.
  case headNotChecked = "head-not-checked"
  /// A detached namespace stays.
  case staleNamespace = "stale-namespace"
  /// A reset keeps the commands at backends.
  case resetKeepsCommand = "reset-keeps-command"
  /// A shutdown completes immediately.
  case shutdownWithoutFlush = "shutdown-without-flush"
  /// Failed data transfers are reported as successful.
  case transferErrorHidden = "transfer-error-hidden"
  /// A submission queue created after a reset sees the doorbell of the previous one.
  case staleDoorbell = "stale-doorbell"
  /// The Write of a fused operation is performed although its Compare failed.
  case fusedWriteDone = "fused-write-carried-out"
  /// Commands are fetched and executed between the commands of a fused operation.
  case fetchedBetween = "fetched-between-fused"
  /// The Keep Alive Timer is not restarted when it expires after traffic.
  case keepAliveNotRearmed = "keep-alive-not-rearmed"
  /// The expiry of the Keep Alive Timer is ignored.
  case keepAliveIgnored = "keep-alive-expiry-ignored"
  /// Abort always reports that the command was aborted.
  case abortLies = "abort-reports-success"
  /// An aborted command completes twice.
  case abortedTwice = "aborted-completes-twice"
  /// An aborted command stays at its backend.
  case abortKeepsRequest = "abort-keeps-request"
  /// Every segment of a command transfers the beginning of its data.
  case segmentsAtStart = "segments-at-offset-0"
  /// Two segments transfer each other's data.
  case segmentsSwapped = "segments-swapped"
  /// The last entry of a PRP list's page counts as data even if the list continues.
  case listChainIgnored = "prp-list-chain-ignored"
  /// A read completes without transferring data.
  case readMovesNothing = "read-moves-nothing"
  /// A shutdown completes when its flush is submitted.
  case shutdownBeforeFlush = "shutdown-before-flush"
  /// A queue created without interrupts raises them.
  case interruptUnasked = "interrupt-without-ien"
  /// An interrupt uses another vector than its queue's.
  case wrongVector = "wrong-vector"
  /// An interrupt announces a wrong number of entries.
  case wrongCount = "wrong-interrupt-count"
  /// Every entry is announced immediately, whatever the threshold.
  case thresholdIgnored = "interrupt-threshold-ignored"
  /// Some completions of backends are ignored.
  case completionDropped = "completion-dropped"
  /// The status of a failed command lacks the More bit.
  case moreMissing = "status-without-more"

  #if MUTANTS
    /// The planted fault; set once before the engine runs.
    nonisolated(unsafe) public static var planted: Mutant?
  #endif

  /// Whether this fault is planted; always false in a build without mutants.
  @inline(__always)
  var isPlanted: Bool {
    #if MUTANTS
      return Mutant.planted == self
    #else
      return false
    #endif
  }
}
