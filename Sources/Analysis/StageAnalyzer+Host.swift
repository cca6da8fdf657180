import Events
import Trace

extension StageAnalyzer {
  /// How many entries a host event is looked for among: as many as may be missing in a row before they are given up.
  private static var searchMax: Int { 64 }

  mutating func ingestHost(_ record: Record, _ kind: EventKind, _ stream: Int) {
    let thread = hostThread(stream)
    endHandling(thread, kind)
    switch kind {
    case .submit:
      let submit = Event.Submit(record)
      if submit.qid != 0 { hostThreads[thread].acted(at: now) }
      ingestSubmit(submit)
    case .doorbell:
      let doorbell = Event.Doorbell(record)
      if doorbell.qid != 0 { hostThreads[thread].acted(at: now) }
      if doorbell.flags.contains(.completionHead) { ingestHostHead(doorbell.qid) } else { ingestHostTail(doorbell.qid) }
    case .completion:
      let seen = Event.Completion(record)
      let (index, posted) = ingestSeen(seen)
      if seen.cqid != 0 { hostThreads[thread].saw(at: now, posted: posted) }
      if index != TrackedCommand.none { see(index, thread) }
    case .rest: hostThreads[thread].rested(until: now, span: Event.Rest(record).span)
    case .gap:
      hostThreads[thread].forget()
      ingestGap(Event.Gap(record), source: .host, stream: 0)
    case .ringWait:
      ringWaits &+= 1
      ringWaitNs = min(ringWaitNs + min(Event.RingWait(record).span, StageAnalyzer.timeMax), StageAnalyzer.timeMax)
    default: break
    }
  }

  /// Its first event after it saw an entry shows that it is done with that.
  @inline(__always)
  private mutating func endHandling(_ thread: Int, _ kind: EventKind) {
    let index = hostThreads[thread].latest
    guard index != TrackedCommand.none, kind != .rest else { return }
    hostThreads[thread].latest = TrackedCommand.none
    // Another command may have its place by now.
    if index < commands.indexEnd, commands[index].sight?.next == nil { commands[index].sight?.next = now }
  }

  /// The host sees the completion queue entry of a command.
  private mutating func see(_ index: UInt32, _ thread: Int) {
    commands[index].sight = HostSight(time: now, idle: hostThreads[thread].idle, rest: hostThreads[thread].rest)
    hostThreads[thread].latest = index
  }

  /// The index of a host's stream; beyond their limit, streams share one.
  private mutating func hostThread(_ stream: Int) -> Int {
    let thread = min(max(stream, 0), StageAnalyzer.streamsMax - 1)
    while hostThreads.count <= thread { hostThreads.append(HostActivity()) }
    return thread
  }

  /// The queue's index, without what the host said before a gap or a reset.
  private mutating func hostQueue(_ qid: UInt16) -> Int {
    let index = submissionQueues.index(of: qid, life(of: 0))
    if submissionQueues[index].life.resets != resetEpoch { restart(submissionQueue: index) }
    if submissionQueues[index].hostEpoch != hostEpoch {
      submissionQueues[index].hostEpoch = hostEpoch
      submissionQueues[index].submits.removeAll()
    }
    return index
  }

  private mutating func ingestSubmit(_ event: Event.Submit) {
    let queue = hostQueue(event.qid)
    if !submissionQueues[queue].hasHost, submissionQueues[queue].hasFetches {
      // The ends of the commands in flight are not those that their successors wait for.
      depth.restart(now: now)
    }
    submissionQueues[queue].hasHost = true
    let submit = TrackedSubmissionQueue.Submit(
      cid: event.cid, opcode: event.opcode, time: now, doorbell: TrackedCommand.noTime, event: events)
    _ = submissionQueues[queue].submits.append(submit, &budget)
  }

