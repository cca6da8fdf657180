import Events
import KernelTimeline
import NVMe
import Trace

/// Computes from events how the commands' time was spent, in one pass and with memory proportional to the commands in
/// flight.
///
/// It trusts no trace: whatever the events are, it neither fails nor grows without bound; inconsistent commands count
/// as partial and stay out of the statistics.
public struct StageAnalyzer: ~Copyable {
  /// Times are clamped to this many nanoseconds, 146 years.
  public static let timeMax: UInt64 = 1 << 62
  /// Streams beyond this number share a gap count.
  static let streamsMax = 256

  /// Called with every finished command that the filter selects, including admin commands.
  public var onCommand: ((borrowing CommandTimes) -> Void)?
  /// Called with every command that the analysis leaves out because its beginning or end is lost, whatever the filter.
  public var onLoss: ((CommandFacts) -> Void)?

  var now: UInt64 = 0
  var events: UInt64 = 0
  var kernelEvents: UInt64 = 0
  var lost: UInt64 = 0
  var gaps: UInt64 = 0
  var resets: UInt64 = 0
  var partial: UInt64 = 0
  var drops = DropCounts()
  var inversions: UInt64 = 0
  var ringWaits: UInt64 = 0
  var ringWaitNs: UInt64 = 0
  /// Commands whose identifier the host used again while they were in flight.
  var reused: UInt64 = 0

  /// Injected faults, by kind.
  var faults: [UInt8: UInt64] = [:]

  var stops: Stops?
  /// The controller has stopped and has not been reset since.
  var isStopped = false
  var asq = QueueBase(Register.asq)
  var acq = QueueBase(Register.acq)

  var commands = CommandPool()
  var submissionQueues = QueueTable<TrackedSubmissionQueue>()
  var completionQueues = QueueTable<TrackedCompletionQueue>()
  /// How many more elements the queues may allocate.
  var budget = 4 << 20

  /// Number of times that the controller returned to its initial state.
  var resetEpoch: UInt32 = 0
  var streamGaps = [UInt32](repeating: 0, count: streamsMax)
  /// What the engine's thread does.
  var timeline = ServerTimeline()
  var window = ServerWindow()
  /// The latest event of its stream but waits for the ring: until when the timeline reached with it, and the total for
  /// the recording then.
  var previous: (time: UInt64, recorded: UInt64) = (0, 0)
  /// By stream, what the host's threads do.
  var hostThreads: [HostActivity] = []
  var counts = EngineCounts()
  var hostEpoch: UInt32 = 0
  var isEnabled: Bool?
  var queuesHaveBeenFull = false

  let subject: Subject
  var kernel = KernelView()
  var host = HostTracker()
  var failures = FailureCounts()
  /// Resets with commands before and after them; `resetsSeen` were before the latest command.
  private var resetsBetween: UInt64 = 0
  private var resetsSeen: UInt64?

  var depth = DepthMeter()
  private var tally: Tally
  private let filter: CommandFilter?
  /// Finished I/O commands that the filter does not select.
  private var unselected: UInt64 = 0

  /// - Parameters:
  ///   - grouping: how to group the summary; nil for no groups.
  ///   - subject: the commands to analyse; events of others are only counted.
  ///   - filter: the statistics contain only commands that it selects; nil for all.
  ///   - windowNs: length of the windows of time that the summary contains; nil for none.
  public init(
    grouping: Grouping? = nil, subject: Subject = .endpoint, filter: CommandFilter? = nil, windowNs: UInt64? = nil
  ) {
    tally = Tally(grouping, windowNs: windowNs)
    self.subject = subject
    if case .controller(let controller) = subject { kernel.driver = DriverTimeline(of: controller) }
    self.filter = filter
  }

  /// Process the next event. Events of all streams must come in order of time.
  ///
  /// - Parameters:
  ///   - stream: number of the stream within its source.
  ///   - tail: the bytes after the record; used only for fetches.
  public mutating func ingest(
    _ record: Record, source: Source, stream: Int = 0, tail: UnsafeRawBufferPointer = .init(start: nil, count: 0)
  ) {
    events &+= 1
    let time = min(record.time, StageAnalyzer.timeMax)
    guard let kind = record.event else { return }
    if time < now { inversions &+= 1 } else { now = time }
    host.begin(event: events, at: now)
    switch source {
    case .kernel: ingestKernel(record, kind, stream, tail)
    case .engine where subject == .endpoint:
      if stream == 0 {
        extendTimeline(record, kind)
        window.keepEnd(timeline)
      }
      ingestEngine(record, kind, Int(UInt8(truncatingIfNeeded: stream)), tail)
      if kind != .ringWait { previous = (timeline.cursor, timeline.recorded) }
    case .host where subject == .endpoint: ingestHost(record, kind, stream)
    case .engine, .host: break
    }
  }

