import Events
import KernelStreams
import NVMe
import Text
import Trace

/// What happened to a controller of the kernel's target, in order: the replay feeds this to the engine.
enum DriverStep {
  case registerWrite(offset: UInt64, width: Int, value: UInt64, ns: UInt64)
  case linkDown(ns: UInt64)
  /// Index into `DriverRecording.commands`.
  case command(Int)
}

/// A recording of nvmet-pci-epf, by command. Its content is untrusted, and its memory is bounded.
struct DriverRecording {
  private(set) var steps: [DriverStep] = []
  private(set) var commands: [DriverCommand] = []
  private(set) var events: UInt64 = 0
  /// When the probes last ran for certain, nanoseconds since the trace began.
  private(set) var end: UInt64 = 0
  private var lastClock: UInt64 = 0
  /// Events were lost here: the rest cannot be compared.
  private(set) var endsAtGap = false
  /// When the gap or the memory limit was reached, nanoseconds since the trace began: nothing later is replayed.
  private(set) var stopNs: UInt64?
  /// Commands after such a gap, or beyond the memory limit.
  private(set) var afterEnd: UInt64 = 0
  /// Completions, data and results without a fetched command.
  private(set) var strays: UInt64 = 0
  /// The controller was enabled before the recording began: its state is known only from its next enabling.
  private(set) var wasRunning = false
  /// Faults of the controller's registers and interrupts, independent of commands.
  private(set) var faults: [(time: UInt64, subject: String, what: String)] = []

  /// By queue and command identifier: the command in flight, or the last one completed under that name.
  private var live: [CommandKey: Int] = [:]
  private var last: [CommandKey: Int] = [:]
  /// Commands whose workers have not finished: a reset waits for them.
  private var working: [CommandKey: Int] = [:]
  private var failedFetches = FailedFetches()
  private var queues: [UInt16: Queue] = [:]
  /// Entries posted since the completion queue was created.
  private var posted: [UInt16: UInt64] = [:]
  private var interrupts = DriverInterrupts()
  private var doubts: UInt32 = 0
  private var streams = KernelStreams()
  /// Remaining bytes for commands, lists and segments.
  private var room: Int
  /// Remaining commands that gaps and deleted queues may examine: no real trace needs more.
  private var looks = 1 << 28
  private var enabling = Enabling.unknown
  private var isEnabled = false
  private var csts: UInt64?
  private let controller: UInt16

  /// Beyond this many bytes of commands, lists and segments nothing is replayed.
  static let bytesMax = 640 << 20
  /// A growing array exists twice while it moves. The tables that find commands need more memory.
  private static let commandBytes = 2 * (MemoryLayout<DriverCommand>.stride + stepBytes) + 96
  private static let stepBytes = MemoryLayout<DriverStep>.stride
  /// Overhead of the allocator and an array's header.
  private static let arrayBytes = 64
  private static let faultsMax = 100
  /// The driver finishes with a queue that it deletes by itself within this time, nanoseconds.
  private static let deletionMax: UInt64 = 100_000_000

  /// State of a submission queue.
  private struct Queue {
    var fetched: UInt64 = 0
    var executed: UInt64 = 0
    /// The entry after the newest.
    var head: UInt32 = 0
    /// Commands that the driver abandoned since its last fetch, and when.
    var dropped: [(index: Int, time: UInt64)] = []
    /// When the host's command to delete it was fetched.
    var deletedSince: UInt64?
  }

  /// Whether the first CC with EN set was the host's enabling, or the state at the first poll.
  private enum Enabling {
    /// No CC was recorded yet.
    case unknown
    /// It had EN set. Queues created by commands since then.
    case suspect(created: Set<UInt16>, sawAdmin: Bool)
    case certain
  }

  /// - Parameter bytesMax: the memory limit.
  init(controller: UInt16, bytesMax: Int = DriverRecording.bytesMax) {
    self.controller = controller
    room = bytesMax
  }

  private var isFull: Bool { room <= 0 }

