import EventSequences
import Events
import KernelStreams
import KernelTimeline
import NVMe
import Trace

/// What the kernel's target and its host have in hand when an event has happened, as far as the trace tells.
struct KernelState {
  /// An event by its number and time.
  struct Moment: Equatable {
    let event: UInt64
    let ns: UInt64
  }

  /// A command in flight.
  struct Command: Equatable {
    let key: CommandKey
    var opcode: UInt8?
    /// The host's submission, or the first event of the target.
    let begun: Moment
    let isFromHost: Bool
    /// It began before the recording, or in a gap.
    var isCut = false
    /// Events were lost since it began: it may have ended.
    var isDoubtful = false
    var stage: CommandProgress
    /// Its newest event, and the CPU that had it.
    var last: Moment
    var cpu: UInt16

    var isEventRequest: Bool { key.qid == 0 && opcode == AdminOpcode.asynchronousEventRequest.rawValue }
  }

  struct SubmissionQueue: Equatable {
    let cqid: UInt16
    let entries: UInt32
    let address: UInt64
    /// The entry that the driver fetches next; nil from a loss of events to the next fetch.
    var head: UInt32? = 0
    /// The host's doorbell; nil if its events are not recorded, and from a loss of events to the next doorbell.
    var tail: UInt32?
    /// If the newest fetch failed.
    var failedFetch: Moment?

    mutating func lose() { (head, tail) = (nil, nil) }
  }

  struct CompletionQueue: Equatable {
    let vector: UInt16
    let entries: UInt32
    let address: UInt64
    /// Entries so far; nil after a loss of events.
    var posted: UInt64? = 0
    /// The entry that the driver posts next, and its phase tag; nil from a loss of events until phase tags tell.
    var tail: UInt32? = 0
    var phase: Bool? = true
    /// Entries since the last interrupt; nil from a loss of events to the next interrupt.
    var unannounced: UInt64? = 0
    var interrupt: Moment?

    init(vector: UInt16, entries: UInt32, address: UInt64) {
      (self.vector, self.entries, self.address) = (vector, entries, address)
    }

    mutating func post(phase tag: Bool) {
      (posted, unannounced) = (posted.map { $0 + 1 }, unannounced.map { $0 + 1 })
      // The first entry of a pass.
      if tail == nil, let phase, phase != tag { tail = 0 }
      phase = tag
      guard let tail else { return }
      self.tail = (tail + 1) % max(entries, 1)
      if self.tail == 0 { phase = !tag }
    }

    mutating func lose() { (posted, tail, phase, unannounced) = (nil, nil, nil, nil) }
  }

  let subject: KernelSubject
  private(set) var timeline = DriverTimeline()
  /// By begin, as far as `commandsMax` allows.
  private(set) var commands: [CommandKey: Command] = [:]
  private(set) var submissionQueues: [UInt16: SubmissionQueue] = [:]
  private(set) var completionQueues: [UInt16: CompletionQueue] = [:]
  /// What the host last wrote, by offset, and CSTS.
  private(set) var registers: [UInt64: UInt64] = [:]
  private(set) var csts: UInt64?
  private(set) var isLinkUp: Bool?
  /// When the worker, or the completion queue's work item, began.
  private(set) var workBegins: [CommandKey: Moment] = [:]
  private(set) var completionWorkBegins: [UInt16: Moment] = [:]
  /// The newest event of each CPU of the target.
  private(set) var lastOfCPU: [UInt16: Moment] = [:]
  /// The commands in flight at the last reset that found some: the oldest, their number without requests for events,
  /// and the event.
  private(set) var abandoned: (commands: [Command], count: Int, at: Moment)?
  /// A reset that has not settled: the commands begun before it are in flight until the driver answers or drops them.
  private(set) var reset: Moment?
  private(set) var lost: Moment?
  private var now: UInt64 = 0

  private static let commandsMax = 1 << 17
  private static let abandonedMax = 100

  init(_ subject: KernelSubject) { self.subject = subject }

