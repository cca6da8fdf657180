/// What the trace has told of a submission queue.
struct SubmissionQueue {
  /// A change of the tail that the engine saw: it covers the slots from `from` up to, not including, `to`.
  struct Doorbell: BitwiseCopyable {
    /// -1 where the value before is not known.
    var from: Int32
    var to: Int32
    var time: UInt64
    var pollSpan: UInt32

    /// Does it cover that slot? The size of the queue need not be known for that.
    func covers(_ slot: Int32) -> Bool {
      if from < 0 { return to == 0 || slot + 1 == to }
      return from <= to ? from <= slot && slot < to : slot >= from || slot < to
    }
  }

  /// A command that the host has handed to the queue.
  struct Submit: BitwiseCopyable {
    var cid: UInt16
    var opcode: UInt8
    var time: UInt64
    var doorbell: UInt64
  }

  let qid: UInt16
  /// PCI address, where the trace tells how an I/O queue was created.
  var base: UInt64?
  /// Counts whatever made its commands in flight incomplete.
  var epoch: UInt32 = 0
  /// The completion queue that its last completion went to.
  var cqid: UInt16
  /// The tail that the engine saw last; -1 where it is not known.
  var tail: Int32
  var doorbells = Fifo<Doorbell>()
  var submits = Fifo<Submit>()
  /// Position in `submits` up to which the host has rung the doorbell.
  var rung = 0
  /// The host's stream tells of this queue.
  var hasHost = false
  /// So does the engine's.
  var hasFetches = false

  var life: Life
  var hostEpoch: UInt32 = 0

  init(qid: UInt16, life: Life) {
    self.qid = qid
    self.life = life
    cqid = qid
    tail = life.resets > 0 ? 0 : -1
  }

  /// Does the doorbell behind the oldest cover that slot?
  func nextDoorbellCovers(_ slot: Int32) -> Bool {
    doorbells.count > 1 && doorbells[doorbells.start + 1].covers(slot)
  }

  /// Commands that the host rang the doorbell for and the engine has not fetched.
  var waiting: Int { max(0, min(rung, submits.end) - submits.start) }

  /// The queue is new: nothing of what was known of it holds.
  mutating func restart() {
    epoch &+= 1
    tail = 0
    doorbells.removeAll()
    submits.removeAll()
    rung = submits.end
    hasHost = false
  }

  /// Events of the queue may be missing.
  mutating func forget() {
    epoch &+= 1
    tail = -1
    doorbells.removeAll()
  }
}

/// What the trace has told of a completion queue.
struct CompletionQueue {
  struct Entry: BitwiseCopyable {
    /// Index in the pool; `Command.none` where the command is not known or has been dealt with.
    var command: UInt32
    var sqid: UInt16
    var cid: UInt16
    /// Where it lies in the queue.
    var slot: Int32
    /// The host has seen it.
    var isSeen = false
  }

  let qid: UInt16
  /// PCI address, where the trace tells how an I/O queue was created.
  var base: UInt64?
  /// Posted, not yet known to be reaped.
  var entries = Fifo<Entry>()
  /// Where the next entry will lie.
  var tail: Int32 = 0
  /// `tail` follows from what the trace told, not from a guess.
  var tailIsKnown: Bool
  var phase: Bool?
  /// Position in `entries` up to which interrupts have announced them.
  var announced = 0
  /// Position behind the last entry that the host saw, and up to which its doorbells have reaped.
  var seen = 0
  var reaped = 0
  /// Position up to which the doorbells that the engine saw have covered them.
  var covered = 0

  private var fullSince: UInt64?
  private var fullTotal: UInt64 = 0

  var life: Life

  init(qid: UInt16, life: Life) {
    self.qid = qid
    self.life = life
    tailIsKnown = life.resets > 0
  }

  /// How long it has been full, ever, in nanoseconds.
  func fullTime(at now: UInt64) -> UInt64 { fullTotal + (fullSince.map { now - $0 } ?? 0) }

  mutating func becameFull(at now: UInt64) { fullSince = fullSince ?? now }

  mutating func becameFree(at now: UInt64) {
    fullTotal = fullTime(at: now)
    fullSince = nil
  }

  /// The queue is empty: new when `isNew`, else because what was known of it no longer holds.
  /// - Precondition: the commands of its entries are dealt with.
  mutating func restart(isNew: Bool, at now: UInt64) {
    entries.removeAll()
    announced = entries.end
    seen = entries.end
    reaped = entries.end
    covered = entries.end
    tail = isNew ? 0 : tail
    tailIsKnown = isNew
    phase = nil
    becameFree(at: now)
  }

  /// Where the entry lies that is posted now. The phase tag changes with every pass through the queue, which tells its
  /// size (Base 2.1, 4.2.4).
  mutating func post(phase: Bool) -> Int32 {
    if let last = self.phase, last != phase {
      tail = 0
      tailIsKnown = true
    }
    self.phase = phase
    defer { tail = min(tail + 1, 65_536) }
    return tail
  }
}

/// Whose life a queue shares: a controller's, which resets end, and a stream's, in which events may be missing.
struct Life: Equatable {
  var resets: UInt32
  var stream: Int
  var gaps: UInt32

  enum Change {
    case none, reset, gap
  }

  /// What has happened to a queue that last saw this life and now sees `current`.
  func change(to current: Life) -> Change {
    if resets != current.resets { return .reset }
    // A queue may move to another stream; that alone loses nothing.
    return stream == current.stream && gaps != current.gaps ? .gap : .none
  }
}

/// Queues by their identifier, in the order in which the trace told of them.
struct QueueTable<Queue> {
  private var queues: [Queue] = []
  /// By queue identifier: index + 1.
  private var indices: [Int32] = []

  var count: Int { queues.count }

  subscript(index: Int) -> Queue {
    @inline(__always) get { queues[index] }
    @inline(__always) _modify { yield &queues[index] }
  }

  @inline(__always)
  func find(_ qid: UInt16) -> Int? {
    guard Int(qid) < indices.count, indices[Int(qid)] > 0 else { return nil }
    return Int(indices[Int(qid)]) - 1
  }

  mutating func insert(_ qid: UInt16, _ queue: Queue) -> Int {
    if indices.count <= Int(qid) {
      indices.append(contentsOf: repeatElement(0, count: Int(qid) + 1 - indices.count))
    }
    queues.append(queue)
    indices[Int(qid)] = Int32(queues.count)
    return queues.count - 1
  }
}
