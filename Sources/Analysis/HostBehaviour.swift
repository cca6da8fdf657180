/// Something that a host did and a controller cannot work with, or that a controller did because of it.
public struct HostBehaviour: Equatable, Sendable {
  /// What it was.
  public enum Kind: String, CaseIterable, Sendable {
    /// The controller could not read a submission queue entry, or write a completion queue entry.
    case failedFetch = "failed-fetch"
    case failedCompletion = "failed-completion"
    /// The controller stopped (CSTS.CFS) for another reason.
    case fatal
    /// A command's data or list was not accessible.
    case unreachableMemory = "unreachable-memory"
    /// A doorbell value that is no entry of the queue.
    case doorbellOutsideQueue = "doorbell-outside-queue"
    /// A doorbell of a queue that does not exist.
    case doorbellWithoutQueue = "doorbell-without-queue"
    /// A tail doorbell that adds commands to a full submission queue.
    case tailPassesHead = "tail-passes-head"
    /// A head doorbell that frees completion queue entries that were not posted.
    case headPassesTail = "head-passes-tail"
    /// A command with the identifier of a command in flight of the same queue.
    case reusedIdentifier = "reused-identifier"
    /// Completions waited because the host did not free an entry.
    case completionQueueFull = "completion-queue-full"
  }

  /// Why a controller stopped without failing to reach a queue.
  public enum StopCause: String, Sendable {
    case keepAlive = "keep-alive"
    /// CC.EN was set with unsupported values.
    case configuration
    /// The flush of a shutdown failed.
    case flush
    case unknown
  }

  public let kind: Kind
  /// The submission queue; for `failedCompletion`, `headPassesTail` and `completionQueueFull` the completion queue.
  /// Nil if the kind has no queue.
  public var qid: UInt16?
  public internal(set) var count: UInt64 = 1
  /// The first occurrence: number of its event, from 1 in the order of `dump`, and its time.
  public var firstEvent: UInt64 = 0
  public var firstNs: UInt64 = 0

  // Of the first occurrence, as far as its kind has them.
  public var cid: UInt16?
  /// Host address of memory that was not accessible, if known.
  public var address: UInt64?
  /// Value of the doorbell, and entries of the queue.
  public var doorbell: UInt32?
  public var entries: UInt32?
  /// The controller stopped because of it.
  public var isFatal = false
  public var cause: StopCause?
  /// A full completion queue: the host freed no entry until the trace ended.
  public internal(set) var isStillFull = false

  init(_ kind: Kind, qid: UInt16? = nil) { (self.kind, self.qid) = (kind, qid) }

  /// Where the NVM Express Base Specification 2.1 says what is right.
  public var section: String {
    switch kind {
    case .failedFetch, .failedCompletion: isFatal ? "9.5" : "4.1.1"
    case .fatal:
      switch cause {
      case .keepAlive: "3.9"
      case .configuration: "3.5.1"
      case .flush: "3.6.1"
      case .unknown, nil: "9.5"
      }
    case .unreachableMemory: "4.2.3.1"
    case .doorbellOutsideQueue, .doorbellWithoutQueue, .tailPassesHead, .headPassesTail: "5.1.2.1"
    case .reusedIdentifier: "4.1"
    case .completionQueueFull: "3.3.1"
    }
  }
}
