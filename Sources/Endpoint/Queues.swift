import NVMe
import Target

/// The engine's view of a submission queue.
struct SubmissionQueue: BitwiseCopyable {
  var base: UInt64 = 0
  /// Number of entries; 0 if the queue does not exist.
  var size: UInt32 = 0
  /// The next entry to fetch.
  var head: UInt32 = 0
  /// One past the newest entry.
  var tail: UInt32 = 0
  /// The doorbell as last read; differs from `tail` only if the host wrote an invalid value.
  var doorbell: UInt32 = 0
  var cqid = QueueID(0)
  /// Commands of this queue identifier between fetch and posting, including those of a deleted queue.
  var held: UInt32 = 0
  /// Its commands at backends.
  var executing: UInt32 = 0
  /// The first command of a fused operation whose second has not been fetched.
  var first = Command.none
  /// The Delete I/O Submission Queue command that waits for its commands; nothing more is fetched.
  var deletion = Command.none

  /// When it was created, commands of a queue of its identifier, which is gone, waited to be posted: anywhere.
  var hasPredecessor = false

  var exists: Bool { size != 0 }
  var isBeingDeleted: Bool { deletion != Command.none }
}

/// The engine's view of a completion queue, and the finished commands that wait for it.
struct CompletionQueue: BitwiseCopyable {
  var base: UInt64 = 0
  /// Number of entries; 0 if the queue does not exist.
  var size: UInt32 = 0
  /// The oldest entry that the host has not freed.
  var head: UInt32 = 0
  /// The next entry to post.
  var tail: UInt32 = 0
  var doorbell: UInt32 = 0
  var phase = true
  var interruptsEnabled = false
  var vector: UInt16 = 0
  /// Entries after which an interrupt is raised immediately; set from the features.
  var threshold: UInt32 = 1
  /// How long fewer entries may wait, in microseconds; set from the features.
  var aggregationUs: UInt32 = 0
  /// The aggregation timer is armed.
  var isAggregating = false
  /// A completion waits for room.
  var isBlocked = false
  /// Entries posted since the last interrupt.
  var unannounced: UInt32 = 0
  /// Number of submission queues that use it.
  var users: UInt32 = 0
  /// Commands waiting to be posted, oldest first, linked by `Command.next`.
  var firstWaiting = Command.none
  var lastWaiting = Command.none

  var exists: Bool { size != 0 }
  var isFull: Bool {
    if Mutant.queueOverrun.isPlanted { return false }
    if Mutant.fullTooEarly.isPlanted { return outstanding + 2 >= size }
    return (tail + 1 == size ? 0 : tail + 1) == head
  }
  /// Entries that the host has not freed.
  var outstanding: UInt32 { tail >= head ? tail - head : tail + size - head }
  /// Whether an interrupt was raised for any of them.
  var hasAnnouncedEntries: Bool { outstanding > unannounced }
}

/// A command from its fetch until its completion is posted.
struct Command: BitwiseCopyable {
  static let none: Int32 = -1

  enum State: UInt8, BitwiseCopyable {
    case free
    /// Fetched; it executes in this turn.
    case fetched
    /// At its backend.
    case executing
    /// A Delete I/O Submission Queue, a Set Features, an Asynchronous Event Request or a fused command that waits.
    case held
    /// Waiting to be posted.
    case finished
  }

  var sqe = SubmissionEntry()
  var qid = QueueID(0)
  var state = State.free
  var status = Status.success
  /// Dword 0 of its completion.
  var dw0: UInt32 = 0
  /// Submission queue head pointer to report if its queue is deleted before it is posted.
  var sqhd: UInt16 = 0
  /// The next command in its current list.
  var next = Command.none
}

/// State of a command at its backend.
struct Execution {
  var request: IORequest
  /// Number of its segments, held for the slot.
  var segments: Int
  /// Which operations wait for it.
  var awaitedBy: Waiters = []

  struct Waiters: OptionSet, BitwiseCopyable {
    let rawValue: UInt8
    /// The Set Features held in `heldSetFeatures`.
    static let setFeatures = Waiters(rawValue: 1)
    /// The fused operation.
    static let fusion = Waiters(rawValue: 2)
    static let all: Waiters = [.setFeatures, .fusion]
  }
}

/// The free slots of a pool. The lowest is allocated first, so the commands in flight determine the next slot.
struct SlotMap: ~Copyable {
  private let words: UnsafeMutablePointer<UInt64>
  private let wordCount: Int
  private(set) var freeCount: Int

  /// - Parameter capacity: a multiple of 64.
  init(capacity: Int) {
    wordCount = capacity / 64
    words = .allocate(capacity: wordCount)
    words.initialize(repeating: .max, count: wordCount)
    freeCount = capacity
  }

  deinit { words.deallocate() }

  @inline(__always)
  mutating func allocate() -> Int32 {
    precondition(freeCount > 0, "the caller counts the free slots")
    var index = 0
    while words[index] == 0 { index += 1 }
    let bit = words[index].trailingZeroBitCount
    words[index] &= words[index] - 1
    freeCount -= 1
    return Int32(index * 64 + bit)
  }

  /// - Returns: false if it is in use.
  mutating func allocate(_ slot: Int32) -> Bool {
    let bit: UInt64 = 1 << UInt64(slot % 64)
    guard words[Int(slot) / 64] & bit != 0 else { return false }
    words[Int(slot) / 64] &= ~bit
    freeCount -= 1
    return true
  }

  func isFree(_ slot: Int32) -> Bool { words[Int(slot) / 64] & 1 << UInt64(slot % 64) != 0 }

  @inline(__always)
  mutating func release(_ slot: Int32) {
    words[Int(slot) / 64] |= 1 << UInt64(slot % 64)
    freeCount += 1
  }

  mutating func releaseAll() {
    words.update(repeating: .max, count: wordCount)
    freeCount = wordCount * 64
  }
}

/// Identifiers of the existing queues, ascending: the order of the round robin.
struct QueueList: ~Copyable {
  private let ids: UnsafeMutablePointer<QueueID>
  private(set) var count = 0

  init(capacity: Int) {
    ids = .allocate(capacity: capacity)
    ids.initialize(repeating: .admin, count: capacity)
  }

  deinit { ids.deallocate() }

  subscript(index: Int) -> QueueID { ids[index] }

  mutating func insert(_ qid: QueueID) {
    var place = count
    while place > 0, ids[place - 1] > qid {
      ids[place] = ids[place - 1]
      place -= 1
    }
    ids[place] = qid
    count += 1
  }

  mutating func remove(_ qid: QueueID) {
    var kept = 0
    for place in 0..<count where ids[place] != qid {
      ids[kept] = ids[place]
      kept += 1
    }
    count = kept
  }

  mutating func removeAll() { count = 0 }
}
