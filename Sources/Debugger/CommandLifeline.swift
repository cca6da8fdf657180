import Events
import Trace

/// The events of one command in all streams, in the order of time: from its submission, as far as the host recorded it,
/// to the doorbell that frees its completion.
struct CommandLifeline {
  struct Moment {
    let source: Source
    let stream: UInt16
    let ns: UInt64
    let event: UInt64
    /// The stream that has it.
    let events: NumberedEvents
  }

  private(set) var moments: [Moment] = []

  /// - Parameter until: nothing later is looked for.
  init(_ history: CommandHistory, _ engine: NumberedEvents, _ hosts: [NumberedEvents], until ns: UInt64)
    throws
  {
    try addDoorbell(before: history, engine)
    for event in history.events { try add(engine, event, until: ns) }
    var seen: UInt64?
    for host in hosts { seen = try add(host, history, until: ns) ?? seen }
    // A host frees an entry after it has seen it.
    let isSeen = hosts.isEmpty || seen != nil
    if let ended = history.ended, !history.wasReset {
      try addEnd(history, ended, engine, freedAfter: isSeen ? seen ?? 0 : .max, until: ns)
    }
    moments.sort { ($0.ns, $0.source.rawValue, $0.event) < ($1.ns, $1.source.rawValue, $1.event) }
  }

  private mutating func add(_ events: NumberedEvents, _ number: UInt64, until ns: UInt64) throws {
    guard let record = try events.event(number), record.pointee.time <= ns else { return }
    moments.append(
      Moment(
        source: events.id.source, stream: events.id.stream, ns: record.pointee.time, event: number, events: events))
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
    _ history: CommandHistory, _ ended: UInt64, _ engine: NumberedEvents, freedAfter seen: UInt64, until ns: UInt64
  ) throws {
    guard let cqid = try engine.event(ended)?.pointee.qid else { return }
    var faults: [UInt64] = []
    var interrupt: UInt64?
    var freed: UInt64?
    try engine.forEach(from: ended + 1) { number, record in
      guard record.pointee.time <= ns else { return true }
      guard record.pointee.qid == cqid else { return false }
      if record.pointee.is(.interrupt) { interrupt = interrupt ?? number }
      if record.pointee.is(.fault), interrupt == nil { faults.append(number) }
      if record.pointee.is(.doorbell), Event.Doorbell(record.pointee).flags.contains(.completionHead),
        record.pointee.time >= seen
      {
        freed = number
        return true
      }
      return false
    }
    for number in faults.prefix(8) + [interrupt, freed].compactMap({ $0 }) { try add(engine, number, until: ns) }
  }

  /// The host's submission before the fetch, and its sight of the completion.
  /// - Returns: when the host saw its completion.
  private mutating func add(_ host: NumberedEvents, _ history: CommandHistory, until ns: UInt64) throws -> UInt64? {
    var submit: UInt64?
    let fetched = try host.end(upTo: history.fetchedNs)
    try host.forEachBackward(before: fetched) { number, record in
      guard record.pointee.is(.submit), record.pointee.qid == history.qid, record.pointee.cid == history.cid else {
        return false
      }
      submit = number
      return true
    }
    guard let submit else { return nil }
    try add(host, submit, until: ns)
    var rung: UInt64?
    var seen: UInt64?
    try host.forEach(from: submit + 1) { number, record in
      guard record.pointee.time <= ns else { return true }
      if record.pointee.is(.doorbell), record.pointee.qid == history.qid,
        !Event.Doorbell(record.pointee).flags.contains(.completionHead)
      {
        rung = rung ?? number
      }
      if record.pointee.is(.completion), record.pointee.cid == history.cid,
        Event.Completion(record.pointee).sqid == history.qid
      {
        seen = number
        return true
      }
      // Its name is used again.
      return record.pointee.is(.submit) && record.pointee.qid == history.qid && record.pointee.cid == history.cid
    }
    for number in [rung, seen].compactMap({ $0 }) { try add(host, number, until: ns) }
    return try seen.flatMap { try host.event($0)?.pointee.time }
  }
}
