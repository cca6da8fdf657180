import Events
import KernelStreams
import NVMe
import Trace

/// Whose commands are looked at.
public enum Subject: Hashable, Sendable {
  /// Our own endpoint's.
  case endpoint
  /// Those of a controller of the kernel's target.
  case controller(UInt16)
}

/// What the kernel's streams have told so far that is not a command's alone.
struct KernelView {
  var streams = KernelStreams()
  /// Of the controller that is looked at.
  var nqn: String?
  /// The trace has a stream of the driver that drives the controller: every command begins and ends there.
  var hasHost = false
  /// The controller is nvmet-pci-epf's: its commands show all their stages.
  var isEndpoint = false
  /// What the host's driver has submitted and the target has not taken up: by queue and command identifier.
  var submits: [CommandKey: UInt64] = [:]
  /// The doorbells that the host has written, by submission queue.
  var doorbells: [UInt16: HostDoorbells] = [:]
  /// Commands whose completion is posted and not announced, by completion queue, and how many they are.
  var posted: [UInt16: [UInt32]] = [:]
  var postedCount = 0
  /// When the completion queue's work began that runs now.
  var completionWork: [UInt16: UInt64] = [:]
  var failedFetches = FailedFetches()

  var completedTwice: UInt64 = 0
  /// Commands that were completed with no interrupt behind them.
  var unannounced: UInt64 = 0
  var sawInterrupt = false
  var probes: ProbeCosts?

  static let submitsMax = 1 << 17
  /// Clocks of one machine's CPUs differ by less, nanoseconds.
  static let clocksApart: UInt64 = 100_000
  static let postedMax = CommandPool.countMax
}

/// The last doorbells that a host wrote for one submission queue.
struct HostDoorbells {
  private var recent: [SubmissionQueue.Doorbell] = []
  private static let countMax = 64

  mutating func add(_ tail: UInt32, at time: UInt64) {
    if recent.count == HostDoorbells.countMax { recent.removeFirst() }
    let to = Int32(truncatingIfNeeded: min(tail, 0xffff))
    recent.append(SubmissionQueue.Doorbell(from: recent.last?.to ?? -1, to: to, time: time, pollSpan: 0))
  }

  /// When the host told of a command that it submitted at `time` into entry `slot`.
  func first(since time: UInt64, covering slot: UInt32) -> UInt64? {
    recent.first { $0.time >= time && $0.covers(Int32(truncatingIfNeeded: min(slot, 0xffff))) }?.time
  }
}

extension StageAnalyzer {
  mutating func takeKernel(_ record: Record, _ kind: EventKind, _ stream: Int, _ tail: UnsafeRawBufferPointer) {
    kernelEvents &+= 1
    if kind == .probe { takeProbe(Event.Probe(record), tail) }
    guard case .controller(let controller) = subject else { return }
    switch kernel.streams.take(record, tail: tail, stream: UInt16(truncatingIfNeeded: stream)) {
    case .owner(let owner): takeOwner(owner, controller)
    case .gap(let gap):
      takeGap(gap, source: .kernel, stream: stream)
      loseCommands()
    case .event(let kind, let owner):
      if owner.drives(controller, of: kernel.nqn) {
        takeKernelHost(record, kind)
      } else if owner.isTarget(controller) {
        if kind.isOfEndpoint { becomeEndpoint() }
        takeKernelTarget(record, kind, tail)
      }
    case nil: break
    }
  }

  private mutating func takeProbe(_ probe: Event.Probe, _ tail: UnsafeRawBufferPointer) {
    let name = String(decoding: tail.prefix(min(Int(probe.length), 128)), as: UTF8.self)
    kernel.probes = kernel.probes ?? ProbeCosts()
    kernel.probes?.add(name, runs: probe.runs, meanNs: probe.mean)
  }

  private mutating func takeOwner(_ owner: StreamOwner, _ controller: UInt16) {
    if owner.isTarget(controller), !owner.nqn.isEmpty, kernel.nqn == nil {
      kernel.nqn = owner.nqn
      kernel.hasHost = kernel.streams.owners.values.contains { $0.drives(controller, of: owner.nqn) }
    } else if owner.drives(controller, of: kernel.nqn) {
      kernel.hasHost = true
    }
  }