  // MARK: What both sides do to commands

  /// Add a command; an earlier command with the same name has lost its completion.
  mutating func begin(_ command: consuming TrackedCommand) -> UInt32 {
    let old = commands.find(command.qid, command.cid)
    if old != TrackedCommand.none { replace(old) }
    if commands.isFull { abandonAll() }
    if resetsSeen != resets {
      resetsBetween &+= resetsSeen.map { resets &- $0 } ?? 0
      resetsSeen = resets
    }
    command.depthGeneration = depth.generation
    (command.resetEpoch, command.gaps) = (resetEpoch, gaps)
    (command.lastEvent, command.lastTime) = (events, now)
    if !command.isAdmin { depth.enter(begin: command.begin) }
    let index = commands.insert(command)
    if subject == .endpoint {
      if !command.isAdmin { window.begin(index, at: command.begin, timeline) }
      // Until its fetch the command waited.
      wait(index, .detect, from: command.begin, to: command.fetch.begin)
    }
    return index
  }

  /// The command ends now, or ended at `time`.
  mutating func finish(_ index: UInt32, at time: UInt64? = nil) {
    let isCounted = commands[index].isWhole && (!commands[index].isFromHost || commands[index].hostEpoch == hostEpoch)
    guard isCounted else { return abandon(index) }
    let times = commands[index].times(end: time ?? now, lastEvent: events)
    let (isAdmin, isEventRequest) = (commands[index].isAdmin, commands[index].isEventRequest)
    leave(index, finished: times.begin..<times.end)
    guard !isEventRequest else { return }
    guard filter?.selects(times) ?? true else {
      if !isAdmin { unselected += 1 }
      return
    }
    tally.record(times)
    if !isAdmin, subject != .endpoint { kernel.waits.finish(index) }
    onCommand?(times)
  }

  /// The command's end or beginning is lost.
  mutating func abandon(_ index: UInt32) {
    if !commands[index].isAdmin {
      if let drop = drop(of: commands[index]) { drops.add(drop) } else { partial &+= 1 }
    }
    onLoss?(commands[index].facts(last: events))
    leave(index)
  }

  /// The reset or the deletion of its queue that ended it; nil if events of it are lost.
  private func drop(of command: TrackedCommand) -> Drop? {
    guard command.isWhole, command.gaps == gaps else { return nil }
    if command.resetEpoch != resetEpoch { return drops.cause(ofGeneration: command.resetEpoch) }
    guard !command.isFromKernel, let queue = submissionQueues.find(command.qid) else { return nil }
    return command.queueEpoch != submissionQueues[queue].epoch ? .queueDeletion : nil
  }

  mutating func abandon(named index: UInt32) {
    commands.unname(index)
    abandon(index)
  }

  /// - Parameter finished: from its beginning to its end; nil without an end.
  mutating func leave(_ index: UInt32, finished: Range<UInt64>? = nil) {
    if !commands[index].isAdmin {
      let lost = lostTime(of: index)
      if lost == nil {
        depth.leave(now: now)
        if let queue = executingQueue(of: index) { submissionQueues[queue].executing -= 1 }
      }
      window.end(index, finished: finished?.upperBound, timeline)
      if let finished {
        depth.finish(begin: finished.lowerBound, end: finished.upperBound)
      } else {
        depth.drop(begin: commands[index].begin, end: lost ?? now)
      }
    }
    commands.remove(index)
  }

  /// When a reset, the deletion of its queue or a loss of events ended the command; nil if it is in flight.
  private func lostTime(of index: UInt32) -> UInt64? {
    let generation = commands[index].depthGeneration
    if generation != depth.generation { return depth.end(ofGeneration: generation) ?? now }
    guard commands[index].isExecuting, let queue = submissionQueues.find(commands[index].qid),
      commands[index].queueEpoch != submissionQueues[queue].epoch
    else { return nil }
    return submissionQueues[queue].epochBegin
  }

  /// The queue that counts this command, which is in flight, among those without a completion.
  private func executingQueue(of index: UInt32) -> Int? {
    commands[index].isExecuting ? submissionQueues.find(commands[index].qid) : nil
  }

