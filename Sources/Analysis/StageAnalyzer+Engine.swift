import Events
import NVMe
import Trace

extension StageAnalyzer {
  mutating func ingestEngine(
    _ record: Record, _ kind: EventKind, _ stream: Int, _ tail: UnsafeRawBufferPointer
  ) {
    let recorded = timeline.recorded
    switch kind {
    case .doorbell:
      let doorbell = Event.Doorbell(record)
      guard host.accepts(doorbell) else { break }
      if doorbell.flags.contains(.completionHead) { ingestHead(doorbell, stream) } else { ingestTail(doorbell, stream) }
    case .fetch: ingestFetch(Event.Fetch(record), stream, tail)
    case .map: ingestMap(Event.Map(record))
    case .read:
      noteFailure(Event.Read(record))
      if Event.Read(record).qid != 0, !isMapped(Event.Read(record)) { counts.listReads &+= 1 }
      note(Event.Read(record)) { command, read, now in
        // Until the command is mapped, reads fetch its lists and belong to map.
        if command.map.isKnown { command.dataIn.add(end: now, span: UInt64(read.span), recorded: recorded) }
      }
    case .write:
      noteFailure(Event.Write(record))
      note(Event.Write(record)) { $0.dataOut.add(end: $2, span: UInt64($1.span), recorded: recorded) }
    case .segment:
      noteFailure(Event.Segment(record))
      if Event.Segment(record).qid != 0 { counts.segments &+= 1 }
      note(Event.Segment(record)) { $0.add($1, at: $2, recorded: recorded) }
    case .payload: note(Event.Payload(record)) { $0.add($1, at: $2) }
    case .executeBegin: ingestExecuteBegin(Event.ExecuteBegin(record))
    case .executeEnd:
      suspectFlush(Event.ExecuteEnd(record))
      ingestExecuteEnd(Event.ExecuteEnd(record))
    case .timer where Event.Timer(record).timer == .keepAlive: host.suspect(.keepAlive)
    case .completionQueueFull:
      host.becameFull(Event.CompletionQueueFull(record).cqid)
      let queue = completionQueue(Event.CompletionQueueFull(record).cqid, stream)
      completionQueues[queue].becameFull(at: now)
      queuesHaveBeenFull = true
    case .completion: ingestCompletion(Event.Completion(record), stream)
    case .interrupt: ingestInterrupt(Event.Interrupt(record), stream)
    case .registerWrite:
      let write = Event.RegisterWrite(record)
      host.ingest(write)
      ingestRegisterWrite(write)
      asq.ingest(write)
      acq.ingest(write)
    case .registerRead:
      // While a controller is being disabled it may still show an earlier stop.
      let read = Event.RegisterRead(record)
      let csts = ControllerStatus(rawValue: UInt32(truncatingIfNeeded: read.value))
      if read.offset == Register.csts, csts.fatal, isEnabled != false { stop(.unknown) }
    case .reset:
      resets &+= 1
      isEnabled = false
      host.clearRegisters()
      ingestReset(Drop(Event.Reset(record).reason))
    case .fault:
      let fault = Event.Fault(record)
      if fault.ended == 0 {
        faults[fault.fault.rawValue, default: 0] &+= 1
        host.injected(fault.fault)
      }
    case .gap: ingestGap(Event.Gap(record), source: .engine, stream: stream)
    case .ringWait:
      ringWaits &+= 1
      ringWaitNs = min(ringWaitNs + min(Event.RingWait(record).span, StageAnalyzer.timeMax), StageAnalyzer.timeMax)
    default: break
    }
  }

  // MARK: Queues

  /// What knowledge of a queue of this stream is valid now.
  @inline(__always)
  func life(of stream: Int) -> Life { Life(resets: resetEpoch, stream: stream, gaps: streamGaps[stream]) }

