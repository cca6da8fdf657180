import NVMe

/// The engine's view of a submission queue.
struct SubmissionQueue: BitwiseCopyable {
  var base: UInt64 = 0
  /// Entries; 0 where the queue does not exist.
  var size: UInt32 = 0
  /// The next entry to fetch.
  var head: UInt32 = 0
  /// One past the newest entry.
  var tail: UInt32 = 0
  /// The doorbell as last seen; equal to `tail` unless the host wrote what the queue cannot take.
  var doorbell: UInt32 = 0
  var cqid = QueueID(0)

  var exists: Bool { size != 0 }
}

/// The engine's view of a completion queue, and the finished commands that wait to be posted to it.
struct CompletionQueue: BitwiseCopyable {
  var base: UInt64 = 0
  /// Entries; 0 where the queue does not exist.
  var size: UInt32 = 0
  /// The oldest entry that the host has not freed.
  var head: UInt32 = 0
  /// The next entry to post.
  var tail: UInt32 = 0
  var doorbell: UInt32 = 0
  var phase = true
  var interruptsEnabled = false
  var vector: UInt16 = 0
  /// Entries after which an interrupt is raised at once; follows the features.
  var threshold: UInt32 = 1
  /// A completion waits for room.
  var isBlocked = false
  /// Entries posted since the last interrupt.
  var unannounced: UInt32 = 0
  /// Submission queues that complete here.
  var users: UInt32 = 0
  /// Commands that wait to be posted, oldest first, linked by `Command.next`.
  var firstWaiting = Command.none
  var lastWaiting = Command.none

  var exists: Bool { size != 0 }
  var isFull: Bool { (tail + 1 == size ? 0 : tail + 1) == head }
  /// Entries that the host has not freed.
  var outstanding: UInt32 { tail >= head ? tail - head : tail + size - head }
}

/// A command from its fetch until its completion is posted.
struct Command: BitwiseCopyable {
  static let none: Int32 = -1

  var sqe = SubmissionEntry()
  var qid = QueueID(0)
  var status = Status.success
  /// Dword 0 of its completion.
  var dw0: UInt32 = 0
  /// The next command in whatever list this one is in.
  var next = Command.none
}

/// Identifiers of the queues that exist, in ascending order: the order of the round robin.
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
