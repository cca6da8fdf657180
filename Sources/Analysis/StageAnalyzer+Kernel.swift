import Events
import KernelStreams
import KernelTimeline
import NVMe
import Trace

/// The commands to analyse.
public enum Subject: Hashable, Sendable {
  /// Commands of our own endpoint.
  case endpoint
  /// Commands of one controller of the kernel's target.
  case controller(UInt16)
}

/// State of the kernel's streams beyond individual commands.
struct KernelView {
  var streams = KernelStreams()
  /// NQN of the analysed controller's subsystem.
  var nqn: String?
  /// The trace has a stream of the driver that drives the controller: every command begins and ends there.
  var hasHost = false
  /// The controller belongs to nvmet-pci-epf, whose commands show all stages.
  var isEndpoint = false
  /// Commands submitted by the host's driver and not yet fetched by the target, by queue and command identifier.
  var submits: [CommandKey: (time: UInt64, event: UInt64)] = [:]
  /// Doorbells written by the host, by submission queue.
  var doorbells: [UInt16: HostDoorbells] = [:]
  /// Commands with a posted but unannounced completion, by completion queue, and their total number.
  var posted: [UInt16: [UInt32]] = [:]
  var postedCount = 0
  /// When the current run of each completion queue's work item began, and on which CPU.
  var completionWork: [UInt16: (began: UInt64, cpu: UInt16)] = [:]
  var driver = DriverTimeline()
  /// How long the transfer of the current event waited for its channel.
  var channelWait: UInt64 = 0
  var waits = DriverWaitTable()
  var failedFetches = FailedFetches()

  var completedTwice: UInt64 = 0
  /// Commands completed without a following interrupt.
  var unannounced: UInt64 = 0
  var sawInterrupt = false
  var probes: ProbeCosts?

  static let submitsMax = 1 << 17
  /// Largest difference between the clocks of a machine's CPUs, nanoseconds.
  static let clocksApart: UInt64 = 100_000
  static let postedMax = CommandPool.countMax
}

/// The latest doorbells that a host wrote for one submission queue.
struct HostDoorbells {
  private var recent: [TrackedSubmissionQueue.Doorbell] = []
  private static let countMax = 64

  mutating func add(_ tail: UInt32, at time: UInt64) {
    if recent.count == HostDoorbells.countMax { recent.removeFirst() }
    let to = Int32(truncatingIfNeeded: min(tail, 0xffff))
    recent.append(TrackedSubmissionQueue.Doorbell(from: recent.last?.to ?? -1, to: to, time: time, pollSpan: 0))
  }

  /// The time of the host's doorbell for a command that it submitted at `time` into entry `slot`.
  func first(since time: UInt64, covering slot: UInt32) -> UInt64? {
    recent.first { $0.time >= time && $0.covers(Int32(truncatingIfNeeded: min(slot, 0xffff))) }?.time
  }
}

extension StageAnalyzer {
  mutating func ingestKernel(_ record: Record, _ kind: EventKind, _ stream: Int, _ tail: UnsafeRawBufferPointer) {
    kernelEvents &+= 1
    if kind == .probe { kernel.probes = (kernel.probes ?? ProbeCosts()).adding(Event.Probe(record), tail) }
    guard case .controller(let controller) = subject else { return }
    switch kernel.streams.ingest(record, tail: tail, stream: UInt16(truncatingIfNeeded: stream)) {
    case .owner(let owner): ingestOwner(owner, controller)
    case .gap(let gap):
      ingestGap(gap, source: .kernel, stream: stream)
      kernel.driver.restart()
      loseCommands()
    case .event(let kind, let owner):
      kernel.channelWait = kernel.driver.ingest(record, kind, owner, at: now)
      if owner.drives(controller, of: kernel.nqn) {
        ingestKernelHost(record, kind)
      } else if owner.isTarget(controller) {
        if kind.isOfEndpoint { becomeEndpoint() }
        ingestKernelTarget(record, kind, tail, on: owner.cpu)
      }
    case nil: break
    }
  }

