import Events

extension StageAnalyzer {
  /// Continue the timeline of the engine's thread until this event.
  mutating func extendTimeline(_ record: Record, _ kind: EventKind) {
    switch kind {
    case .doorbell:
      if let stall = timeline.found(at: now, since: UInt64(Event.Doorbell(record).poll)) { window.stalled(stall) }
    case .fetch: timeline.cover(.fetch, until: now, span: UInt64(Event.Fetch(record).span))
    case .map:
      let map = Event.Map(record)
      let begin = now - min(UInt64(map.span), now)
      if timeline.rename(since: begin, to: .map) { window.correct(since: begin, timeline) }
      timeline.cover(.map, until: now, span: UInt64(map.span))
    case .read:
      let read = Event.Read(record)
      timeline.cover(isMapped(read) ? .dataIn : .map, until: now, span: UInt64(read.span))
    case .write: timeline.cover(.dataOut, until: now, span: UInt64(Event.Write(record).span))
    case .segment:
      let segment = Event.Segment(record)
      timeline.cover(segment.flags.contains(.fromHost) ? .dataIn : .dataOut, until: now, span: UInt64(segment.span))
    case .payload: timeline.cover(.recording, until: now, span: UInt64(Event.Payload(record).span))
    case .stateHash: timeline.cover(.recording, until: now, span: UInt64(Event.StateHash(record).span))
    case .ringWait: timeline.cover(.recording, until: now, span: Event.RingWait(record).span)
    // It begins when the thread stops polling for it, and ends with this event.
    case .clock: timeline.advance(to: now, .recording)
    case .executeBegin, .completionQueueFull, .rest: timeline.advance(to: now, .engine)
    // The backend did its work meanwhile, the thread polled.
    case .executeEnd: timeline.advance(to: now, Event.ExecuteEnd(record).flags.contains(.later) ? .poll : .execute)
    case .completion: timeline.advance(to: now, .complete)
    case .interrupt: timeline.advance(to: now, .interrupt)
    case .gap: timeline.restart()
    default: timeline.advance(to: now, .poll)
    }
  }

  /// What is read before a command is mapped are its lists.
  func isMapped(_ read: Event.Read) -> Bool {
    let index = commands.find(read.qid, read.cid)
    return index != TrackedCommand.none && commands[index].map.isKnown
  }

  /// The command waited for the engine's thread in this stage.
  @inline(__always)
  mutating func wait(_ index: UInt32, _ stage: Stage, from begin: UInt64, to end: UInt64) {
    guard end > begin else { return }
    commands[index].waits.stages[stage] &+= end - begin
    timeline.add(from: begin, to: end, into: &commands[index].waits.behind)
  }
}

/// How long a command waited, and what the engine's thread did meanwhile, as far as the timeline still knows.
struct Waits {
  var stages = StageTimes()
  var behind = ActivityTimes()
}
