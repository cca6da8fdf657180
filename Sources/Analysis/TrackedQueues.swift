/// What the trace shows of a submission queue.
struct TrackedSubmissionQueue: TrackedQueue {
  /// A change of the tail seen by the engine: it covers the slots from `from` up to but not including `to`.
  struct Doorbell: BitwiseCopyable {
    /// -1 if the previous value is unknown.
    var from: Int32
    var to: Int32
    var time: UInt64
    var pollSpan: UInt32
    /// Number of the event.
    var event: UInt64 = 0

    /// Whether it covers that slot; needs no queue size.
    func covers(_ slot: Int32) -> Bool {
      if from < 0 { return to == 0 || slot + 1 == to }
      return from <= to ? from <= slot && slot < to : slot >= from || slot < to
    }
  }

  /// A command that the host submitted to the queue.
  struct Submit: BitwiseCopyable {
    var cid: UInt16
    var opcode: UInt8
    var time: UInt64
    var doorbell: UInt64
    /// Numbers of the event and of the doorbell's.
    var event: UInt64
    var doorbellEvent: UInt64 = 0
  }

  let qid: UInt16
  /// PCI address, if the trace shows the creation of an I/O queue.
  var base: UInt64?
  /// Incremented when its commands in flight become incomplete; when that was the last time.
  var epoch: UInt32 = 0
  var epochBegin: UInt64 = 0
  /// Its I/O commands that were fetched in this epoch and have no completion.
  var executing: UInt64 = 0
  /// The completion queue of its latest completion.
  var cqid: UInt16
  /// The tail that the engine saw last; -1 if unknown.
  var tail: Int32
  var doorbells = Fifo<Doorbell>()
  var submits = Fifo<Submit>()
  /// Position in `submits` up to which the host has written the doorbell.
  var rung = 0
  /// The host's stream contains this queue.
  var hasHost = false
  /// The engine's stream contains it.
  var hasFetches = false

  var life: Life
  var hostEpoch: UInt32 = 0

  init(qid: UInt16, life: Life) {
    self.qid = qid
    self.life = life
    cqid = qid
    tail = life.resets > 0 ? 0 : -1
  }

  /// Whether the second-oldest doorbell covers that slot.
  func nextDoorbellCovers(_ slot: Int32) -> Bool {
    doorbells.count > 1 && doorbells[doorbells.start + 1].covers(slot)
  }

  /// Commands whose doorbell the host has written and which the engine has not fetched.
  var waiting: Int { max(0, min(rung, submits.end) - submits.start) }

  /// The queue is new: previous knowledge of it no longer applies.
  mutating func restart(at now: UInt64) {
    beginEpoch(at: now)
    tail = 0
    doorbells.removeAll()
    submits.removeAll()
    rung = submits.end
    hasHost = false
    hasFetches = false
  }

  /// Events of the queue may be lost.
  mutating func forget(at now: UInt64) {
    beginEpoch(at: now)
    tail = -1
    doorbells.removeAll()
  }

  private mutating func beginEpoch(at now: UInt64) {
    epoch &+= 1
    (epochBegin, executing) = (now, 0)
  }
}

/// What the trace shows of a completion queue.
struct TrackedCompletionQueue: TrackedQueue {
  struct Entry: BitwiseCopyable {
    /// Index in the pool; `TrackedCommand.none` if the command is unknown or finished.
    var command: UInt32
    var sqid: UInt16
    var cid: UInt16
    /// Its slot in the queue.
    var slot: Int32
    /// The host has seen it.
    var isSeen = false
  }

  let qid: UInt16
  /// PCI address, if the trace shows the creation of an I/O queue.
  var base: UInt64?
  /// Posted and not yet known to be reaped.
  var entries = Fifo<Entry>()
  /// Slot of the next entry.
  var tail: Int32 = 0
  /// `tail` is known from the trace, not guessed.
  var tailIsKnown: Bool
  var phase: Bool?
  /// Position in `entries` up to which interrupts have announced them.
  var announced = 0
  /// Position after the last entry that the host saw, and position up to which its doorbells have reaped.
  var seen = 0
  var reaped = 0
  /// Position up to which doorbells seen by the engine have covered them.
  var covered = 0

  private var fullSince: UInt64?
  private var fullTotal: UInt64 = 0

  var life: Life

  init(qid: UInt16, life: Life) {
    self.qid = qid
    self.life = life
    tailIsKnown = life.resets > 0
  }

  /// Total time that it has been full, in nanoseconds.
  func fullTime(at now: UInt64) -> UInt64 { fullTotal + (fullSince.map { now - $0 } ?? 0) }

  mutating func becameFull(at now: UInt64) { fullSince = fullSince ?? now }

  mutating func becameFree(at now: UInt64) {
    fullTotal = fullTime(at: now)
    fullSince = nil
  }

  /// Empty the queue: it is new if `isNew`, else previous knowledge of it no longer applies.
  /// - Precondition: the commands of its entries are finished.
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

  /// Slot of the entry that is posted now. The phase tag changes with every pass through the queue, which reveals its
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

/// What determines whether knowledge of a queue is valid: resets of its controller, and gaps of its stream.
struct Life: Equatable {
  var resets: UInt32
  var stream: Int
  var gaps: UInt32

  enum Change {
    case none, reset, gap
  }

  /// - Returns: what happened to a queue between this state and `current`.
  @inline(__always)
  mutating func move(to current: Life) -> Change {
    defer { self = current }
    if resets != current.resets { return .reset }
    // A queue may move to another stream; that alone loses nothing.
    return stream == current.stream && gaps != current.gaps ? .gap : .none
  }
}

/// A queue of a `QueueTable`.
protocol TrackedQueue {
  init(qid: UInt16, life: Life)
}

/// Queues by identifier, in order of appearance in the trace.
struct QueueTable<Queue: TrackedQueue> {
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

  /// The queue's index; a queue that is new to the trace begins in this state.
  @inline(__always)
  mutating func index(of qid: UInt16, _ life: Life) -> Int { find(qid) ?? insert(qid, Queue(qid: qid, life: life)) }

  private mutating func insert(_ qid: UInt16, _ queue: Queue) -> Int {
    if indices.count <= Int(qid) {
      indices.append(contentsOf: repeatElement(0, count: Int(qid) + 1 - indices.count))
    }
    queues.append(queue)
    indices[Int(qid)] = Int32(queues.count)
    return queues.count - 1
  }
}