  /// The oldest command that waits, other than for an event.
  var oldest: Command? { KernelState.oldest(commands.values) }

  private static func oldest(_ commands: some Sequence<Command>) -> Command? {
    commands.filter { !$0.isEventRequest }.min { $0.begun.event < $1.begun.event }
  }

  /// Of those that the last reset abandoned.
  var oldestAbandoned: Command? { abandoned.flatMap { KernelState.oldest($0.commands) } }

  /// The past of the CPUs is not asked for any more.
  mutating func forgetPast() { timeline.forgetPast() }

  mutating func ingest(_ event: NumberedEvent) {
    let record = event.record.pointee
    if !record.is(.ringWait) { now = max(now, record.time) }
    let moment = Moment(event: event.number, ns: now)
    let meaning = subject.meaning(of: event)
    if let owner = subject.owner(event.id), let kind = record.event, kind != .gap, kind != .origin {
      timeline.ingest(record, kind, owner, at: now)
      if owner.role == .target { lastOfCPU[owner.cpu] = moment }
      take(meaning, event, moment, on: owner.cpu)
    } else {
      take(meaning, event, moment, on: 0)
    }
    guard subject.role(event.id) != .other else { return }
    noteController(event, moment)
  }

  // MARK: Commands

  private mutating func take(_ meaning: KernelSubject.Meaning, _ event: NumberedEvent, _ moment: Moment, on cpu: UInt16)
  {
    switch meaning {
    case .submitted(let key, let opcode):
      enter(
        Command(key: key, opcode: opcode, begun: moment, isFromHost: true, stage: .submitted, last: moment, cpu: cpu))
    case .reached(let key, let stage, let begins): reach(key, stage, event, moment, begins: begins, on: cpu)
    case .answered(let key, let stage):
      guard let command = commands[key], command.isFromHost, !wasReset(command) else {
        commands[key] = nil
        return
      }
      move(key, to: stage, moment, on: cpu)
    case .seen(let key), .dropped(let key): commands[key] = nil
    case .reset: if reset == nil { abandonAll(moment) }
    case .settled: settle()
    case .deletedQueue(let qid):
      for key in commands.keys where key.qid == qid { commands[key] = nil }
    case .lost: lose(moment)
    case .other: break
    }
  }

  private mutating func reach(
    _ key: CommandKey, _ stage: CommandProgress, _ event: NumberedEvent, _ moment: Moment, begins: Bool, on cpu: UInt16
  ) {
    // Without the host's submission, or with one that belongs to the command before.
    let isNew = commands[key].map { begins && $0.stage != .submitted } ?? true
    if isNew {
      enter(
        Command(
          key: key, opcode: nil, begun: moment, isFromHost: false, isCut: !begins, stage: stage, last: moment, cpu: cpu)
      )
    }
    // The target core accepts a command that its worker maps already; it goes on with that.
    move(key, to: stage, moment, on: cpu)
    if let opcode = KernelState.opcode(of: event.record) { commands[key]?.opcode = opcode }
  }

  private mutating func enter(_ command: Command) {
    guard commands.count < KernelState.commandsMax else { return }
    commands[command.key] = command
  }

  private mutating func move(_ key: CommandKey, to stage: CommandProgress, _ moment: Moment, on cpu: UInt16) {
    guard let index = commands.index(forKey: key) else { return }
    commands.values[index].stage = stage
    commands.values[index].last = moment
    commands.values[index].cpu = cpu
  }

  /// The opcode that an event contains.
  static func opcode(of record: UnsafePointer<Record>) -> UInt8? {
    switch record.pointee.event {
    case .fetch: record.fixedTail(as: SubmissionEntry.self)?.opcode
    case .request: Event.Request(record.pointee).opcode
    case .submit: Event.Submit(record.pointee).opcode
    default: nil
    }
  }