  mutating func ingest(_ record: UnsafePointer<Record>, stream: UInt16) {
    switch streams.ingest(record.pointee, tail: record.tail, stream: stream) {
    case .gap(let gap): missing(gap)
    case .event(let kind, let owner):
      noteTime(of: kind, record.pointee.time)
      guard owner.isTarget(controller) else { return }
      if endsAtGap || isFull {
        stopNs = stopNs ?? record.pointee.time
        if kind == .fetch { afterEnd += 1 }
      } else {
        ingest(record, kind)
      }
    case .owner, nil: break
    }
  }

  /// The recorder reads the clocks for the last time, and the probes' cost, after detaching the probes, which takes seconds on a
  /// busy machine: only the reading before shows that they still ran.
  private mutating func noteTime(of kind: EventKind, _ time: UInt64) {
    switch kind {
    case .probe: return
    case .clock:
      end = max(end, lastClock)
      lastClock = time
    default: end = max(end, time)
    }
  }

  private mutating func ingest(_ record: UnsafePointer<Record>, _ kind: EventKind) {
    events += 1
    let event = record.pointee
    switch kind {
    case .registerWrite: registerWritten(Event.RegisterWrite(event))
    case .status: csts = Event.Status(event).csts
    case .link where Event.Link(event).up == .down:
      room -= 2 * Self.stepBytes
      steps.append(.linkDown(ns: event.time))
      interrupt()
    case .queue: queueChanged(Event.Queue(event))
    case .interrupt:
      let interrupt = Event.Interrupt(event)
      note(interrupts.raised(interrupt), of: interrupt.cqid, at: interrupt.time)
    default: ingestCommandEvent(record, kind)
    }
  }

  private mutating func ingestCommandEvent(_ record: UnsafePointer<Record>, _ kind: EventKind) {
    let event = record.pointee
    switch kind {
    case .fetch: fetched(Event.Fetch(event), record.fixedTail(as: SubmissionEntry.self))
    case .read: listRead(Event.Read(event), record.bytes)
    case .segment: moved(Event.Segment(event))
    case .executeEnd: executed(Event.ExecuteEnd(event))
    case .completion: completed(Event.Completion(event))
    case .work:
      let work = Event.Work(event)
      guard work.work == .command else { return }
      working[work.key] = live[work.key]
      change(work) { $0.work.began = true }
    case .workEnd:
      let work = Event.WorkEnd(event)
      // Another thread may have posted its completion meanwhile, and the host may have reset the controller.
      if work.work == .command, let index = working.removeValue(forKey: work.key) { commands[index].work.ended = true }
    case .dropped: dropped(Event.Dropped(event))
    default: break
    }
  }

  private mutating func note(_ fault: String?, of cqid: UInt16, at time: UInt64) {
    guard let fault, faults.count < Self.faultsMax else { return }
    faults.append((time, "completion queue \(cqid)", fault))
  }

  /// The trace has ended.
  mutating func finish() {
    for cqid in interrupts.queues { note(interrupts.overdue(cqid, at: end), of: cqid, at: end) }
    if !isEnabled, case .certain = enabling { checkDisabled(at: end) }
    if case .unknown = enabling { wasRunning = !commands.isEmpty || strays > 0 }
  }

  // MARK: Missing events

  private mutating func missing(_ gap: Event.Gap) {
    if gap.flags.contains(.notRun), looks > 0 {
      doubt(since: gap.doubtBegin)
    } else if !steps.isEmpty {
      // Events lost before the controller's first event do not affect a replay.
      endsAtGap = true
      stopNs = stopNs ?? gap.time
    }
  }

  /// An event since then is lost: any command in flight may lack it.
  private mutating func doubt(since time: UInt64) {
    doubts &+= 1
    posted = [:]
    interrupts.forgetEntries()
    looks -= live.count + min(commands.count, 1 << 16)
    for index in live.values { commands[index].isDoubtful = true }
    // A command completed before then has all its events.
    var index = commands.count
    while index > 0, commands.count - index < 1 << 16 {
      index -= 1
      if commands[index].completion?.time ?? .max >= time { commands[index].isDoubtful = true }
    }
  }