  /// More commands are in flight than possible: most of them have ended.
  private mutating func abandonAll() {
    for index in 0..<completionQueues.count { empty(completionQueue: index, isNew: false) }
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) { abandon(named: index) }
  }

  /// The commands counted so far were fragments.
  mutating func disownFinished() {
    partial &+= tally.io.commands
    depth.forget()
    tally = Tally(tally.groups?.grouping, windowNs: tally.windows?.lengthNs)
    kernel.waits = DriverWaitTable()
  }

  // MARK: Losing sight

  /// The controller is back in its initial state, without queues and commands.
  mutating func ingestReset(_ cause: Drop = .disabled, isEnabled: Bool = false) {
    isStopped = false
    drops.endGeneration(cause)
    host.restart(isEnabled: isEnabled)
    resetEpoch &+= 1
    hostEpoch &+= 1
    depth.restart(now: now)
  }

  mutating func ingestGap(_ gap: Event.Gap, source: Source, stream: Int) {
    gaps &+= 1
    host.forget()
    lost = lost.addingReportingOverflow(gap.events).overflow ? .max : lost + gap.events
    depth.restart(now: now)
    switch source {
    case .engine: streamGaps[stream] &+= 1
    case .host, .kernel: hostEpoch &+= 1
    }
  }

  /// The completion queue's entries are gone.
  mutating func empty(completionQueue index: Int, isNew: Bool) {
    for position in completionQueues[index].entries.positions() {
      let command = completionQueues[index].entries[position].command
      if command != TrackedCommand.none { abandon(command) }
    }
    completionQueues[index].restart(isNew: isNew, at: now)
  }

  // MARK: Result

  /// The result of all events so far.
  public func summary() -> Summary {
    var unfinished: UInt64 = 0
    var incomplete: UInt64 = 0
    var drops = drops
    var inFlight: UInt128 = 0
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) && !commands[index].isAdmin {
      inFlight += depth.part(commands[index].begin, lostTime(of: index) ?? .max)
      if isCurrent(commands[index]) {
        unfinished += 1
      } else if let drop = drop(of: commands[index]) {
        drops.add(drop)
      } else {
        incomplete += 1
      }
    }
    for index in 0..<submissionQueues.count {
      let queue = submissionQueues[index]
      if queue.qid != 0, queue.hostEpoch == hostEpoch { unfinished += UInt64(queue.waiting) }
    }
    let statistics = tally.io.breakdown
    return Summary(
      io: statistics, adminCommands: tally.adminCommands, events: events, lost: lost, gaps: gaps, faults: faults,
      resets: resets,
      resetsBetween: resetsBetween,
      stops: stops, partial: partial + incomplete, drops: drops.known, reused: reused, unfinished: unfinished,
      oldestUnfinished: oldestUnfinished, hostBehaviour: host.result, otherHostBehaviour: host.others,
      failures: failures.kinds, otherFailures: failures.others, inversions: inversions,
      queueDepthTimeWeighted: filter == nil ? depth.mean(with: inFlight) : statistics.queueDepth,
      queueDepthMax: depth.depthMax, turn: tally.turn.distribution,
      queueFull: tally.queueFull.distribution, handling: tally.handling.known, hostSubmit: tally.hostSubmit.known,
      undetected: tally.undetected.known,
      bands: tally.bands.bands(median: statistics.latency.p50Ns), ringWaits: ringWaits, ringWaitNs: ringWaitNs,
      server: serverUse, hosts: hostUse, counts: counts,
      kernelEvents: kernelEvents, subject: subject, handoffs: tally.handoffs,
      driver: driverUse,
      completedTwice: kernel.completedTwice,
      unannounced: kernel.sawInterrupt ? kernel.unannounced : 0,
      probes: kernel.probes, windows: tally.windows,
      among: filter == nil ? nil : statistics.commands + unselected, grouping: tally.groups?.grouping,
      groups: tally.groups?.values ?? [])
  }

  /// The commands in flight, which have no end in the trace so far.
  public func forEachUnfinished(_ body: (CommandFacts) -> Void) {
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) { body(commands[index].facts(last: .max)) }
  }

  /// Nil without commands of the endpoint, and if the statistics are those of some commands only.
  private var serverUse: ServerUse? {
    filter == nil && tally.io.commands > 0 ? window.use(timeline) : nil
  }

  private var driverUse: DriverUse? {
    tally.handoffs == nil ? nil : kernel.driver.use(until: tally.io.lastEnd, kernel.waits.finished)
  }

  private var hostUse: HostUse? {
    let active = hostThreads.filter(\.isKnown)
    return active.isEmpty || filter != nil ? nil : HostUse(active)
  }

  /// No event of the command can have been lost since its fetch.
  func isCurrent(_ command: TrackedCommand) -> Bool {
    guard command.isWhole, command.depthGeneration == depth.generation else { return false }
    if command.isFromKernel { return true }
    guard let queue = submissionQueues.find(command.qid) else { return false }
    return command.queueEpoch == submissionQueues[queue].epoch
  }
}
