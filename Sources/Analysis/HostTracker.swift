import Events
import NVMe
import Trace

/// Compares what a host does with the queues that it created, as the engine's stream shows both, and decides which
/// doorbells are valid. Without a queue's creation in the trace, or after lost events, it judges nothing that depends on
/// them.
struct HostTracker {
  /// Kinds and queues that are kept apart; more are only counted.
  static let behaviourMax = 64

  /// What is known of the two queues with one identifier.
  private struct Queue {
    var epoch: UInt32 = 0
    /// Entries; 0 if the queue does not exist, or its creation is unknown.
    var submissionEntries: UInt32 = 0
    var completionEntries: UInt32 = 0
    /// The next entry that the controller fetches, and one past the newest.
    var head: UInt32 = 0
    var tail: UInt32 = 0
    /// The oldest posted entry that the host has not freed, and their number.
    var reaped: UInt32 = 0
    var posted: UInt32 = 0
    var isFull = false
  }

  private(set) var behaviour: [HostBehaviour] = []
  private(set) var others: UInt64 = 0

  /// Of the current event.
  private var event: UInt64 = 0
  private var now: UInt64 = 0

  /// The next failure was injected.
  private var excusesFailure = false
  private var queues: [Queue] = []
  /// Queues of earlier epochs do not exist.
  private var epoch: UInt32 = 1
  /// Every I/O queue of this epoch was created in the trace.
  private var knowsQueues = false
  /// AQA, if the trace contains its value.
  private var adminEntries: UInt32?
  /// Create and Delete commands in flight, by command identifier.
  private var setups: [UInt16: QueueSetup] = [:]
  /// What stopped the controller if it turns out to have stopped.
  private var suspect: (cause: HostBehaviour.StopCause, event: UInt64, time: UInt64)?

  @inline(__always)
  mutating func begin(event: UInt64, at now: UInt64) { (self.event, self.now) = (event, now) }

  mutating func note(_ new: HostBehaviour) {
    if let known = behaviour.firstIndex(where: { $0.kind == new.kind && $0.qid == new.qid && $0.cause == new.cause }) {
      behaviour[known].count &+= 1
      return
    }
    guard behaviour.count < HostTracker.behaviourMax else {
      others &+= 1
      return
    }
    var first = new
    if first.firstEvent == 0 { (first.firstEvent, first.firstNs) = (event, now) }
    behaviour.append(first)
  }

  /// All of it, in the order of the first occurrences.
  var result: [HostBehaviour] {
    var result = behaviour.sorted { ($0.firstEvent, $0.kind.rawValue) < ($1.firstEvent, $1.kind.rawValue) }
    for place in result.indices where result[place].kind == .completionQueueFull {
      result[place].isStillFull = isFull(result[place].qid ?? 0)
    }
    return result
  }

  // MARK: Queues

  func isFull(_ cqid: UInt16) -> Bool {
    Int(cqid) < queues.count && queues[Int(cqid)].epoch == epoch && queues[Int(cqid)].isFull
  }

  @inline(__always)
  private mutating func place(_ qid: UInt16) -> Int {
    let place = Int(qid)
    if place >= queues.count { queues.append(contentsOf: repeatElement(Queue(), count: place + 1 - queues.count)) }
    if queues[place].epoch != epoch { queues[place] = Queue(epoch: epoch) }
    return place
  }

  /// The controller is in its initial state.
  /// - Parameter isEnabled: it has its admin queues.
  mutating func restart(isEnabled: Bool) {
    forget()
    knowsQueues = true
    guard isEnabled, let adminEntries else { return }
    let admin = place(0)
    queues[admin].submissionEntries = adminEntries & 0xfff + 1
    queues[admin].completionEntries = adminEntries >> 16 & 0xfff + 1
  }

  /// Events were lost.
  mutating func forget() {
    epoch &+= 1
    knowsQueues = false
    setups = [:]
  }

  /// A reset from outside the registers, which clears them.
  mutating func clearRegisters() { adminEntries = 0 }