  /// The doorbell covers whatever was submitted before it.
  private mutating func ingestHostTail(_ qid: UInt16) {
    let queue = hostQueue(qid)
    for position in submissionQueues[queue].submits.positions(from: submissionQueues[queue].rung) {
      submissionQueues[queue].submits[position].doorbell = now
      submissionQueues[queue].submits[position].doorbellEvent = events
    }
    submissionQueues[queue].rung = submissionQueues[queue].submits.end
  }

  /// Position of what the host said of a command, among the oldest that it submitted.
  private func findSubmit(_ queue: Int, _ cid: UInt16) -> Int? {
    submissionQueues[queue].submits.positions().prefix(StageAnalyzer.searchMax).first {
      submissionQueues[queue].submits[$0].cid == cid
    }
  }

  /// Find what the host said of a command that the engine has just fetched. Commands are fetched in the order in which
  /// they were submitted, so whatever was submitted before it and not fetched never will be.
  /// - Returns: nil if the host's stream lacks its submission or doorbell.
  mutating func takeSubmit(_ cid: UInt16, _ queue: Int) -> TrackedSubmissionQueue.Submit? {
    guard submissionQueues[queue].hostEpoch == hostEpoch, let position = findSubmit(queue, cid) else { return nil }
    let submit = submissionQueues[queue].submits[position]
    submissionQueues[queue].submits.removeFirst(position + 1 - submissionQueues[queue].submits.start)
    return submit.doorbell == TrackedCommand.noTime ? nil : submit
  }

  /// The host saw a completion queue entry; it sees them in the order of posting.
  /// - Returns: its command, or none; and when it was posted, nil if that is unknown.
  private mutating func ingestSeen(_ seen: Event.Completion) -> (command: UInt32, posted: UInt64?) {
    let sqid = seen.sqid
    guard let queue = completionQueues.find(seen.cqid) else {
      dropUnfetched(sqid, seen.cid)
      return (TrackedCommand.none, nil)
    }
    let next = completionQueues[queue].entries.positions(from: completionQueues[queue].seen)
    for position in next.prefix(StageAnalyzer.searchMax) {
      let entry = completionQueues[queue].entries[position]
      guard entry.sqid == sqid, entry.cid == seen.cid else { continue }
      completionQueues[queue].entries[position].isSeen = true
      completionQueues[queue].seen = position + 1
      guard entry.command != TrackedCommand.none else { return (TrackedCommand.none, nil) }
      follow(entry.command, .completion)
      return (entry.command, commands[entry.command].posted)
    }
    let index = commands.find(sqid, seen.cid)
    guard index != TrackedCommand.none, commands[index].isFromHost else {
      dropUnfetched(sqid, seen.cid)
      return (TrackedCommand.none, nil)
    }
    commands[index].isSeenEarly = true
    inversions &+= 1
    return (index, now)
  }

  /// A command completed whose fetch is not in the trace: it and all commands submitted before it were fetched.
  private mutating func dropUnfetched(_ qid: UInt16, _ cid: UInt16) {
    guard let queue = submissionQueues.find(qid), let position = findSubmit(queue, cid) else { return }
    let count = position + 1 - submissionQueues[queue].submits.start
    submissionQueues[queue].submits.removeFirst(count)
    // Commands fetched before the queue's first event in the trace do not count as partial.
    if submissionQueues[queue].hasFetches { partial &+= UInt64(count) }
  }

  /// The host frees the entries that it has seen; their commands end here.
  private mutating func ingestHostHead(_ cqid: UInt16) {
    guard let queue = completionQueues.find(cqid) else { return }
    let end = min(completionQueues[queue].seen, completionQueues[queue].entries.end)
    for position in completionQueues[queue].entries.positions(from: completionQueues[queue].reaped, upTo: end) {
      let entry = completionQueues[queue].entries[position]
      if entry.isSeen, entry.command != TrackedCommand.none, commands[entry.command].isFromHost {
        completionQueues[queue].entries[position].command = TrackedCommand.none
        finish(entry.command)
      }
    }
    completionQueues[queue].reaped = max(completionQueues[queue].reaped, end)
  }
}