  private mutating func abandonAll(_ moment: Moment) {
    if !commands.isEmpty {
      let oldest = commands.values.sorted { $0.begun.event < $1.begun.event }.prefix(KernelState.abandonedMax)
      abandoned = (Array(oldest), commands.values.filter { !$0.isEventRequest }.count, moment)
    }
    guard subject.isEndpoint else {
      (commands, submissionQueues, completionQueues) = ([:], [:], [:])
      return
    }
    reset = moment
    // The driver has these in hand.
    commands = commands.filter { $0.value.stage != .submitted && $0.value.stage != .posted }
  }

  /// The driver is done with a reset.
  private mutating func settle() {
    guard let reset else { return }
    commands = commands.filter { $0.value.begun.event > reset.event }
    (submissionQueues, completionQueues) = ([:], [:])
    self.reset = nil
  }

  /// Whether it was in flight at a reset that has not settled.
  func wasReset(_ command: Command) -> Bool { reset.map { command.begun.event < $0.event } ?? false }

  private mutating func lose(_ moment: Moment) {
    lost = moment
    timeline.restart()
    (workBegins, completionWorkBegins) = ([:], [:])
    for key in commands.keys { commands[key]?.isDoubtful = true }
    for qid in submissionQueues.keys { submissionQueues[qid]?.lose() }
    for cqid in completionQueues.keys { completionQueues[cqid]?.lose() }
  }

  // MARK: Queues and registers

  private mutating func noteController(_ event: NumberedEvent, _ moment: Moment) {
    let record = event.record.pointee
    switch record.event {
    case .work:
      let work = Event.Work(record)
      if work.work == .command { begin(&workBegins, work.key, moment) }
      if work.work == .completionQueue { begin(&completionWorkBegins, work.qid, moment) }
    case .workEnd:
      let work = Event.WorkEnd(record)
      if work.work == .command { workBegins[work.key] = nil } else { completionWorkBegins[work.qid] = nil }
    case .fetch:
      let fetch = Event.Fetch(record)
      guard let entries = submissionQueues[fetch.qid]?.entries, entries > 0 else { return }
      let hasFailed = fetch.flags.contains(.failed)
      submissionQueues[fetch.qid]?.head = (hasFailed ? fetch.slot : fetch.slot &+ 1) % entries
      submissionQueues[fetch.qid]?.failedFetch = hasFailed ? moment : nil
    case .doorbell where subject.isHost(event.id):
      let doorbell = Event.Doorbell(record)
      if !doorbell.flags.contains(.completionHead) { submissionQueues[doorbell.qid]?.tail = doorbell.value }
    case .completion where subject.isTarget(event.id):
      completionQueues[record.qid]?.post(phase: Event.Completion(record).dw3 & 1 << 16 != 0)
    case .interrupt where subject.isTarget(event.id):
      guard !Event.Interrupt(record).flags.contains(.failed) else { return }
      completionQueues[record.qid]?.unannounced = 0
      completionQueues[record.qid]?.interrupt = moment
    case .queue: change(Event.Queue(record))
    case .registerWrite:
      let write = Event.RegisterWrite(record)
      if registers.count < 64 || registers[write.offset] != nil { registers[write.offset] = write.value }
    case .status: csts = Event.Status(record).csts
    case .link: isLinkUp = Event.Link(record).up == .up
    default: break
    }
  }

  private func begin<Key>(_ table: inout [Key: Moment], _ key: Key, _ moment: Moment) {
    if table.count < KernelState.commandsMax || table[key] != nil { table[key] = moment }
  }

  private mutating func change(_ queue: Event.Queue) {
    guard queue.status == 0 else { return }
    let isGone = queue.flags.contains(.deleted)
    if queue.flags.contains(.completionQueue) {
      completionQueues[queue.qid] =
        isGone ? nil : CompletionQueue(vector: queue.other, entries: queue.entries, address: queue.address)
    } else {
      submissionQueues[queue.qid] =
        isGone ? nil : SubmissionQueue(cqid: queue.other, entries: queue.entries, address: queue.address)
    }
  }
}