  // MARK: Controller and queues

  private mutating func registerWritten(_ write: Event.RegisterWrite) {
    room -= 2 * Self.stepBytes
    steps.append(
      .registerWrite(offset: write.offset, width: Int(write.width), value: write.value, ns: write.time))
    guard write.offset == Register.cc else { return }
    let enables = write.value & 1 != 0
    switch enabling {
    case .unknown where enables:
      enabling = .suspect(created: [], sawAdmin: false)
      wasRunning = !commands.isEmpty || strays > 0
    case .unknown, .suspect: if !enables { enabling = .certain }
    case .certain: break
    }
    if enables, !isEnabled, case .certain = enabling { checkDisabled(at: write.time) }
    if !enables || !isEnabled { interrupt() }
    if enables, !isEnabled { interrupts.create(0, vector: 0, isEnabled: true) }
    isEnabled = enables
  }

  /// A controller that was disabled is not ready (Base 2.1, 3.1.4.6).
  private mutating func checkDisabled(at time: UInt64) {
    guard let csts, csts & 1 != 0, faults.count < Self.faultsMax else { return }
    faults.append((time, "the controller", "CSTS is \(csts.hex), still ready, though the host has cleared CC.EN"))
  }

  /// Commands in flight correctly remain uncompleted; all queues are gone.
  private mutating func interrupt() {
    for index in live.values { commands[index].wasInterrupted = true }
    live = [:]
    last = [:]
    queues = [:]
    posted = [0: 0]
    interrupts.deleteAll()
    doubts = 0
  }

  private mutating func queueChanged(_ queue: Event.Queue) {
    if queue.flags.contains(.deleted), queue.status == 0 { queueDeleted(queue.qid, at: queue.time) }
  }

  /// The same for one queue, and for commands that the driver abandoned to delete it: since the host's request or, if
  /// the driver acts by itself, just now.
  private mutating func queueDeleted(_ qid: UInt16, at time: UInt64) {
    looks -= live.count
    guard looks > 0 else {
      endsAtGap = true
      return
    }
    for (key, index) in live where key.qid == qid {
      commands[index].wasInterrupted = true
      live[key] = nil
    }
    guard let queue = queues.removeValue(forKey: qid) else { return }
    let since = queue.deletedSince ?? time - min(DriverRecording.deletionMax, time)
    for dropped in queue.dropped where dropped.time >= since { commands[dropped.index].wasInterrupted = true }
  }

  /// Whether it is a command of a controller that ran before the recording began.
  private mutating func suspect(_ command: DriverCommand) {
    guard case .suspect(var created, let sawAdmin) = enabling else { return }
    if command.qid != 0 {
      if !created.contains(command.qid) { wasRunning = true }
    } else {
      if !sawAdmin, command.slot != 0 { wasRunning = true }
      if command.adminOpcode == .createIOSubmissionQueue { created.insert(command.queueInQuestion) }
      enabling = .suspect(created: created, sawAdmin: true)
    }
  }

  // MARK: Commands

  private mutating func fetched(_ fetch: Event.Fetch, _ sqe: SubmissionEntry?) {
    guard let sqe else { return }
    var command = DriverCommand(
      qid: fetch.qid, cid: fetch.cid, time: fetch.time, slot: fetch.slot, sqe: sqe, doubts: doubts)
    command.fetchFailed = failedFetches.ingest(fetch)
    room -= Self.commandBytes
    steps.append(.command(commands.count))
    commands.append(command)
    guard !command.fetchFailed else { return }
    suspect(command)
    live[fetch.key] = commands.count - 1
    last[fetch.key] = nil
    var queue = queues[fetch.qid] ?? Queue()
    queue.fetched += 1
    queue.head = command.slot &+ 1
    queue.dropped = []
    queues[fetch.qid] = queue
    if command.adminOpcode == .deleteIOSubmissionQueue {
      queues[command.queueInQuestion]?.deletedSince = fetch.time
    }
  }

