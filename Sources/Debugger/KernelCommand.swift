import EventSequences
import Events
import KernelStreams
import NVMe
import Trace

/// What the kernel's streams say of one command, from the host's submission or the target's first event to its end.
struct KernelCommand {
  /// How it ended.
  enum End {
    /// Its completion was posted or, if the host's events are recorded, seen.
    case completed
    case dropped, reset, queueDeleted
    /// Another one with its name began: its own end is lost.
    case replaced
  }

  private(set) var key: CommandKey
  private(set) var begin: UInt64
  private(set) var beginNs: UInt64 = 0
  private(set) var isFromHost = false
  /// It began before the recording, or in a gap.
  private(set) var isCut = false
  private(set) var opcode: UInt8?
  private(set) var entry: SubmissionEntry?
  private(set) var ended: UInt64?
  private(set) var endedNs: UInt64 = 0
  private(set) var end: End?
  /// Its status field, as posted or executed.
  private(set) var status: UInt16?
  /// Its own events and those that it shares with others, in order.
  private(set) var events: [UInt64] = []
  /// Those of them that transferred its data, its entry or its lists.
  private(set) var transfers: [UInt64] = []
  /// When the host rang for it, and the work of its completion queue began.
  private(set) var rungNs: UInt64?
  private(set) var completionWorkNs: UInt64?
  private(set) var readyNs: UInt64?

  private(set) var fetchedNs: UInt64?
  private var isFetched = false
  private var isPosted = false
  private var isAnswered = false
  /// The reset in which the driver had it in hand.
  private var reset: (event: UInt64, ns: UInt64)?
  private var completionWork: UInt64?
  private var isOver = false

  /// A command of the largest transfer has some hundred.
  private static let eventsMax = 1000

  /// The latest command with this name that began before an event.
  static func find(_ key: CommandKey, before event: UInt64, in events: NumberedStreams, _ subject: KernelSubject) throws
    -> KernelCommand?
  {
    func last(_ before: UInt64, isHost: Bool) throws -> UInt64? {
      let kind: EventKind = isHost ? .submit : subject.isEndpoint ? .fetch : .request
      return try events.last(before: before, of: key.qid, in: isHost ? subject.isHost : subject.isTarget) { record in
        guard record.pointee.is(kind), record.pointee.qid == key.qid, record.pointee.cid == key.cid else {
          return false
        }
        return kind != .fetch || !Event.Fetch(record.pointee).flags.contains(.failed)
      }
    }
    let reached = try last(event, isHost: false)
    var submitted = try last(event, isHost: true)
    if let reached, let found = submitted, found < reached {
      // The fetch before this one has had its own submission.
      let before = try last(reached, isHost: false)
      if let before, found < before { submitted = nil }
    }
    guard let begin = submitted ?? reached else { return nil }
    return try KernelCommand(key, begin, in: events, subject)
  }

  /// A command that begins with this event: collect its events, up to its end.
  init(_ key: CommandKey, _ begin: UInt64, in events: NumberedStreams, _ subject: KernelSubject) throws {
    (self.key, self.begin) = (key, begin)
    var command = self
    try events.visit(from: begin) { event in command.take(event, subject) }
    self = command
  }

  /// - Returns: whether nothing more of it follows.
  private mutating func take(_ event: NumberedEvent, _ subject: KernelSubject) -> Bool {
    let record = event.record.pointee
    if event.number == begin {
      (beginNs, isFromHost) = (record.time, subject.isHost(event.id))
      isCut = !begins(event, subject)
    }
    if let key = subject.command(of: event), key == self.key {
      if begins(event, subject), event.number > begin {
        if end == nil { finish(.replaced, event) }
        return true
      }
      note(event, subject)
    } else {
      noteShared(event, subject)
    }
    guard end == nil else {
      // The interrupt that announces it, if it follows at once.
      return isOver
    }
    switch subject.meaning(of: event) {
    case .seen(let key) where key == self.key: finish(.completed, event)
    case .answered(let key, _) where key == self.key:
      isAnswered = true
      if !isFromHost || reset != nil { finish(.completed, event) }
    case .dropped(let key) where key == self.key: finish(.dropped, event)
    case .reset where subject.isEndpoint && !isAnswered && (isFetched || !isFromHost):
      guard reset == nil else { break }
      reset = (event.number, record.time)
      append(event.number)
    case .reset: finish(.reset, event)
    case .settled:
      if let reset { (end, ended, endedNs) = (.reset, reset.event, reset.ns) }
    case .deletedQueue(key.qid): finish(.queueDeleted, event)
    default: break
    }
    return end != nil && (end != .completed || isFromHost && reset == nil || !subject.isEndpoint)
  }

  private mutating func finish(_ how: End, _ event: NumberedEvent) {
    (end, ended, endedNs) = (how, event.number, event.record.pointee.time)
    if how == .reset || how == .queueDeleted { append(event.number) }
  }

  /// Whether a command with this name begins, other than the target's part of one that the host submitted.
  private func begins(_ event: NumberedEvent, _ subject: KernelSubject) -> Bool {
    switch subject.meaning(of: event) {
    case .submitted: true
    case .reached(_, _, begins: true): isFetched || !isFromHost
    default: false
    }
  }

  private mutating func append(_ number: UInt64) {
    if events.count < KernelCommand.eventsMax { events.append(number) }
  }

  private mutating func note(_ event: NumberedEvent, _ subject: KernelSubject) {
    let record = event.record.pointee
    if record.is(.completion), subject.isTarget(event.id), let completionWork { append(completionWork) }
    append(event.number)
    opcode = KernelState.opcode(of: event.record) ?? opcode
    switch record.event {
    case .fetch:
      (isFetched, fetchedNs) = (true, record.time)
      entry = event.record.fixedTail(as: SubmissionEntry.self) ?? entry
    case .request where !subject.isEndpoint: isFetched = true
    case .entry: entry = entry ?? event.record.fixedTail(as: SubmissionEntry.self)
    case .completionQueued: readyNs = record.time
    case .executeEnd: status = UInt16(truncatingIfNeeded: Event.ExecuteEnd(record).status)
    case .completion where subject.isTarget(event.id): (status, isPosted) = (Event.Completion(record).status, true)
    default: break
    }
    switch record.event {
    case .fetch, .read, .segment: if transfers.count < KernelCommand.eventsMax { transfers.append(event.number) }
    default: break
    }
  }

  /// The host's doorbell, the work of its completion queue, and the interrupt.
  private mutating func noteShared(_ event: NumberedEvent, _ subject: KernelSubject) {
    let record = event.record.pointee
    guard record.qid == key.qid else { return }
    switch record.event {
    case .doorbell where isFromHost && !isFetched && rungNs == nil && subject.isHost(event.id):
      guard !Event.Doorbell(record).flags.contains(.completionHead) else { return }
      rungNs = record.time
      append(event.number)
    case .work where Event.Work(record).work == .completionQueue && !isPosted && subject.isTarget(event.id):
      (completionWork, completionWorkNs) = (event.number, record.time)
    case .interrupt where isPosted && subject.isTarget(event.id):
      append(event.number)
      isPosted = false
      isOver = true
    case .workEnd where end != nil: isOver = true
    default: break
    }
  }
}