  /// The queue's index, after applying all resets and gaps since the last access.
  @inline(__always)
  mutating func submissionQueue(_ qid: UInt16, _ stream: Int) -> Int {
    let index = submissionQueues.index(of: qid, life(of: stream))
    switch submissionQueues[index].life.move(to: life(of: stream)) {
    case .reset: submissionQueues[index].restart(at: now)
    case .gap: submissionQueues[index].forget(at: now)
    case .none: break
    }
    return index
  }

  @inline(__always)
  mutating func completionQueue(_ qid: UInt16, _ stream: Int) -> Int {
    let index = completionQueues.index(of: qid, life(of: stream))
    let change = completionQueues[index].life.move(to: life(of: stream))
    if change != .none { empty(completionQueue: index, isNew: change == .reset) }
    return index
  }

  /// A write that changes CC.EN takes the controller to its initial state (Base 2.1, 3.1.4.5).
  private mutating func ingestRegisterWrite(_ write: Event.RegisterWrite) {
    let cc: UInt32
    switch write.offset {
    case Register.cc: cc = UInt32(truncatingIfNeeded: write.value)
    case Register.cc - 4 where write.width == 8: cc = UInt32(truncatingIfNeeded: write.value >> 32)
    default: return
    }
    let enable = cc & 1 != 0
    let isShutdown = cc >> 14 & 3 != 0
    if enable == isEnabled || (isEnabled == nil && isShutdown) { return }
    if !enable { resets &+= 1 }
    isEnabled = enable
    ingestReset(isEnabled: enable)
  }

  /// The controller does nothing until it is reset.
  private mutating func stop(_ cause: Stops.Cause) {
    guard !isStopped else { return }
    isStopped = true
    if cause == .unknown { host.stopped() }
    if stops == nil { stops = Stops(firstNs: now, firstCause: cause) } else { stops!.count += 1 }
    stops!.hasRecovered = false
  }

  // MARK: From doorbell to fetch

  private mutating func ingestTail(_ tail: Event.Doorbell, _ stream: Int) {
    let queue = submissionQueue(tail.qid, stream)
    let to = Int32(truncatingIfNeeded: min(tail.value, 0xffff))
    let from = submissionQueues[queue].tail
    submissionQueues[queue].tail = to
    guard from != to else { return }
    if tail.qid != 0 { counts.doorbells &+= 1 }
    let doorbell = TrackedSubmissionQueue.Doorbell(
      from: from, to: to, time: now, pollSpan: tail.poll, event: events)
    _ = submissionQueues[queue].doorbells.append(doorbell, &budget)
  }

  private mutating func ingestFetch(_ fetch: Event.Fetch, _ stream: Int, _ tail: UnsafeRawBufferPointer) {
    let queue = submissionQueue(fetch.qid, stream)
    guard !fetch.flags.contains(.failed) else {
      let address = fetch.qid == 0 ? asq.address : submissionQueues[queue].base
      host.failed(.failedFetch, qid: fetch.qid, at: address.map { $0 &+ UInt64(fetch.slot) * 64 }, isFatal: true)
      return stop(.submissionQueue(qid: fetch.qid, address: address))
    }
    isStopped = false
    stops?.hasRecovered = true
    host.ingest(fetch, tail)
    submissionQueues[queue].hasFetches = true
    var command = TrackedCommand(qid: fetch.qid, cid: fetch.cid)
    command.queueEpoch = submissionQueues[queue].epoch
    command.hostEpoch = hostEpoch
    command.fetch.add(end: now, span: UInt64(fetch.span))
    command.opcode = tail.first
    command.events.first = events
    if tail.count >= SubmissionEntry.size {
      command.request = CommandRequest(tail.loadUnaligned(as: SubmissionEntry.self), isAdmin: command.isAdmin)
    }
    let doorbell = doorbell(for: Int32(truncatingIfNeeded: min(fetch.slot, 0xffff)), of: queue)
    if let doorbell {
      command.seen = doorbell.time
      command.pollSpan = doorbell.pollSpan
      command.events.seen = doorbell.event
    }
    if fetch.qid != 0 {
      counts.entries &+= 1
      if !fetch.flags.contains(.joined) { counts.fetches &+= 1 }
    }
    if submissionQueues[queue].hasHost {
      command.join(takeSubmit(fetch.cid, queue))
      if command.begin > min(command.seen, command.fetch.begin) { inversions &+= 1 }
    } else if let doorbell {
      command.begin = doorbell.time
    } else {
      command.begin = command.fetch.begin
      command.isWhole = false
    }
    if queuesHaveBeenFull { command.fullBefore = fullTime(for: command.qid) }
    if !command.isAdmin { submissionQueues[queue].executing &+= 1 }
    _ = begin(command)
  }