  private mutating func listRead(_ read: Event.Read, _ list: UnsafeRawBufferPointer?) {
    let bytes = list.map(Array.init) ?? []
    room -= bytes.count + 2 * (MemoryLayout<DriverList>.stride + Self.arrayBytes)
    change(read) {
      guard $0.lists.count < DriverCommand.listsMax else {
        $0.isCut = true
        return
      }
      $0.lists.append(DriverList(address: read.address, bytes: bytes, isWhole: !read.flags.contains(.cut)))
    }
  }

  private mutating func moved(_ segment: Event.Segment) {
    room -= 2 * MemoryLayout<DriverSegment>.stride + Self.arrayBytes
    change(segment) {
      guard $0.segments.count < DriverCommand.segmentsMax else {
        $0.isCut = true
        return
      }
      $0.segments.append(
        DriverSegment(
          fromHost: segment.flags.contains(.fromHost), address: segment.address, length: UInt64(segment.length),
          failed: segment.flags.contains(.failed)))
    }
  }

  private mutating func executed(_ event: Event.ExecuteEnd) {
    queues[event.qid]?.executed += 1
    let queue = queues[event.qid] ?? Queue()
    change(event) {
      $0.executed = (Status(rawValue: UInt16(truncatingIfNeeded: event.status)), event.bytes)
      $0.queueThen = (queue.fetched, queue.fetched - min(queue.executed, queue.fetched))
    }
  }

  private mutating func completed(_ event: Event.Completion) {
    let ordinal = posted[event.cqid]
    posted[event.cqid] = ordinal.map { $0 + 1 }
    // By the submission queue from which the driver fetched it: the entry itself may be wrong.
    let key = event.queueKey
    if let index = live.removeValue(forKey: key) {
      commands[index].completion = completion(event, of: commands[index], ordinal)
      last[key] = index
      note(interrupts.posted(event), of: event.cqid, at: event.time)
      noteQueues(commands[index])
    } else if let index = last[key] {
      commands[index].extraCompletions += 1
    } else {
      strays += 1
    }
  }

  private func completion(_ event: Event.Completion, of command: DriverCommand, _ ordinal: UInt64?) -> DriverCompletion
  {
    var entry = CompletionEntry()
    (entry.dw0, entry.dw1, entry.dw2, entry.dw3) = (event.dw0, event.dw1, event.dw2, event.dw3)
    let queue = queues[command.qid] ?? Queue()
    // Whether the head is the driver's or counts executed commands, it is at most this old.
    let then = command.queueThen ?? (queue.fetched, queue.fetched - min(queue.executed, queue.fetched))
    return DriverCompletion(
      cqid: event.cqid, entry: entry, time: event.time, ordinal: ordinal, head: queue.head,
      lagMax: queue.fetched - min(then.fetched, queue.fetched) + then.open)
  }

  private mutating func noteQueues(_ command: DriverCommand) {
    guard command.completion?.entry.status.isSuccess ?? false else { return }
    switch command.adminOpcode {
    case .createIOCompletionQueue:
      posted[command.queueInQuestion] = 0
      interrupts.create(
        command.queueInQuestion, vector: UInt16(truncatingIfNeeded: command.sqe.cdw11 >> 16),
        isEnabled: command.sqe.cdw11 & 2 != 0)
    case .deleteIOCompletionQueue: interrupts.delete(command.queueInQuestion)
    case .deleteIOSubmissionQueue: queueDeleted(command.queueInQuestion, at: command.completion?.time ?? 0)
    default: break
    }
  }

  private mutating func dropped(_ event: Event.Dropped) {
    guard !failedFetches.ingest(event) else { return }
    guard let index = live.removeValue(forKey: event.key) else {
      strays += 1
      return
    }
    commands[index].wasDropped = true
    queues[event.qid]?.dropped.append((index, event.time))
  }

  private mutating func change(_ event: some CommandEvent, _ change: (inout DriverCommand) -> Void) {
    guard let index = live[event.key] else {
      strays += 1
      return
    }
    change(&commands[index])
  }
}