  private mutating func ingestOwner(_ owner: StreamOwner, _ controller: UInt16) {
    if owner.isTarget(controller), !owner.nqn.isEmpty, kernel.nqn == nil {
      kernel.nqn = owner.nqn
      kernel.hasHost = kernel.streams.owners.values.contains { $0.drives(controller, of: owner.nqn) }
    } else if owner.drives(controller, of: kernel.nqn) {
      kernel.hasHost = true
    }
  }

  /// An event that only nvmet-pci-epf has: earlier events of the target core were fragments of commands in flight when
  /// the recording began.
  private mutating func becomeEndpoint() {
    guard !kernel.isEndpoint else { return }
    kernel.isEndpoint = true
    disownFinished()
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) && commands[index].isRequestOnly {
      commands[index].isRequestOnly = false
      commands[index].isWhole = false
    }
  }

  private mutating func loseCommands() {
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) { abandon(named: index) }
    if commands.indexEnd > 0 { commands.restart() }
    kernel.submits = [:]
    kernel.doorbells = [:]
    forgetPosted()
  }

  private mutating func forgetPosted() {
    kernel.posted = [:]
    kernel.postedCount = 0
  }

  // MARK: The host's driver

  private mutating func ingestKernelHost(_ record: Record, _ kind: EventKind) {
    switch kind {
    case .submit:
      let submit = Event.Submit(record)
      if ingestLateSubmit(submit) { return }
      if kernel.submits.count >= KernelView.submitsMax { kernel.submits = [:] }
      kernel.submits[submit.key] = (now, events)
    case .doorbell:
      let doorbell = Event.Doorbell(record)
      guard !doorbell.flags.contains(.completionHead) else { return }
      if kernel.doorbells.count >= KernelView.submitsMax { kernel.doorbells = [:] }
      kernel.doorbells[doorbell.qid, default: HostDoorbells()].add(doorbell.value, at: now)
    case .completion: ingestKernelSeen(Event.Completion(record))
    default: break
    }
  }

  private mutating func ingestKernelSeen(_ seen: Event.Completion) {
    kernel.submits[seen.queueKey] = nil
    let index = commands.find(seen.cqid, seen.cid)
    guard index != TrackedCommand.none, commands[index].isFromHost else { return }
    // Another CPU's clock may be behind: the target's event of its execution is still to come.
    if commands[index].isRequestOnly, commands[index].requested != 0, commands[index].execute.end == 0 {
      if !commands[index].isSeenEarly { inversions &+= 1 }
      commands[index].isSeenEarly = true
    } else {
      end(index, at: now)
    }
  }

  /// The host's submission of a command that the target's events already showed, because the CPUs' clocks differ.
  private mutating func ingestLateSubmit(_ submit: Event.Submit) -> Bool {
    let index = commands.find(submit.qid, submit.cid)
    guard index != TrackedCommand.none, commands[index].isRequestOnly, !commands[index].isFromHost,
      !commands[index].isWhole,
      now - commands[index].begin <= KernelView.clocksApart
    else { return false }
    inversions &+= 1
    commands[index].isFromHost = true
    commands[index].isWhole = true
    return true
  }

  // MARK: The target

  private mutating func ingestKernelTarget(
    _ record: Record, _ kind: EventKind, _ tail: UnsafeRawBufferPointer, on cpu: UInt16
  ) {
    switch kind {
    case .fetch: ingestKernelFetch(Event.Fetch(record), tail, on: cpu)
    case .work: ingestWork(Event.Work(record), on: cpu)
    case .workEnd: ingestWorkEnd(Event.WorkEnd(record))
    case .request: ingestRequest(Event.Request(record))
    case .read:
      noteFailure(Event.Read(record))
      note(Event.Read(record)) { $0.map.add(end: $2, span: UInt64($1.span)) }
      waitForChannel(commands.find(record.qid, record.cid), .map)
    case .segment: ingestKernelSegment(Event.Segment(record))
    case .executeBegin:
      note(Event.ExecuteBegin(record)) { command, _, now in
        command.execute.begin = min(command.execute.begin, now)
        command.mapUntil(command.dataIn.isKnown ? command.dataIn.begin : now)
      }
    case .executeEnd: ingestKernelExecuteEnd(Event.ExecuteEnd(record))
    case .completionQueued: note(Event.CompletionQueued(record)) { $0.ready = $2 }
    case .completion: ingestKernelCompletion(Event.Completion(record))
    case .interrupt:
      kernel.sawInterrupt = true
      let interrupt = Event.Interrupt(record)
      if !interrupt.flags.contains(.failed) { announce(interrupt.cqid, byInterrupt: true) }
    case .dropped: ingestDropped(Event.Dropped(record))
    case .registerWrite: ingestKernelRegister(Event.RegisterWrite(record))
    case .link where Event.Link(record).up == .down:
      resets &+= 1
      ingestReset(.linkDown)
    default: break
    }
  }

  private mutating func ingestKernelFetch(_ fetch: Event.Fetch, _ tail: UnsafeRawBufferPointer, on cpu: UInt16) {
    guard !kernel.failedFetches.ingest(fetch) else {
      return host.failed(.failedFetch, qid: fetch.qid, at: nil, isFatal: false)
    }
    var command = TrackedCommand(qid: fetch.qid, cid: fetch.cid)
    command.fetch.add(end: now, span: UInt64(fetch.span))
    command.opcode = tail.first
    if tail.count >= SubmissionEntry.size {
      command.request = CommandRequest(tail.loadUnaligned(as: SubmissionEntry.self), isAdmin: command.isAdmin)
    }
    enter(&command, since: command.fetch.begin, slot: fetch.slot)
    waitForFetch(commands.find(fetch.qid, fetch.cid), on: cpu)
    waitForChannel(commands.find(fetch.qid, fetch.cid), .fetch)
    if !command.isAdmin { kernel.driver.count(since: command.begin, at: now) }
  }

  private mutating func ingestDropped(_ dropped: Event.Dropped) {
    guard !kernel.failedFetches.ingest(dropped) else { return }
    let index = commands.find(dropped.qid, dropped.cid)
    if index != TrackedCommand.none { abandon(named: index) }
  }

  private mutating func ingestWork(_ work: Event.Work, on cpu: UInt16) {
    switch work.work {
    case .command:
      if commands.find(work.qid, work.cid) == TrackedCommand.none { enterCut(work) }
      note(work) { command, work, now in
        command.handoffs.dispatch = min(UInt64(work.queued), now - min(command.fetch.end, now))
        command.workBegin = now
      }
      waitForWorker(commands.find(work.qid, work.cid), on: cpu)
    case .completionQueue: kernel.completionWork[work.qid] = (now, cpu)
    default: break
    }
  }

  /// The command's transfer, which ends now, waited for its channel.
  private mutating func waitForChannel(_ index: UInt32, _ stage: Stage) {
    guard kernel.channelWait > 0, index != TrackedCommand.none else { return }
    kernel.waits[index].channel &+= kernel.channelWait
    commands[index].waits.stages[stage] &+= kernel.channelWait
  }

  /// The command was fetched on this CPU, some time after the host's doorbell.
  private mutating func waitForFetch(_ index: UInt32, on cpu: UInt16) {
    guard index != TrackedCommand.none, commands[index].isFromHost else { return }
    let (begin, end) = (commands[index].begin + commands[index].handoffs.doorbell, commands[index].fetch.begin)
    guard begin < end else { return }
    commands[index].waits.stages[.detect] = end - begin
    kernel.waits[index].detect = kernel.driver.times(of: cpu, from: begin, to: end)
  }

  /// A worker started the command now, on this CPU.
  private mutating func waitForWorker(_ index: UInt32, on cpu: UInt16) {
    guard index != TrackedCommand.none else { return }
    let queued = now - commands[index].handoffs.dispatch
    kernel.waits[index].dispatch = kernel.driver.times(of: cpu, from: queued, to: now)
    // Without itself.
    kernel.waits[index].started = max(kernel.driver.starts(on: cpu, from: queued, to: now), 1) - 1
  }

  private mutating func ingestWorkEnd(_ work: Event.WorkEnd) {
    guard work.work == .completionQueue else { return }
    // Completions not announced by now never will be.
    announce(work.qid, byInterrupt: false)
    kernel.completionWork[work.qid] = nil
  }

  private mutating func ingestRequest(_ request: Event.Request) {
    let known = commands.find(request.qid, request.cid)
    if known == TrackedCommand.none || commands[known].requested != 0 {
      if kernel.isEndpoint { enterCut(request) } else { enterRequest(request) }
    }
    note(request) { command, request, now in
      command.requested = now
      command.opcode = request.opcode
      if command.request.nsid == nil { command.request = CommandRequest(request) }
    }
  }

  /// A command of a transport that records only this event and its completion.
  private mutating func enterRequest(_ request: Event.Request) {
    var command = TrackedCommand(qid: request.qid, cid: request.cid)
    command.opcode = request.opcode
    command.isRequestOnly = true
    enter(&command, since: now)
  }

  /// A command that was fetched before the recording began, or in a gap.
  private mutating func enterCut(_ event: some CommandEvent) {
    var command = TrackedCommand(qid: event.qid, cid: event.cid)
    command.isWhole = false
    enter(&command, since: now)
  }

  /// A new command: it begins with the host's submission if that is known, else at `time`.
  private mutating func enter(_ command: inout TrackedCommand, since time: UInt64, slot: UInt32? = nil) {
    command.begin = time
    command.isFromKernel = true
    command.hostEpoch = hostEpoch
    command.events.first = events
    if let (submit, event) = kernel.submits.removeValue(forKey: CommandKey(qid: command.qid, cid: command.cid)) {
      command.isFromHost = true
      if submit > time { inversions &+= 1 }
      command.begin = min(submit, time)
      command.events.first = event
      if let slot, !kernel.doorbells.isEmpty {
        // The host's event may have a late time stamp, but it wrote the doorbell before the fetch began.
        let rung = kernel.doorbells[command.qid]?.first(since: submit, covering: slot) ?? time
        command.handoffs.doorbell = min(rung, time) - command.begin
      }
    } else if kernel.hasHost, !command.isAdmin {
      // A latency that starts here would not be comparable with the others.
      command.isWhole = false
    }
    kernel.waits[begin(command)] = DriverWaits()
  }

  private mutating func ingestKernelSegment(_ segment: Event.Segment) {
    noteFailure(segment)
    note(segment) { command, segment, now in
      let isFirstToHost = !segment.flags.contains(.fromHost) && !command.dataOut.isKnown
      command.add(segment, at: now)
      if segment.flags.contains(.fromHost) { command.mapUntil(command.dataIn.begin) }
      if isFirstToHost, command.execute.end != 0 {
        command.handoffs.wakeUp = command.dataOut.begin - min(command.execute.end, command.dataOut.begin)
      }
    }
    let stage: Stage = segment.flags.contains(.fromHost) ? .dataIn : .dataOut
    waitForChannel(commands.find(segment.qid, segment.cid), stage)
  }

  private mutating func ingestKernelExecuteEnd(_ event: Event.ExecuteEnd) {
    let index = commands.find(event.qid, event.cid)
    guard index != TrackedCommand.none else { return }
    if commands[index].execute.begin == .max {
      // No probe recorded when the backend received it: after everything that must come first.
      let known = max(commands[index].requested, commands[index].map.end, commands[index].dataIn.end)
      commands[index].execute.begin = min(known == 0 ? now : known, now)
    }
    commands[index].execute.end = now
    commands[index].expectedBytes = UInt64(event.bytes)
    commands[index].status = Status(rawValue: UInt16(truncatingIfNeeded: event.status))
    follow(index, .executeEnd)
    guard commands[index].isRequestOnly else { return }
    noteStatus(UInt16(truncatingIfNeeded: event.status), index)
    switch (commands[index].opcode ?? 0) & 3 {
    case 1: commands[index].bytesFromHost = UInt64(event.bytes)
    case 2: commands[index].bytesToHost = UInt64(event.bytes)
    default: break
    }
    if !commands[index].isFromHost || commands[index].isSeenEarly { end(index, at: now) }
  }

  private mutating func ingestKernelCompletion(_ completion: Event.Completion) {
    let index = commands.find(completion.sqid, completion.cid)
    guard index != TrackedCommand.none else { return }
    guard commands[index].posted == 0 else {
      kernel.completedTwice &+= 1
      return
    }
    commands[index].posted = max(now, 1)
    commands[index].cqid = completion.cqid
    commands[index].status = Status(rawValue: completion.status)
    follow(index, .completion)
    noteStatus(completion.status, index)
    if let (began, cpu) = kernel.completionWork[completion.cqid], commands[index].ready != 0 {
      let ready = min(commands[index].ready, began)
      commands[index].handoffs.completion = began - ready
      kernel.waits[index].completion = kernel.driver.times(of: cpu, from: ready, to: began)
    }
    // Commands abandoned since then stay in this list until the queue's next interrupt.
    if kernel.postedCount >= KernelView.postedMax { forgetPosted() }
    kernel.posted[completion.cqid, default: []].append(index)
    kernel.postedCount += 1
  }

  /// All completions posted so far now belong to the host, announced by an interrupt or not.
  private mutating func announce(_ cqid: UInt16, byInterrupt: Bool) {
    guard let indices = kernel.posted.removeValue(forKey: cqid) else { return }
    kernel.postedCount -= indices.count
    for index in indices where commands.isLive(index) && commands[index].posted != 0 && commands[index].cqid == cqid {
      if byInterrupt {
        commands[index].announced = now
        commands[index].events.interrupt = events
      } else {
        kernel.unannounced &+= 1
      }
      if !commands[index].isFromHost { end(index, at: byInterrupt ? now : commands[index].posted) }
    }
  }

  private mutating func end(_ index: UInt32, at time: UInt64) {
    if !commands[index].hasAllOfKernel { commands[index].isWhole = false }
    commands.unname(index)
    let counted = kernel.waits.finishedCount
    finish(index, at: time)
    if kernel.waits.finishedCount != counted { kernel.driver.count(until: time) }
  }

  private mutating func ingestKernelRegister(_ write: Event.RegisterWrite) {
    guard write.offset == Register.cc else { return }
    let enable = write.value & 1 != 0
    if let isEnabled, isEnabled != enable {
      if !enable { resets &+= 1 }
      ingestReset()
      kernel.doorbells = [:]
    }
    isEnabled = enable
  }
}

extension EventKind {
  /// Whether only nvmet-pci-epf records this kind.
  fileprivate var isOfEndpoint: Bool {
    switch self {
    case .fetch, .work, .workEnd, .response, .completionQueued, .segment, .completion: true
    default: false
    }
  }
}

extension TrackedCommand {
  /// Whether every event required for a command of its kind is present. Any of them is lost if its probe was not run.
  var hasAllOfKernel: Bool {
    guard requested != 0 || hasFailed, execute.end != 0 || hasFailed else { return false }
    if isRequestOnly || hasFailed { return true }
    return fetch.isKnown && workBegin != 0 && posted != 0 && bytesFromHost + bytesToHost == expectedBytes
  }

  /// The data pointer was parsed between the target core's acceptance of the command and `time`.
  mutating func mapUntil(_ time: UInt64) {
    let since = workBegin != 0 ? workBegin : requested
    guard requested != 0, time >= since else { return }
    map.begin = min(map.begin, since)
    map.end = max(map.end, time)
  }
}