  /// The doorbell that announced this slot to the engine. Slots are fetched in order, so earlier doorbells are done.
  private mutating func doorbell(for slot: Int32, of queue: Int) -> TrackedSubmissionQueue.Doorbell? {
    while let doorbell = submissionQueues[queue].doorbells.first {
      let isNext = submissionQueues[queue].nextDoorbellCovers(slot)
      // If the beginning of a doorbell's range is unknown, the next doorbell shows where it ends.
      if doorbell.covers(slot), doorbell.from >= 0 || !isNext { return doorbell }
      if doorbell.from < 0, !isNext { return nil }
      submissionQueues[queue].doorbells.removeFirst()
    }
    return nil
  }

  /// A queue that was created or deleted is unrelated to the previous queue with its identifier. The host may submit its
  /// first commands before the engine's stream mentions the queue again.
  private mutating func apply(_ setup: QueueSetup) {
    switch setup.opcode {
    case .createIOSubmissionQueue, .deleteIOSubmissionQueue:
      let index = submissionQueues.index(of: setup.qid, life(of: 0))
      _ = submissionQueue(setup.qid, submissionQueues[index].life.stream)
      for _ in 0..<submissionQueues[index].executing { depth.leave(now: now) }
      restart(submissionQueue: index)
      submissionQueues[index].base = setup.opcode == .createIOSubmissionQueue ? setup.base : nil
    default:
      let index = completionQueues.index(of: setup.qid, life(of: 0))
      completionQueues[index].life = life(of: completionQueues[index].life.stream)
      empty(completionQueue: index, isNew: true)
      completionQueues[index].base = setup.opcode == .createIOCompletionQueue ? setup.base : nil
    }
  }

  mutating func restart(submissionQueue index: Int) {
    submissionQueues[index].life = life(of: submissionQueues[index].life.stream)
    submissionQueues[index].restart(at: now)
  }

  // MARK: From fetch to completion

  private mutating func ingestMap(_ event: Event.Map) {
    let index = commands.find(event.qid, event.cid)
    guard index != TrackedCommand.none else { return }
    let begin = now - min(UInt64(event.span), now)
    if !commands[index].map.isKnown {
      wait(index, .dispatch, from: commands[index].fetch.end, to: begin)
      // The event that its lists were read may have waited for the ring.
      let recorded = ringWaits == 0 ? nil : timeline.times(at: begin)?[.recording]
      commands[index].map.open(at: begin, recorded: recorded ?? timeline.recorded)
    }
    let recorded = timeline.recorded
    note(event) { $0.map.add(end: $2, span: UInt64($1.span), recorded: recorded) }
  }

  private mutating func ingestExecuteBegin(_ event: Event.ExecuteBegin) {
    let index = commands.find(event.qid, event.cid)
    guard index != TrackedCommand.none else { return }
    if !commands[index].map.isKnown, commands[index].execute.begin == .max {
      wait(index, .dispatch, from: commands[index].fetch.end, to: now)
    }
    let recorded = timeline.recorded
    note(event) { command, begin, now in
      command.execute.open(at: now, recorded: recorded)
      command.opcode = command.opcode ?? begin.opcode
    }
  }