  mutating func ingest(_ write: Event.RegisterWrite) {
    switch write.offset {
    case Register.aqa: adminEntries = UInt32(truncatingIfNeeded: write.value)
    case Register.aqa - 4 where write.width == 8: adminEntries = UInt32(truncatingIfNeeded: write.value >> 32)
    case Register.cc where write.value & 1 != 0:
      let cc = ControllerConfiguration(rawValue: UInt32(truncatingIfNeeded: write.value))
      let hasEntries = adminEntries.map { $0 & 0xfff > 0 && $0 >> 16 & 0xfff > 0 } ?? true
      let isSupported =
        (cc.css == 0 || cc.css == 6) && cc.mps == 0 && cc.ams == 0 && (cc.iosqes == 0 || cc.iosqes == 6)
        && (cc.iocqes == 0 || cc.iocqes == 4)
      if !isSupported || !hasEntries { suspect = (.configuration, event, now) }
    default: break
    }
  }

  /// - Parameter sqe: the entry; empty if the trace does not contain it.
  @inline(__always)
  mutating func ingest(_ fetch: Event.Fetch, _ sqe: UnsafeRawBufferPointer) {
    suspect = nil
    let place = place(fetch.qid)
    let entries = queues[place].submissionEntries
    if entries != 0 { queues[place].head = fetch.slot >= entries - 1 ? 0 : fetch.slot + 1 }
    if fetch.qid == 0 { ingestSetup(fetch, sqe) }
  }