  /// An event that only nvmet-pci-epf has: what the target core alone showed before were pieces of its commands, those
  /// that were under way when the recording began.
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

  private mutating func takeKernelHost(_ record: Record, _ kind: EventKind) {
    switch kind {
    case .submit:
      let submit = Event.Submit(record)
      if takeLateSubmit(submit) { return }
      if kernel.submits.count >= KernelView.submitsMax { kernel.submits = [:] }
      kernel.submits[submit.key] = now
    case .doorbell:
      let doorbell = Event.Doorbell(record)
      guard !doorbell.flags.contains(.completionHead) else { return }
      if kernel.doorbells.count >= KernelView.submitsMax { kernel.doorbells = [:] }
      kernel.doorbells[doorbell.qid, default: HostDoorbells()].add(doorbell.value, at: now)
    case .completion: takeKernelSeen(Event.Completion(record))
    default: break
    }
  }

  private mutating func takeKernelSeen(_ seen: Event.Completion) {
    kernel.submits[seen.queueKey] = nil
    let index = commands.find(seen.cqid, seen.cid)
    guard index != Command.none, commands[index].isFromHost else { return }
    // Another CPU's clock may be behind: what the target has to say of its execution comes yet.
    if commands[index].isRequestOnly, commands[index].requested != 0, commands[index].execute.end == 0 {
      if !commands[index].isSeenEarly { inversions &+= 1 }
      commands[index].isSeenEarly = true
    } else {
      end(index, at: now)
    }
  }

  /// The host's word of a command that the target has only just told of, by another CPU's clock.
  private mutating func takeLateSubmit(_ submit: Event.Submit) -> Bool {
    let index = commands.find(submit.qid, submit.cid)
    guard index != Command.none, commands[index].isRequestOnly, !commands[index].isFromHost, !commands[index].isWhole,
      now - commands[index].begin <= KernelView.clocksApart
    else { return false }
    inversions &+= 1
    commands[index].isFromHost = true
    commands[index].isWhole = true
    return true
  }

  // MARK: The target

  private mutating func takeKernelTarget(_ record: Record, _ kind: EventKind, _ tail: UnsafeRawBufferPointer) {
    switch kind {
    case .fetch: takeKernelFetch(Event.Fetch(record), tail)
    case .work: takeWork(Event.Work(record))
    case .workEnd: takeWorkEnd(Event.WorkEnd(record))
    case .request: takeRequest(Event.Request(record))
    case .read:
      let read = Event.Read(record)
      change(read) { command, now in command.map.add(end: now, span: UInt64(read.span)) }
    case .segment: takeKernelSegment(Event.Segment(record))
    case .executeBegin:
      change(Event.ExecuteBegin(record)) { command, now in
        command.execute.begin = min(command.execute.begin, now)
        command.mapUntil(command.dataIn.isKnown ? command.dataIn.begin : now)
      }
    case .executeEnd: takeKernelExecuteEnd(Event.ExecuteEnd(record))
    case .completionQueued: change(Event.CompletionQueued(record)) { command, now in command.ready = now }
    case .completion: takeKernelCompletion(Event.Completion(record))
    case .interrupt:
      kernel.sawInterrupt = true
      let interrupt = Event.Interrupt(record)
      if !interrupt.flags.contains(.failed) { announce(interrupt.cqid, byInterrupt: true) }
    case .dropped: takeDropped(Event.Dropped(record))
    case .registerWrite: takeKernelRegister(Event.RegisterWrite(record))
    case .link where Event.Link(record).up == .down:
      resets &+= 1
      takeReset()
    default: break
    }
  }

  private mutating func takeKernelFetch(_ fetch: Event.Fetch, _ tail: UnsafeRawBufferPointer) {
    guard !kernel.failedFetches.take(fetch) else { return }
    var command = Command(qid: fetch.qid, cid: fetch.cid)
    command.fetch.add(end: now, span: UInt64(fetch.span))
    if let opcode = tail.first { (command.opcode, command.opcodeIsKnown) = (opcode, true) }
    enter(&command, since: command.fetch.begin, slot: fetch.slot)
  }

