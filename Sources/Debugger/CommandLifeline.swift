import Endpoint
import EventSequences
import Events
import Trace

/// The events of one command in all streams, in the order of time: from its submission, as far as the host recorded it,
/// to the doorbell that frees its completion.
struct CommandLifeline {
  struct Moment {
    let ns: UInt64
    let event: UInt64
    /// The stream that has it.
    let events: NumberedEvents

    var source: Source { events.id.source }
    var stream: UInt16 { events.id.stream }
  }

  private(set) var moments: [Moment] = []

  /// A host's submission of it is recorded, so the host's sight of its completion would be too.
  private(set) var hasHost = false
  private(set) var isSeen = false
  private(set) var isFreed = false

  /// - Parameters:
  ///   - completed: the completion queue right after its completion; nil if it has none.
  ///   - until: nothing later is looked for.
  init(
    _ history: CommandHistory, _ engine: NumberedEvents, _ hosts: [NumberedEvents],
    completed queue: EngineState.Completion?, until ns: UInt64
  ) throws {
    try addDoorbell(before: history, engine)
    for event in history.events { try add(engine, event, until: ns) }
    if let ended = history.ended, let queue, !history.wasReset { try addEnd(ended, queue, engine, until: ns) }
    try addHost(history, hosts, until: ns)
    moments.sort { ($0.ns, $0.source.rawValue, $0.event) < ($1.ns, $1.source.rawValue, $1.event) }
  }

  private mutating func add(_ events: NumberedEvents, _ number: UInt64, until ns: UInt64) throws {
    guard let record = try events.event(number), record.pointee.time <= ns else { return }
    moments.append(Moment(ns: record.pointee.time, event: number, events: events))
  }

  /// The tail doorbell that announced it, as the engine saw it.
  private mutating func addDoorbell(before history: CommandHistory, _ engine: NumberedEvents) throws {
    var found: UInt64?
    try engine.forEachBackward(before: history.fetched) { number, record in
      guard record.pointee.is(.doorbell), record.pointee.qid == history.qid,
        !Event.Doorbell(record.pointee).flags.contains(.completionHead)
      else { return false }
      found = number
      return true
    }
    if let found { try add(engine, found, until: .max) }
  }

  /// The interrupt that announced its completion, and the doorbell that freed it.
  private mutating func addEnd(
    _ ended: UInt64, _ queue: EngineState.Completion, _ engine: NumberedEvents, until ns: UInt64
  ) throws {
    var faults: [UInt64] = []
    var interrupt: UInt64?
    var freed: UInt64?
    // Its entry is the newest: all that are outstanding must be freed.
    var (head, left) = (queue.head, queue.outstanding)
    try engine.forEach(from: ended + 1) { number, record in
      guard record.pointee.time <= ns, !CommandHistory.endsCommands(record.pointee) else { return true }
      guard record.pointee.qid == queue.cqid else { return false }
      if record.pointee.is(.interrupt) { interrupt = interrupt ?? number }
      if record.pointee.is(.fault), interrupt == nil, faults.count < 8 { faults.append(number) }
      guard record.pointee.is(.doorbell), Event.Doorbell(record.pointee).flags.contains(.completionHead) else {
        return false
      }
      let value = Event.Doorbell(record.pointee).value
      guard value < queue.size else { return false }
      left -= min(left, value >= head ? value - head : value + queue.size - head)
      head = value
      if left == 0 { freed = number }
      return left == 0
    }
    isFreed = freed != nil
    for number in faults + [interrupt, freed].compactMap({ $0 }) { try add(engine, number, until: ns) }
  }

  /// The host's submission before the fetch, and its sight of the completion. Each queue of a host may have a stream.
  private mutating func addHost(_ history: CommandHistory, _ hosts: [NumberedEvents], until ns: UInt64) throws {
    var latest: (host: NumberedEvents, event: UInt64, ns: UInt64)?
    for host in hosts {
      try host.forEachBackward(before: try host.end(upTo: history.fetchedNs)) { number, record in
        guard record.pointee.time >= latest?.ns ?? 0 else { return true }
        guard record.pointee.is(.submit), record.pointee.qid == history.qid, record.pointee.cid == history.cid else {
          return false
        }
        latest = (host, number, record.pointee.time)
        return true
      }
    }
    guard let (host, submit, _) = latest else { return }
    hasHost = true
    var rung: UInt64?
    var seen: UInt64?
    let completedNs = history.ended == nil || history.wasReset ? UInt64.max : history.endedNs
    try host.forEach(from: submit + 1) { number, record in
      guard record.pointee.time <= ns else { return true }
      if record.pointee.is(.doorbell), record.pointee.qid == history.qid,
        !Event.Doorbell(record.pointee).flags.contains(.completionHead)
      {
        rung = rung ?? number
      }
      if record.pointee.is(.completion), record.pointee.cid == history.cid, record.pointee.time >= completedNs,
        Event.Completion(record.pointee).sqid == history.qid
      {
        seen = number
        return true
      }
      return false
    }
    isSeen = seen != nil
    for number in [submit, rung, seen].compactMap({ $0 }) { try add(host, number, until: ns) }
  }
}