  private mutating func ingestSetup(_ fetch: Event.Fetch, _ sqe: UnsafeRawBufferPointer) {
    setups[fetch.cid] = nil
    guard sqe.count >= 44, let opcode = AdminOpcode(rawValue: sqe[0]) else { return }
    switch opcode {
    case .createIOSubmissionQueue, .createIOCompletionQueue, .deleteIOSubmissionQueue, .deleteIOCompletionQueue:
      let cdw10 = UInt32(littleEndian: sqe.loadUnaligned(fromByteOffset: 40, as: UInt32.self))
      let prp1 = UInt64(littleEndian: sqe.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
      setups[fetch.cid] = QueueSetup(opcode: opcode, cdw10: cdw10, base: prp1)
    default: break
    }
  }

  /// - Returns: how the queues change with this completion.
  @inline(__always)
  mutating func ingest(_ completion: Event.Completion) -> QueueSetup? {
    let place = place(completion.cqid)
    if queues[place].posted < queues[place].completionEntries { queues[place].posted += 1 }
    return completion.sqid == 0 && !setups.isEmpty ? ingestSetup(completion) : nil
  }

  /// The controller has created or deleted the queue.
  private mutating func ingestSetup(_ completion: Event.Completion) -> QueueSetup? {
    guard let setup = setups.removeValue(forKey: completion.cid), setup.qid != 0,
      Status(rawValue: completion.status).isSuccess
    else { return nil }
    let queue = place(setup.qid)
    switch setup.opcode {
    case .createIOSubmissionQueue:
      (queues[queue].submissionEntries, queues[queue].head, queues[queue].tail) = (setup.entries, 0, 0)
    case .createIOCompletionQueue:
      (queues[queue].completionEntries, queues[queue].reaped, queues[queue].posted) = (setup.entries, 0, 0)
      queues[queue].isFull = false
    case .deleteIOSubmissionQueue: queues[queue].submissionEntries = 0
    default: (queues[queue].completionEntries, queues[queue].isFull) = (0, false)
    }
    return setup
  }

  // MARK: Doorbells

  /// - Returns: false if the controller ignores it.
  @inline(__always)
  mutating func accepts(_ doorbell: Event.Doorbell) -> Bool {
    let place = place(doorbell.qid)
    let isHead = doorbell.flags.contains(.completionHead)
    let entries = isHead ? queues[place].completionEntries : queues[place].submissionEntries
    guard entries != 0 else {
      // Admin queues exist without a command that creates them.
      if isHead { queues[place].isFull = false }
      if knowsQueues, doorbell.qid != 0 { note(.doorbellWithoutQueue, doorbell, entries) }
      return true
    }
    guard doorbell.value < entries else {
      note(.doorbellOutsideQueue, doorbell, entries)
      return false
    }
    if isHead { return acceptsHead(doorbell, place, entries) }
    ingestTail(doorbell, place, entries)
    return true
  }

  @inline(__always)
  private mutating func acceptsHead(_ doorbell: Event.Doorbell, _ place: Int, _ entries: UInt32) -> Bool {
    let freed = HostTracker.distance(queues[place].reaped, doorbell.value, entries)
    guard freed <= queues[place].posted else {
      note(.headPassesTail, doorbell, entries)
      return false
    }
    queues[place].posted -= freed
    queues[place].reaped = doorbell.value
    if freed > 0 { queues[place].isFull = false }
    return true
  }

  @inline(__always)
  private mutating func ingestTail(_ doorbell: Event.Doorbell, _ place: Int, _ entries: UInt32) {
    let waiting = HostTracker.distance(queues[place].head, queues[place].tail, entries)
    let added = HostTracker.distance(queues[place].tail, doorbell.value, entries)
    // One entry of a full queue is empty.
    if waiting &+ added >= entries { note(.tailPassesHead, doorbell, entries) }
    queues[place].tail = doorbell.value
  }

  /// From one entry of a queue forward to another.
  @inline(__always)
  private static func distance(_ from: UInt32, _ to: UInt32, _ entries: UInt32) -> UInt32 {
    to >= from ? to - from : to &+ entries &- from
  }

  private mutating func note(_ kind: HostBehaviour.Kind, _ doorbell: Event.Doorbell, _ entries: UInt32) {
    var new = HostBehaviour(kind, qid: doorbell.qid)
    (new.doorbell, new.entries) = (doorbell.value, entries)
    note(new)
  }

  // MARK: What follows from it

  mutating func becameFull(_ cqid: UInt16) {
    let place = place(cqid)
    queues[place].isFull = true
    var new = HostBehaviour(.completionQueueFull, qid: cqid)
    new.entries = queues[place].completionEntries == 0 ? nil : queues[place].completionEntries
    note(new)
  }

  /// A fault was injected: the failure that it pretends, which follows, is not the host's.
  mutating func injected(_ fault: Event.Fault.Choice) {
    excusesFailure = fault == .failTransfer || fault == .controllerFatal || fault == .prpOffByOne
  }

  mutating func failed(_ kind: HostBehaviour.Kind, qid: UInt16, cid: UInt16? = nil, at address: UInt64?, isFatal: Bool)
  {
    guard !excusesFailure else {
      excusesFailure = false
      return
    }
    var new = HostBehaviour(kind, qid: qid)
    (new.cid, new.address, new.isFatal) = (cid, address, isFatal)
    note(new)
  }

  mutating func reused(qid: UInt16, cid: UInt16) {
    var new = HostBehaviour(.reusedIdentifier, qid: qid)
    new.cid = cid
    note(new)
  }

  /// An event that can stop the controller; nothing but a later CSTS shows whether it did.
  mutating func suspect(_ cause: HostBehaviour.StopCause) { suspect = (cause, event, now) }

  /// CSTS.CFS is set, and no failed access explains it.
  mutating func stopped() {
    var new = HostBehaviour(.fatal)
    new.isFatal = true
    new.cause = suspect?.cause ?? .unknown
    if let suspect { (new.firstEvent, new.firstNs) = (suspect.event, suspect.time) }
    note(new)
  }
}

/// A Create or Delete command of an I/O queue (Base 2.1, 5.2).
struct QueueSetup {
  let opcode: AdminOpcode
  let cdw10: UInt32
  /// PRP1: where a new queue lies.
  let base: UInt64

  var qid: UInt16 { UInt16(truncatingIfNeeded: cdw10) }
  var entries: UInt32 { cdw10 >> 16 + 1 }
}
