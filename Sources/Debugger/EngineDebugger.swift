import Analysis
import Endpoint
import EventSequences
import Events
import Expressions
import NVMe
import Replay
import Text
import Trace

/// The debugger of our endpoint's recordings: at each point it shows what the engine holds there, which it learns by
/// replaying.
final class EngineDebugger: Debugger {
  /// Those of the engine.
  let events: NumberedEvents
  let hosts: [NumberedEvents]
  let engine: EngineAtEvent
  /// The engine's resets, once they were asked for.
  private var knownResets: [(event: UInt64, ns: UInt64)]?

  /// - Throws: if the trace has no events of an engine, or none that can be replayed.
  init(_ reader: TraceReader, _ write: @escaping (String) -> Void, _ isInterrupted: @escaping () -> Bool) throws {
    let cache = ChunkCache(reader)
    guard let events = NumberedEvents.all(of: .engine, in: cache).first else {
      throw DebuggerError("\(reader.path) holds no events of our endpoint that can be numbered")
    }
    guard let anchor = (0..<events.chunkCount).first(where: { events.header($0).beginsWithCheckpoint }) else {
      throw DebuggerError("\(reader.path) holds no checkpoint at which a replay could start")
    }
    (self.events, engine) = (events, EngineAtEvent(events))
    hosts = NumberedEvents.all(of: .host, in: cache)
    for stream in [events] + hosts { stream.isInterrupted = isInterrupted }
    let header = events.header(anchor)
    super.init(reader, events, begin: header.firstEvent + 1, time: header.firstTime, write)
    // Also finds a checkpoint of another version.
    _ = try engine.state(at: point)
  }

  override var summary: String {
    let first = events.header(0).firstTime
    let last = events.header(events.chunkCount - 1).lastTime
    return "\(Quantity.count(end - events.first, "event")) of engine/\(events.id.stream), "
      + "\(Quantity.time(last - min(first, last))); help lists the commands, info problems what went wrong"
  }

  override func showEvent() {
    super.showEvent()
    if let divergence = engine.divergence, divergence.event < point {
      tell("The replay diverges at \(number(divergence.event)): the state is that of the divergence.")
    }
  }

  /// A divergence before the point becomes known.
  override func settle() { _ = try? engine.state(at: point) }

  override class var subjects: [InformationSubject] { InformationSubject.ofEngine }
  override func showInformation(_ subject: String, _ words: inout TypedWords) throws { try inform(subject, &words) }

  override func beginsCommand(_ event: NumberedEvent) -> Bool { event.record.pointee.is(.fetch) }

  override func span(_ qid: UInt16, _ cid: UInt16) throws -> CommandSpan? {
    try history(qid, cid).map {
      CommandSpan(name: name(qid, cid, $0.entry?.opcode), begin: $0.fetched, ended: $0.ended)
    }
  }

  override func start(_ qid: UInt16, _ cid: UInt16) throws -> UInt64? {
    let history =
      try CommandHistory.find(qid, cid, before: point, in: events)
      ?? CommandHistory.findNext(qid, cid, from: point, in: events)
    return history?.fetched
  }

  override func pass(_ count: UInt64, _ direction: Direction) throws -> UInt64? {
    switch direction {
    case .forward: try passEnd(after: point, count: count)
    case .backward: try passEnd(before: point, count: count)
    }
  }

  override func ends(of condition: Expression<CommandValue>) throws -> [UInt64] { try completions(of: condition) }

  override func search(_ direction: Direction, from point: UInt64) throws -> FoundStops? {
    switch direction {
    case .forward: try searchForward(from: point)
    case .backward: try searchBackward(upTo: point)
    }
  }

  override func backtrace(_ words: inout TypedWords) throws { try showBacktrace(&words) }
  override func explain(_ question: WhyQuestion) throws {
    switch question {
    case .command(let qid, let cid): try whyCommand(qid, cid)
    case .oldest: try whyOldest()
    case .interrupt(let vector): try whyNoInterrupt(vector)
    case .idle: try tellIdleReasons()
    }
  }
  override func listEvents(_ words: inout TypedWords) throws { try listAllEvents(&words) }

  /// The engine when the event at the point has happened.
  func state() throws -> EngineState {
    guard let state = try engine.state(at: point) else {
      throw DebuggerError("no checkpoint precedes this event: the engine's state is not known; see goto")
    }
    return state
  }

  /// What hosts had in hand when so many of the engine's events had happened.
  func hostView(until end: UInt64, _ ns: UInt64) throws -> HostView {
    let resets = try knownResets ?? HostView.resets(of: events)
    knownResets = resets
    return try HostView(
      hosts, resets: resets, begun: try engine.state(at: begin)?.commands ?? [], until: end, ns)
  }

  /// The latest command with this name that was fetched up to the point, or was in flight when the recording began.
  /// - Returns: nil if there is none.
  func history(_ qid: UInt16, _ cid: UInt16) throws -> CommandHistory? {
    if let found = try CommandHistory.find(qid, cid, before: point, in: events) { return found }
    let first = try engine.state(at: begin)?.command(qid, cid)
    return try first.map { try CommandHistory(inFlight: $0, in: events) }
  }

  // MARK: Commands

  /// Which command the words mean: `5` or `1/0x140`; without words the one of the event at the point.
  override func command(_ words: inout TypedWords) throws -> (qid: UInt16, cid: UInt16) {
    guard let word = words.next() else { return try commandAtPoint() }
    if word == "oldest" {
      guard let oldest = try hostView().oldest else { throw DebuggerError("no command of a host is outstanding") }
      return (oldest.command.qid, oldest.command.cid)
    }
    guard let name = QueueAndCommand(word) else {
      throw DebuggerError("'\(word.printable(limit: 40))' is no command: write CID, QID/CID or oldest, as in 1/0x140")
    }
    if let qid = name.qid { return (qid, name.cid) }
    let queues = Set(try state().commands.filter { $0.cid == name.cid }.map(\.qid))
    if queues.count == 1 { return (queues.first!, name.cid) }
    if queues.count > 1 {
      let names = queues.sorted().map { "\($0)/\(name.cid)" }.joined(separator: ", ")
      throw DebuggerError("several queues have a command with this identifier in flight: \(names)")
    }
    // Not in flight: the last I/O command of that name.
    var found: UInt16?
    try events.forEachBackward(before: point) { _, record in
      guard record.pointee.is(.fetch), record.pointee.cid == name.cid, found == nil || record.pointee.qid != 0 else {
        return false
      }
      found = record.pointee.qid
      return record.pointee.qid != 0
    }
    guard let found else {
      throw DebuggerError("there is no command with identifier \(name.cid) up to here")
    }
    return (found, name.cid)
  }

  /// The command of the event at the point.
  func commandAtPoint() throws -> (qid: UInt16, cid: UInt16) {
    guard let record = try events.event(current), let name = EngineDebugger.command(of: record.pointee) else {
      throw DebuggerError("the event at the point belongs to no command: name one, as in 1/0x140")
    }
    return name
  }

  /// The command that an event of the engine belongs to.
  static func command(of record: Record) -> (qid: UInt16, cid: UInt16)? {
    guard let cid = record.command else { return nil }
    if record.is(.completion) { return (Event.Completion(record).sqid, cid) }
    return record.queue.map { ($0, cid) }
  }
}
