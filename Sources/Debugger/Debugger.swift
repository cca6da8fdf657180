import Endpoint
import EventWords
import Events
import NVMe
import Replay
import Report
import Text
import Trace

/// A recording of our endpoint, and a point in it: commands move the point forwards and backwards and say what the
/// engine holds there, which it learns by replaying.
///
/// The point is the number of events that have happened. The event at the point is the last of them.
public final class Debugger {
  let reader: TraceReader
  /// Those of the engine.
  let events: NumberedEvents
  let hosts: [NumberedEvents]
  let engine: EngineAtEvent
  /// Events that have happened: at least the first checkpoint.
  var point: UInt64
  /// The time at the point, since the trace began: that of its event, or the one that it was moved to.
  var time: UInt64 = 0
  /// The first point.
  let begin: UInt64
  /// The last point: after the last event.
  let end: UInt64
  private let write: (String) -> Void
  /// The engine's resets, once they were asked for.
  private var knownResets: [(event: UInt64, ns: UInt64)]?
  var breakpoints: [Breakpoint] = []
  /// The number of the newest one.
  var lastBreakpoint = 0
  /// The last command that moves: an empty line repeats it.
  private var repeated = ""

  /// - Parameters:
  ///   - write: receives the lines of the output, without their line feeds.
  ///   - isInterrupted: whether a command that takes long should be given up.
  /// - Throws: if the trace has no events of an engine, or none that can be replayed.
  public init(
    _ reader: TraceReader, write: @escaping (String) -> Void, isInterrupted: @escaping () -> Bool = { false }
  ) throws {
    let cache = ChunkCache(reader)
    guard let events = NumberedEvents.all(of: .engine, in: cache).first else {
      throw DebuggerError("\(reader.path) holds no events of our endpoint: only its recordings can be debugged")
    }
    (self.reader, self.events, self.write) = (reader, events, write)
    hosts = NumberedEvents.all(of: .host, in: cache)
    for stream in [events] + hosts { stream.isInterrupted = isInterrupted }
    engine = EngineAtEvent(events)
    guard let anchor = (0..<events.chunkCount).first(where: { events.header($0).beginsWithCheckpoint }) else {
      throw DebuggerError("\(reader.path) holds no checkpoint at which a replay could start")
    }
    begin = events.header(anchor).firstEvent + 1
    (point, end) = (begin, events.end)
    time = events.header(anchor).firstTime
    // Also finds a checkpoint of another version.
    _ = try engine.state(at: point)
  }

  /// What one reads first.
  public func introduce() {
    let first = events.header(0).firstTime
    let last = events.header(events.chunkCount - 1).lastTime
    say(
      "\(Quantity.count(end - events.first, "event")) of engine/\(events.id.stream), "
        + "\(Quantity.time(last - min(first, last))); help lists the commands, info problems what went wrong")
    showEvent()
  }

  /// Perform a command.
  /// - Returns: whether to continue; false after `quit`.
  /// - Throws: `DebuggerError` for a command that cannot be carried out, `TraceError` for damage.
  public func perform(_ line: String) throws -> Bool {
    var words = TypedWords(line)
    guard let name = words.next() else {
      return repeated.isEmpty ? true : try perform(repeated)
    }
    if name.hasPrefix("#!") || name == "#" { return true }
    let command = try DebuggerCommand.named(name)
    repeated = command.isRepeated ? line : ""
    guard command.name != "quit" else { return false }
    try command.perform(self, &words)
    return true
  }

  func say(_ text: String) { write(text) }

  /// A paragraph for a terminal of 80 columns, in lines that begin below the text after the heading.
  func tell(_ text: String) { tell("", text) }
  func tell(_ heading: String, _ text: String) {
    let indent = min(heading.count, 24)
    let lines = wrapped(text, columns: 80 - indent).split(separator: "\n", omittingEmptySubsequences: false)
    for (place, line) in lines.enumerated() {
      say((place == 0 ? heading : String(repeating: " ", count: indent)) + line)
    }
  }

  // MARK: The event at the point

  /// The number of the event at the point.
  var current: UInt64 { point - 1 }

  func showEvent() {
    guard let record = try? events.event(current) else {
      return say("\(number(current)): lost")
    }
    show(current, record)
    if let divergence = engine.divergence, divergence.event < point {
      tell("The replay diverges at \(number(divergence.event)): the state is that of the divergence.")
    }
  }

  /// "#1234", as `goto` takes it.
  func number(_ event: UInt64) -> String { "#\(event)" }

  /// "#1234 0.012345678 s completion: …".
  func show(_ event: UInt64, _ record: UnsafePointer<Record>) {
    tell("\(number(event)) \(Debugger.moment(record.pointee.time)) ", EventSentence.text(record))
  }

  /// Since the trace began: "0.012345678 s", as `goto` takes it without the space.
  static func moment(_ ns: UInt64) -> String {
    let nanoseconds = String(ns % 1_000_000_000)
    return "\(ns / 1_000_000_000)." + String(repeating: "0", count: 9 - nanoseconds.count) + nanoseconds + " s"
  }

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

  // MARK: Commands

  /// The latest command with this name that was fetched up to the point, or was in flight when the recording began.
  /// - Returns: nil if there is none.
  func history(_ qid: UInt16, _ cid: UInt16) throws -> CommandHistory? {
    if let found = try CommandHistory.find(qid, cid, before: point, in: events) { return found }
    let first = try engine.state(at: begin)?.command(qid, cid)
    return try first.map { try CommandHistory(inFlight: $0, in: events) }
  }

  /// Which command the words mean: `5` or `1/0x140`; without words the one of the event at the point.
  func command(_ words: inout TypedWords) throws -> (qid: UInt16, cid: UInt16) {
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
      throw DebuggerError("no command with identifier \(name.cid) has been fetched up to here")
    }
    return (found, name.cid)
  }

  /// The command of the event at the point.
  func commandAtPoint() throws -> (qid: UInt16, cid: UInt16) {
    guard let record = try events.event(current), let name = Debugger.command(of: record.pointee) else {
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

  /// "command 1/5 (read)".
  func name(_ qid: UInt16, _ cid: UInt16, _ entry: SubmissionEntry?) -> String {
    let opcode = entry.map { NVMeName.opcode($0.opcode, isAdmin: qid == 0) ?? $0.opcode.hex }
    return "command \(qid)/\(cid)" + (opcode.map { " (\($0))" } ?? "")
  }
}
