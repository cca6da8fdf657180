import Events
import NVMe
import Platform
import Recording

/// The host's side of a queue pair.
struct SimulatedQueue: BitwiseCopyable {
  let qid: UInt16
  let submissionEntries: UInt32
  let completionEntries: UInt32
  /// The interrupt vector; nil if the host polls.
  let vector: UInt16?
  var tail: UInt32 = 0
  var head: UInt32 = 0
  var phase = true
  /// Commands in flight.
  var outstanding: UInt32 = 0
  /// An interrupt has arrived since the host last polled.
  var isInterrupted = false
  var nextSubmitNs: UInt64 = 0
  var nextReapNs: UInt64 = 0

  init(qid: UInt16, submissionEntries: UInt32, completionEntries: UInt32, vector: UInt16?) {
    self.qid = qid
    self.submissionEntries = submissionEntries
    self.completionEntries = completionEntries
    self.vector = vector
  }

  /// Offsets of its entries in host memory.
  var submissionOffset: Int { 0x10000 * Int(qid) }
  var completionOffset: Int { 0x10000 * Int(qid) + 0x8000 }

  /// Write an entry into the submission queue, without ringing.
  mutating func put(_ sqe: SubmissionEntry, _ world: World) {
    (world.memory + submissionOffset + Int(tail) * SubmissionEntry.size).storeBytes(of: sqe, as: SubmissionEntry.self)
    tail = tail + 1 == submissionEntries ? 0 : tail + 1
    world.queues[Int(qid)].announced += 1
  }

  func ring(_ world: World) { world.doorbells[Doorbell.submissionTail(QueueID(qid)).index] = tail }

  /// The next completion, if there is one. `release` returns its entry.
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

  /// Announce the consumed entries to the controller.
  func release(_ world: World) {
    let queue = world.queues + Int(qid)
    let entries = UInt64(completionEntries)
    let now = queue.pointee.freed % entries
    queue.pointee.freed += (UInt64(head) + entries - now) % entries
    world.doorbells[Doorbell.completionHead(QueueID(qid)).index] = head
  }
}

/// A host that records what it does, as `QueuePair` does it: the stamp of an observation follows the load, that of an
/// effect precedes the store.
extension SimulatedQueue {
  mutating func put<R: Recorder & ~Copyable>(_ sqe: SubmissionEntry, _ world: World, _ host: inout R) {
    world.pass(.submit, qid)
    host.note(Event.Submit(opcode: sqe.opcode, qid: qid, cid: sqe.cid.rawValue))
    put(sqe, world)
  }

  func ring<R: Recorder & ~Copyable>(_ world: World, _ host: inout R) {
    if world.doorbells[Doorbell.submissionTail(QueueID(qid)).index] != tail {
      world.pass(.announce, qid)
      host.note(Event.Doorbell(qid: qid, value: tail))
      world.pass(.ring, qid)
    }
    ring(world)
  }

  mutating func consume<R: Recorder & ~Copyable>(_ world: World, _ host: inout R) -> CompletionEntry? {
    guard hasCompletion(world) else { return nil }
    world.pass(.look, qid)
    guard let cqe = consume(world) else { return nil }
    host.note(
      Event.Completion(
        cqid: qid, cid: cqe.cid.rawValue, dw0: cqe.dw0, dw1: cqe.dw1, dw2: cqe.dw2, dw3: cqe.dw3))
    world.pass(.handle, qid)
    return cqe
  }

  func release<R: Recorder & ~Copyable>(_ world: World, _ host: inout R) {
    if world.doorbells[Doorbell.completionHead(QueueID(qid)).index] != head {
      host.note(Event.Doorbell(flags: .completionHead, qid: qid, value: head))
      world.pass(.free, qid)
    }
    release(world)
  }
}

extension Recorder where Self: ~Copyable {
  /// Record an event at the current time.
  @inline(__always)
  mutating func note(_ event: some RecordedEvent) {
    guard Self.isOn else { return }
    var event = event
    event.time = time.ticks()
    append(event.record)
  }
}

extension CompletionEntry {
  /// Whether the status field has this value, with More set for an error, since every error is in the log.
  func has(_ wanted: Status) -> Bool {
    status.rawValue == (wanted.isSuccess ? 0 : wanted.rawValue | Status.more)
  }
}

/// A command in flight at a place of a queue, and what its completion must be.
struct SimulatedCommand: BitwiseCopyable {
  var opcode = IOOpcode.flush
  var nsid: UInt32 = 1
  var block = 0
  var blocks = 0
  /// The command whose blocks it accesses: itself, or for a fused Compare its Write.
  var home = 0
  /// FUSE; the other command of the pair; for a Write, the status of its Compare.
  var fuse: UInt32 = 0
  var partner = 0
  var compareStatus = Status.success
  var abort = Abort.notRequested
  /// The other command of the pair may have been aborted.
  var isLeftAlone = false

  /// The controller's answer to an Abort of the command.
  enum Abort { case notRequested, unanswered, refused, done }
  /// Its data pages in host memory: the offset of the place's pages, the first one used, and the step to the next.
  var pages = 0
  var firstPage = 0
  var pageStep = 1
  /// Offset of its data in the first page.
  var offset = 0
  /// Compare: its data was changed, so it must fail.
  var isChanged = false
  /// Compare: the content of some of its blocks is unknown.
  var comparesUnknown = false
  var isInFlight = false
  /// The set of namespaces when it was submitted.
  var namespaceEpoch = 0
  var hadNamespace = true

  /// Data pages of a place. A step other than 1 leaves gaps or goes back.
  static let pagesMax = 5

  /// Offset of one of its pages in host memory.
  func page(_ index: Int) -> Int { pages + ((firstPage + pageStep * index) % SimulatedCommand.pagesMax) << 12 }

  /// Offset of a byte of its data in host memory.
  func place(_ byte: Int) -> Int { page((offset + byte) >> 12) + (offset + byte) & 4095 }
}