  private mutating func takeDropped(_ dropped: Event.Dropped) {
    guard !kernel.failedFetches.take(dropped) else { return }
    let index = commands.find(dropped.qid, dropped.cid)
    if index != Command.none { abandon(named: index) }
  }

  private mutating func takeWork(_ work: Event.Work) {
    switch work.work {
    case .command:
      if commands.find(work.qid, work.cid) == Command.none { enterCut(work) }
      change(work) { command, now in
        command.hops.dispatch = UInt64(work.queued)
        command.workBegin = now
      }
    case .completionQueue: kernel.completionWork[work.qid] = now
    default: break
    }
  }

  private mutating func takeWorkEnd(_ work: Event.WorkEnd) {
    guard work.work == .completionQueue else { return }
    // What no interrupt has announced by now, none will.
    announce(work.qid, byInterrupt: false)
    kernel.completionWork[work.qid] = nil
  }

  private mutating func takeRequest(_ request: Event.Request) {
    let known = commands.find(request.qid, request.cid)
    if known == Command.none || commands[known].requested != 0 {
      if kernel.isEndpoint { enterCut(request) } else { enterRequest(request) }
    }
    change(request) { command, now in
      command.requested = now
      (command.opcode, command.opcodeIsKnown) = (request.opcode, true)
    }
  }

  /// A command of a transport of which no more is seen than this.
  private mutating func enterRequest(_ request: Event.Request) {
    var command = Command(qid: request.qid, cid: request.cid)
    (command.opcode, command.opcodeIsKnown) = (request.opcode, true)
    command.isRequestOnly = true
    enter(&command, since: now)
  }

  /// A command that was fetched before the recording began, or in a gap.
  private mutating func enterCut(_ event: some CommandEvent) {
    var command = Command(qid: event.qid, cid: event.cid)
    command.isWhole = false
    enter(&command, since: now)
  }

  /// A command comes into sight: it began with the host's submission where that is known, else at `time`.
  private mutating func enter(_ command: inout Command, since time: UInt64, slot: UInt32? = nil) {
    command.begin = time
    command.isFromKernel = true
    command.hostEpoch = hostEpoch
    if let submit = kernel.submits.removeValue(forKey: CommandKey(qid: command.qid, cid: command.cid)) {
      command.isFromHost = true
      if submit > time { inversions &+= 1 }
      command.begin = min(submit, time)
      if let slot, !kernel.doorbells.isEmpty {
        // The host's stamp may come late, but not the doorbell: it was written before the fetch began.
        let rung = kernel.doorbells[command.qid]?.first(since: submit, covering: slot) ?? time
        command.hops.doorbell = min(rung, time) - command.begin
      }
    } else if kernel.hasHost, !command.isAdmin {
      // A latency from here would be of another kind than the others'.
      command.isWhole = false
    }
    _ = begin(command)
  }

  private mutating func change(_ event: some CommandEvent, _ change: (inout Command, UInt64) -> Void) {
    let index = commands.find(event.qid, event.cid)
    guard index != Command.none else { return }
    change(&commands[index], now)
  }

  private mutating func takeKernelSegment(_ segment: Event.Segment) {
    let bytes = segment.flags.contains(.failed) ? 0 : UInt64(segment.length)
    change(segment) { command, now in
      if segment.flags.contains(.fromHost) {
        command.dataIn.add(end: now, span: UInt64(segment.span))
        command.mapUntil(command.dataIn.begin)
        command.bytesFromHost &+= bytes
      } else {
        if !command.dataOut.isKnown, command.execute.end != 0 {
          let begin = now - min(UInt64(segment.span), now)
          command.hops.wakeUp = begin - min(command.execute.end, begin)
        }
        command.dataOut.add(end: now, span: UInt64(segment.span))
        command.bytesToHost &+= bytes
      }
    }
  }