  private mutating func ingestExecuteEnd(_ event: Event.ExecuteEnd) {
    let index = commands.find(event.qid, event.cid)
    // The first one counts, if a backend completes a request twice.
    guard index != TrackedCommand.none, commands[index].execute.end == 0 else { return }
    let isLater = event.flags.contains(.later)
    if isLater { counts.later &+= 1 }
    // The recording delays no request that is at the backend.
    let recorded = isLater ? 0 : timeline.recorded
    note(event) { $0.execute.close(at: $2, recorded: recorded) }
  }

  /// Apply an event to its command, if that is known.
  /// - Parameter change: receives the command, the event, and now.
  @inline(__always)
  mutating func note<E: CommandEvent>(_ event: E, _ change: (inout TrackedCommand, E, UInt64) -> Void) {
    let index = commands.find(event.qid, event.cid)
    guard index != TrackedCommand.none else { return }
    change(&commands[index], event, now)
    follow(index, E.kind)
    if queuesHaveBeenFull { commands[index].fullBefore = fullTime(for: event.qid) }
  }

  /// Total time that the completion queue of this submission queue has been full.
  private func fullTime(for sqid: UInt16) -> UInt64 {
    guard let queue = submissionQueues.find(sqid),
      let completion = completionQueues.find(submissionQueues[queue].cqid)
    else { return 0 }
    return completionQueues[completion].fullTime(at: now)
  }

  // MARK: From completion to reap

  private mutating func ingestCompletion(_ entry: Event.Completion, _ stream: Int) {
    let sqid = entry.sqid
    let queue = submissionQueue(sqid, stream)
    let completion = completionQueue(entry.cqid, stream)
    guard !entry.flags.contains(.failed) else {
      // The command stays in flight until the reset that follows.
      let address = entry.cqid == 0 ? acq.address : completionQueues[completion].base
      host.failed(.failedCompletion, qid: entry.cqid, cid: entry.cid, at: address, isFatal: true)
      return stop(.completionQueue(qid: entry.cqid, address: address))
    }
    var index = commands.find(sqid, entry.cid)
    noteStatus(entry, index)
    if let setup = host.ingest(entry) { apply(setup) }
    if index != TrackedCommand.none {
      commands.unname(index)
      if commands[index].queueEpoch != submissionQueues[queue].epoch {
        abandon(index)
        index = TrackedCommand.none
      }
    }

    let slot = completionQueues[completion].post(phase: entry.phase)
    var posted = TrackedCompletionQueue.Entry(command: index, sqid: sqid, cid: entry.cid, slot: slot)
    if index != TrackedCommand.none {
      submissionQueues[queue].cqid = entry.cqid
      wait(index, .complete, from: commands[index].served, to: previous.time)
      commands[index].recorded.complete = timeline.recorded - previous.recorded
      if sqid != 0 { submissionQueues[queue].executing &-= 1 }
      commands[index].posted = now
      follow(index, .completion)
      commands[index].status = Status(rawValue: entry.status)
      let fullTime = completionQueues[completion].fullTime(at: now)
      commands[index].queueFull = fullTime - min(commands[index].fullBefore, fullTime)
      if commands[index].isSeenEarly {
        posted.isSeen = true
        completionQueues[completion].seen = completionQueues[completion].entries.end + 1
      }
    }
    if let evicted = completionQueues[completion].entries.append(posted, &budget),
      evicted.command != TrackedCommand.none
    {
      abandon(evicted.command)
    }
  }

  private mutating func ingestInterrupt(_ interrupt: Event.Interrupt, _ stream: Int) {
    if interrupt.cqid != 0 { counts.interrupts &+= 1 }
    let queue = completionQueue(interrupt.cqid, stream)
    for position in completionQueues[queue].entries.positions(from: completionQueues[queue].announced) {
      let command = completionQueues[queue].entries[position].command
      guard command != TrackedCommand.none else { continue }
      wait(command, .interrupt, from: commands[command].posted, to: previous.time)
      commands[command].recorded.interrupt = timeline.recorded - previous.recorded
      commands[command].announced = now
      follow(command, .interrupt)
      commands[command].events.interrupt = events
    }
    completionQueues[queue].announced = completionQueues[queue].entries.end
  }

