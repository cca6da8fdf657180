import Events
import NVMe
import Trace

/// From events to where the commands' time went, in one pass and in memory that follows the commands in flight.
///
/// It trusts no trace: whatever the events say, it neither fails nor grows without bound, and what does not fit
/// together is counted as partial and left out of the statistics.
public struct StageAnalyzer: ~Copyable {
  /// Times beyond this many nanoseconds, 146 years, count as this.
  public static let timeMax: UInt64 = 1 << 62
  /// Who has polled nothing for so long, with nothing to do, was not there, nanoseconds.
  static let absenceMin: UInt32 = 100_000
  /// Streams beyond this share their gaps with others.
  static let streamsMax = 256

  /// Called with every finished command, admin commands included.
  public var onCommand: ((borrowing CommandTimes) -> Void)?

  var now: UInt64 = 0
  var events: UInt64 = 0
  var kernelEvents: UInt64 = 0
  var lost: UInt64 = 0
  var gaps: UInt64 = 0
  var resets: UInt64 = 0
  var partial: UInt64 = 0
  var interrupted: UInt64 = 0
  var inversions: UInt64 = 0
  var ringWaits: UInt64 = 0
  var ringWaitNs: UInt64 = 0
  var absences: UInt64 = 0
  var absentNs: UInt64 = 0

  var stops: Stops?
  /// The controller has stopped and was not reset since.
  var isStopped = false
  var asq = QueueBase(Register.asq)
  var acq = QueueBase(Register.acq)

  var commands = CommandPool()
  var submissionQueues = QueueTable<SubmissionQueue>()
  var completionQueues = QueueTable<CompletionQueue>()
  /// Elements that queues may still make room for.
  var budget = 4 << 20

  /// Times that the controller went back to its initial state.
  var resetEpoch: UInt32 = 0
  var streamGaps = [UInt32](repeating: 0, count: streamsMax)
  /// When an engine's stream last had an event.
  var streamTimes = [UInt64](repeating: 0, count: streamsMax)
  var hostEpoch: UInt32 = 0
  var isEnabled: Bool?
  var queuesHaveBeenFull = false

  let subject: Subject
  var kernel = KernelView()

  private var depth = DepthMeter()
  private var tally: Tally

  /// - Parameters:
  ///   - grouping: what the summary's groups are told apart by; nil for none.
  ///   - subject: whose commands are looked at; the events of others are counted.
  public init(grouping: Grouping? = nil, subject: Subject = .endpoint) {
    tally = Tally(grouping)
    self.subject = subject
  }

  /// The next event. Events of all streams come in the order of their times.
  ///
  /// - Parameters:
  ///   - stream: which of the source's streams it stands in.
  ///   - tail: the bytes behind the record; only a fetch's are looked at.
  public mutating func take(
    _ record: Record, source: Source, stream: Int = 0, tail: UnsafeRawBufferPointer = .init(start: nil, count: 0)
  ) {
    events &+= 1
    let time = min(record.time, StageAnalyzer.timeMax)
    if time < now { inversions &+= 1 } else { now = time }
    guard let kind = record.event else { return }
    switch source {
    case .kernel: takeKernel(record, kind, stream, tail)
    case .engine where subject == .endpoint:
      let stream = Int(UInt8(truncatingIfNeeded: stream))
      takeEngine(record, kind, stream, tail)
      streamTimes[stream] = now
    case .host where subject == .endpoint: takeHost(record, kind)
    case .engine, .host: break
    }
  }

  // MARK: What both sides do to commands

  /// The command enters; whatever holds its name already has lost its completion.
  mutating func begin(_ command: consuming Command) -> UInt32 {
    let old = commands.find(command.qid, command.cid)
    if old != Command.none { abandon(named: old) }
    if commands.isFull { abandonAll() }
    command.depthEra = depth.era
    (command.resetEpoch, command.gaps) = (resetEpoch, gaps)
    if !command.isAdmin { depth.enter(begin: command.begin, now: now) }
    return commands.insert(command)
  }

  /// The command ends now, or ended at `time`.
  mutating func finish(_ index: UInt32, at time: UInt64? = nil) {
    let command = commands[index]
    guard command.isWhole, !command.isFromHost || command.hostEpoch == hostEpoch else { return abandon(index) }
    let times = command.times(end: time ?? now)
    leave(index)
    guard !command.isEventRequest else { return }
    tally.record(times)
    onCommand?(times)
  }

  /// The command's end or begin is missing.
  mutating func abandon(_ index: UInt32) {
    if !commands[index].isAdmin {
      if isInterrupted(commands[index]) { interrupted &+= 1 } else { partial &+= 1 }
    }
    leave(index)
  }