  private mutating func takeKernelExecuteEnd(_ event: Event.ExecuteEnd) {
    let index = commands.find(event.qid, event.cid)
    guard index != Command.none else { return }
    if commands[index].execute.begin == .max {
      // No probe told when it was handed over: after all that must come first.
      let known = max(commands[index].requested, commands[index].map.end, commands[index].dataIn.end)
      commands[index].execute.begin = min(known == 0 ? now : known, now)
    }
    commands[index].execute.end = now
    commands[index].expectedBytes = UInt64(event.bytes)
    commands[index].hasFailed = event.status != 0
    guard commands[index].isRequestOnly else { return }
    if commands[index].opcode & 3 == 1 { commands[index].bytesFromHost = UInt64(event.bytes) }
    if commands[index].opcode & 3 == 2 { commands[index].bytesToHost = UInt64(event.bytes) }
    if !commands[index].isFromHost || commands[index].isSeenEarly { end(index, at: now) }
  }

  private mutating func takeKernelCompletion(_ completion: Event.Completion) {
    let index = commands.find(completion.sqid, completion.cid)
    guard index != Command.none else { return }
    guard commands[index].posted == 0 else {
      kernel.completedTwice &+= 1
      return
    }
    commands[index].posted = max(now, 1)
    commands[index].cqid = completion.cqid
    commands[index].hasFailed = !Status(rawValue: completion.status).isSuccess
    if let began = kernel.completionWork[completion.cqid], commands[index].ready != 0 {
      commands[index].hops.completion = began - min(commands[index].ready, began)
    }
    // Commands that were given up since keep their places here until the queue's next interrupt.
    if kernel.postedCount >= KernelView.postedMax { forgetPosted() }
    kernel.posted[completion.cqid, default: []].append(index)
    kernel.postedCount += 1
  }

  /// The completions posted so far are the host's: by an interrupt, or without one.
  private mutating func announce(_ cqid: UInt16, byInterrupt: Bool) {
    guard let indices = kernel.posted.removeValue(forKey: cqid) else { return }
    kernel.postedCount -= indices.count
    for index in indices where commands.isLive(index) && commands[index].posted != 0 && commands[index].cqid == cqid {
      if byInterrupt { commands[index].announced = now } else { kernel.unannounced &+= 1 }
      if !commands[index].isFromHost { end(index, at: byInterrupt ? now : commands[index].posted) }
    }
  }

  private mutating func end(_ index: UInt32, at time: UInt64) {
    if !commands[index].hasAllOfKernel { commands[index].isWhole = false }
    commands.unname(index)
    finish(index, at: time)
  }

  private mutating func takeKernelRegister(_ write: Event.RegisterWrite) {
    guard write.offset == Register.cc else { return }
    let enable = write.value & 1 != 0
    if let isEnabled, isEnabled != enable {
      if !enable { resets &+= 1 }
      takeReset()
      kernel.doorbells = [:]
    }
    isEnabled = enable
  }
}

/// How long a command of the kernel's target waited for a thread to run.
public struct Hops: Sendable {
  /// From the queueing of its work item until it runs.
  public var dispatch: UInt64 = 0
  /// From the host's submission until its doorbell; 0 where that is not known.
  public var doorbell: UInt64 = 0
  /// From the end of its execution until its data is on the way.
  public var wakeUp: UInt64 = 0
  /// From ready until the completion queue's work runs.
  public var completion: UInt64 = 0
}

extension EventKind {
  /// Of the kernel's targets, only nvmet-pci-epf has it.
  fileprivate var isOfEndpoint: Bool {
    switch self {
    case .fetch, .work, .workEnd, .response, .completionQueued, .segment, .completion: true
    default: false
    }
  }
}

extension Command {
  /// Every event that a command of its kind must have had is there. A probe that was not run may cost any of them.
  var hasAllOfKernel: Bool {
    guard requested != 0 || hasFailed, execute.end != 0 || hasFailed else { return false }
    if isRequestOnly || hasFailed { return true }
    return fetch.isKnown && workBegin != 0 && posted != 0 && bytesFromHost + bytesToHost == expectedBytes
  }

  /// The data pointer has been parsed by `time`, since the target core took the command.
  mutating func mapUntil(_ time: UInt64) {
    let since = workBegin != 0 ? workBegin : requested
    guard requested != 0, time >= since else { return }
    map.begin = min(map.begin, since)
    map.end = max(map.end, time)
  }
}