  /// The engine sees that the host has consumed entries. For commands with a host stream this only announces the
  /// doorbell event of the host, which must follow.
  private mutating func ingestHead(_ head: Event.Doorbell, _ stream: Int) {
    let index = completionQueue(head.qid, stream)
    completionQueues[index].becameFree(at: now)
    let (target, isCertain) = cover(Int32(truncatingIfNeeded: min(head.value, 0xffff)), of: index)
    let coveredBefore = completionQueues[index].covered
    for position in completionQueues[index].entries.positions(upTo: target) {
      let command = completionQueues[index].entries[position].command
      guard command != TrackedCommand.none else { continue }
      let isOurs = !commands[command].isFromHost
      guard isOurs || position < coveredBefore else { continue }
      completionQueues[index].entries[position].command = TrackedCommand.none
      if isOurs && isCertain { finish(command) } else { abandon(command) }
    }
    completionQueues[index].covered = target
    dropReaped(index)
  }

  /// How far a new head reaches into the entries, and whether that is certain.
  private mutating func cover(_ head: Int32, of index: Int) -> (target: Int, isCertain: Bool) {
    let end = completionQueues[index].entries.end
    var target = max(completionQueues[index].covered, completionQueues[index].entries.start)
    while target < end, completionQueues[index].entries[target].slot != head { target += 1 }
    guard target == end else { return (target, completionQueues[index].tailIsKnown) }
    // All of them, then. That the head is where the tail is confirms the tail; 0 is where it goes from the last slot.
    // Any other head tells that the tail was wrong.
    let isConfirmed = head == completionQueues[index].tail || head == 0
    completionQueues[index].tail = head
    completionQueues[index].tailIsKnown = true
    return (end, isConfirmed)
  }

  /// Forget the oldest entries, as far as they are dealt with. Those beyond the head that the engine saw stay: its next
  /// sight of the head is measured by them.
  private mutating func dropReaped(_ index: Int) {
    while completionQueues[index].entries.start < completionQueues[index].covered,
      completionQueues[index].entries.first?.command == TrackedCommand.none
    {
      completionQueues[index].entries.removeFirst()
    }
  }
}

extension TrackedCommand {
  /// Its beginning is the host's, if that is known.
  @inline(__always)
  mutating func join(_ submit: TrackedSubmissionQueue.Submit?) {
    isFromHost = true
    isWhole = submit != nil
    begin = submit?.doorbell ?? fetch.begin
    guard let submit else { return }
    self.submit = submit.time
    events.first = submit.event
    events.rung = submit.doorbellEvent
    opcode = opcode ?? submit.opcode
  }

  /// A piece of its data was transferred.
  mutating func add(_ segment: Event.Segment, at now: UInt64, recorded: UInt64 = 0) {
    let bytes = segment.flags.contains(.failed) ? 0 : UInt64(segment.length)
    if segment.flags.contains(.fromHost) {
      dataIn.add(end: now, span: UInt64(segment.span), recorded: recorded)
      bytesFromHost &+= bytes
    } else {
      dataOut.add(end: now, span: UInt64(segment.span), recorded: recorded)
      bytesToHost &+= bytes
    }
  }

  /// The recorder's digest of the data; traces of earlier versions do not tell how long it took.
  mutating func add(_ payload: Event.Payload, at now: UInt64) {
    guard payload.span > 0 else { return }
    if payload.flags.contains(.fromHost) {
      digestIn.add(end: now, span: UInt64(payload.span))
    } else {
      digestOut.add(end: now, span: UInt64(payload.span))
    }
  }
}