  /// A reset, or the deletion of its queue, ended it: no event of it is missing.
  private func isInterrupted(_ command: Command) -> Bool {
    guard command.isWhole, command.gaps == gaps else { return false }
    if command.resetEpoch != resetEpoch { return true }
    guard !command.isFromKernel, let queue = submissionQueues.find(command.qid) else { return false }
    return command.queueEpoch != submissionQueues[queue].epoch
  }

  mutating func abandon(named index: UInt32) {
    commands.unname(index)
    abandon(index)
  }

  private mutating func leave(_ index: UInt32) {
    if !commands[index].isAdmin { depth.leave(era: commands[index].depthEra, now: now) }
    commands.remove(index)
  }

  /// More is in flight than can be: most of it is not.
  private mutating func abandonAll() {
    for index in 0..<completionQueues.count { empty(completionQueue: index, isNew: false) }
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) { abandon(named: index) }
  }

  /// What was counted so far were pieces of commands.
  mutating func disownFinished() {
    partial &+= tally.io.commands
    tally = Tally(tally.groups?.grouping)
  }

  // MARK: Losing sight

  /// The controller is back in its initial state: it has no queues and no commands.
  mutating func takeReset() {
    isStopped = false
    resetEpoch &+= 1
    hostEpoch &+= 1
    depth.restart(now: now)
  }

  mutating func takeGap(_ gap: Event.Gap, source: Source, stream: Int) {
    gaps &+= 1
    lost = lost.addingReportingOverflow(gap.events).overflow ? .max : lost + gap.events
    depth.restart(now: now)
    switch source {
    case .engine: streamGaps[stream] &+= 1
    case .host, .kernel: hostEpoch &+= 1
    }
  }

  /// The completion queue's entries are gone.
  mutating func empty(completionQueue index: Int, isNew: Bool) {
    var position = completionQueues[index].entries.start
    while position < completionQueues[index].entries.end {
      let command = completionQueues[index].entries[position].command
      if command != Command.none { abandon(command) }
      position += 1
    }
    completionQueues[index].restart(isNew: isNew, at: now)
  }

  // MARK: Result

  /// What the events so far say.
  public func summary() -> Summary {
    var unfinished: UInt64 = 0
    var lostSight: UInt64 = 0
    var interrupted = interrupted
    var oldest: [UnfinishedCommand] = []
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) && !commands[index].isAdmin {
      if isCurrent(commands[index]) {
        unfinished += 1
        oldest.keep(UnfinishedCommand(commands[index], now: now))
      } else if isInterrupted(commands[index]) {
        interrupted += 1
      } else {
        lostSight += 1
      }
    }
    for index in 0..<submissionQueues.count {
      let queue = submissionQueues[index]
      if queue.qid != 0, queue.hostEpoch == hostEpoch { unfinished += UInt64(queue.waiting) }
    }
    let statistics = tally.io.breakdown
    let begin = tally.io.firstBegin
    let weighted = statistics.commands == 0 || now <= begin ? 0 : Double(depth.area(until: now)) / Double(now - begin)
    return Summary(
      io: statistics, adminCommands: tally.adminCommands, events: events, lost: lost, gaps: gaps, resets: resets,
      stops: stops, partial: partial + lostSight, interrupted: interrupted, unfinished: unfinished,
      oldestUnfinished: oldest, inversions: inversions,
      queueDepthTimeWeighted: weighted, queueDepthMax: depth.depthMax, turn: tally.turn.distribution,
      queueFull: tally.queueFull.distribution, hostSubmit: tally.hostSubmit.known, undetected: tally.undetected.known,
      tail: tally.tail.slowest(of: statistics.commands), ringWaits: ringWaits, ringWaitNs: ringWaitNs,
      absences: absences, absentNs: absentNs,
      kernelEvents: kernelEvents, subject: subject, hops: tally.hops, completedTwice: kernel.completedTwice,
      unannounced: kernel.sawInterrupt ? kernel.unannounced : 0,
      probes: kernel.probes, grouping: tally.groups?.grouping, groups: tally.groups?.values ?? [])
  }

  /// Nothing has happened since the command was fetched that may have lost events of it.
  private func isCurrent(_ command: Command) -> Bool {
    if command.isFromKernel { return command.isWhole && command.depthEra == depth.era }
    guard command.isWhole, command.depthEra == depth.era, let queue = submissionQueues.find(command.qid) else {
      return false
    }
    return command.queueEpoch == submissionQueues[queue].epoch
  }
}
