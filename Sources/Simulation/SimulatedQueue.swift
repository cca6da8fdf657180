import NVMe
import Platform

/// The host's side of a queue pair.
struct SimulatedQueue: BitwiseCopyable {
  let qid: UInt16
  let submissionEntries: UInt32
  let completionEntries: UInt32
  /// The vector by which the host hears of completions; nil where it looks.
  let vector: UInt16?
  var tail: UInt32 = 0
  var head: UInt32 = 0
  var phase = true
  /// Entries that the controller has not said it is done with.
  var outstanding: UInt32 = 0
  /// An interrupt has come since the host last looked.
  var isInterrupted = false
  var nextSubmitNs: UInt64 = 0
  var nextReapNs: UInt64 = 0

  init(qid: UInt16, submissionEntries: UInt32, completionEntries: UInt32, vector: UInt16?) {
    self.qid = qid
    self.submissionEntries = submissionEntries
    self.completionEntries = completionEntries
    self.vector = vector
  }

  /// Where its entries lie in the host's memory.
  var submissionOffset: Int { 0x10000 * Int(qid) }
  var completionOffset: Int { 0x10000 * Int(qid) + 0x8000 }

  /// Write an entry into the submission queue, without ringing.
  mutating func put(_ sqe: SubmissionEntry, _ world: World) {
    (world.memory + submissionOffset + Int(tail) * SubmissionEntry.size).storeBytes(of: sqe, as: SubmissionEntry.self)
    tail = tail + 1 == submissionEntries ? 0 : tail + 1
    world.queues[Int(qid)].announced += 1
  }

  func ring(_ world: World) { world.doorbells[Doorbell.submissionTail(QueueID(qid)).index] = tail }

  /// The next completion, if it is there; its entry is freed.
  mutating func consume(_ world: World) -> CompletionEntry? {
    let place = world.memory + completionOffset + Int(head) * CompletionEntry.size
    let cqe = place.load(as: CompletionEntry.self)
    guard cqe.phase == phase else { return nil }
    head = head + 1 == completionEntries ? 0 : head + 1
    if head == 0 { phase.toggle() }
    return cqe
  }

  func hasCompletion(_ world: World) -> Bool {
    (world.memory + completionOffset + Int(head) * CompletionEntry.size).load(as: CompletionEntry.self).phase == phase
  }

  /// Give back the entries that were taken.
  func free(_ world: World) {
    let queue = world.queues + Int(qid)
    let entries = UInt64(completionEntries)
    let now = queue.pointee.freed % entries
    queue.pointee.freed += (UInt64(head) + entries - now) % entries
    world.doorbells[Doorbell.completionHead(QueueID(qid)).index] = head
  }
}

extension CompletionEntry {
  /// Whether the whole status field is this one, with More where it is an error: every error is in the log.
  func has(_ wanted: Status) -> Bool {
    status.rawValue == (wanted.isSuccess ? 0 : wanted.rawValue | Status.more)
  }
}

/// A command of a queue's place that is under way, and what its completion must be.
struct SimulatedCommand: BitwiseCopyable {
  var opcode = IOOpcode.flush
  var nsid: UInt32 = 1
  var block = 0
  var blocks = 0
  /// By queue and place: whose blocks they are, its own but for a fused Compare, which looks at those of its Write.
  var home = 0
  /// FUSE; the other of the two, and of a Write how its Compare went.
  var fuse: UInt32 = 0
  var partner = 0
  var compareStatus = Status.success
  var abort = Abort.notAsked
  /// The other of the two may have been aborted.
  var isLeftAlone = false

  /// What the controller answered to an Abort of the command.
  enum Abort { case notAsked, unanswered, refused, done }
  /// Its pages in the host's memory: where the place's lie, which is the first, and how far from each the next is.
  var pages = 0
  var firstPage = 0
  var pageStep = 1
  /// Of its data, in the first.
  var offset = 0
  /// Of a compare: what was changed makes it fail.
  var isChanged = false
  /// Of a compare: of some of its blocks nothing is known.
  var comparesUnknown = false
  var isUnderWay = false
  /// The namespaces as they were.
  var namespaceEpoch = 0
  var hadNamespace = true

  /// Data pages of a place. A step through them that is not 1 leaves gaps, or goes back.
  static let pagesMax = 5

  /// Where one of its pages lies, in the host's memory.
  func page(_ index: Int) -> Int { pages + ((firstPage + pageStep * index) % SimulatedCommand.pagesMax) << 12 }

  /// Where a byte of its data lies.
  func place(_ byte: Int) -> Int { page((offset + byte) >> 12) + (offset + byte) & 4095 }
}
