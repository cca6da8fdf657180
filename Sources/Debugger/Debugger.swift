import Analysis
import EventSequences
import EventWords
import Events
import Expressions
import NVMe
import Report
import Text
import Trace

/// A trace, and a point in it: commands move the point forwards and backwards and say what was in hand there. Its two
/// kinds are those of our endpoint's recordings and of the kernel's.
///
/// The point is the number of events that have happened. The event at the point is the last of them.
public class Debugger {
  let reader: TraceReader
  /// Those over which it moves.
  let sequence: any EventSequence
  /// Events that have happened: at least the first point's.
  var point: UInt64
  /// The time at the point, since the trace began: that of its event, or the one that it was moved to.
  var time: UInt64
  /// The first point.
  let begin: UInt64
  /// The last point: after the last event.
  let end: UInt64
  private let write: (String) -> Void
  var breakpoints: [Breakpoint] = []
  /// The number of the newest one.
  var lastBreakpoint = 0
  /// The last command that moves: an empty line repeats it.
  private var repeated = ""

  /// - Parameters:
  ///   - begin: the first point, at which it stands.
  ///   - time: of that point.
  init(
    _ reader: TraceReader, _ sequence: any EventSequence, begin: UInt64, time: UInt64,
    _ write: @escaping (String) -> Void
  ) {
    (self.reader, self.sequence, self.write) = (reader, sequence, write)
    (self.begin, point, end, self.time) = (begin, begin, sequence.end, time)
  }

  /// Open a trace.
  /// - Parameters:
  ///   - controller: in a trace of the kernel, the controller of its target; nil for the busiest.
  ///   - write: receives the lines of the output, without their line feeds.
  ///   - isInterrupted: whether a command that takes long should be given up.
  /// - Throws: if it has nothing that can be debugged.
  public static func open(
    _ reader: TraceReader, controller: UInt16? = nil, write: @escaping (String) -> Void,
    isInterrupted: @escaping () -> Bool = { false }
  ) throws -> Debugger {
    let hasEngine = reader.chunks.contains { $0.header.id.source == .engine }
    return hasEngine && controller == nil
      ? try EngineDebugger(reader, write, isInterrupted)
      : try KernelDebugger(reader, controller, write, isInterrupted)
  }

  // MARK: What each kind does in its way

  /// What one reads first.
  var summary: String { "" }
  /// What `info` can show.
  class var subjects: [InformationSubject] { [] }
  func showInformation(_ subject: String, _ words: inout TypedWords) throws {}
  /// What a line of an event begins with, after its number and time.
  func origin(of event: UInt64) -> String { "" }
  /// The point has moved.
  func settle() {}

  /// Whether a command begins with this event.
  func beginsCommand(_ event: NumberedEvent) -> Bool { false }
  /// Which command the words mean; without words the one of the event at the point.
  func command(_ words: inout TypedWords) throws -> (qid: UInt16, cid: UInt16) { (0, 0) }
  /// The latest command with this name up to the point; nil if there is none.
  func span(_ qid: UInt16, _ cid: UInt16) throws -> CommandSpan? { nil }
  /// The first event of a command with this name, of the latest before the point or else of the next one.
  func start(_ qid: UInt16, _ cid: UInt16) throws -> UInt64? { nil }

  /// The end of the Nth pass of the engine after the point, or before it; nil if there is none.
  func pass(_ count: UInt64, _ direction: Direction) throws -> UInt64? { nil }
  /// Whether our engine's state is known: expressions may ask for it.
  var hasEngine: Bool { true }
  /// The points at which the commands that meet a condition have ended, ascending.
  func ends(of condition: Expression<CommandValue>) throws -> [UInt64] { [] }
  /// Where breakpoints hold after a point or up to it, in the part of the trace that is searched in one go.
  func search(_ direction: Direction, from point: UInt64) throws -> FoundStops? { nil }

  func backtrace(_ words: inout TypedWords) throws {}
  func explain(_ question: WhyQuestion) throws {}
  func listEvents(_ words: inout TypedWords) throws {}

  // MARK: Commands

  public func introduce() {
    tell(summary)
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
    do {
      try command.perform(self, &words)
    } catch is Interrupted {
      throw DebuggerError("interrupted; the point has not moved")
    }
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
    guard let record = try? sequence.event(current) else {
      return say("\(number(current)): lost")
    }
    show(current, record)
  }

  /// "#1234", as `goto` takes it.
  func number(_ event: UInt64) -> String { "#\(event)" }

  /// "#1234 0.012345678 s completion: …".
  func show(_ event: UInt64, _ record: UnsafePointer<Record>) {
    let origin = origin(of: event)
    tell("\(number(event)) \(Debugger.moment(record.pointee.time)) ", origin + EventSentence.text(record))
  }

  /// Since the trace began: "0.012345678 s", as `goto` takes it without the space.
  static func moment(_ ns: UInt64) -> String {
    let nanoseconds = String(ns % 1_000_000_000)
    return "\(ns / 1_000_000_000)." + String(repeating: "0", count: 9 - nanoseconds.count) + nanoseconds + " s"
  }

  /// "1.2 ms ago", "now".
  func age(_ ns: UInt64) -> String { time <= ns ? "now" : "\(Quantity.time(time - ns)) ago" }

  /// "command 1/5 (read)".
  func name(_ qid: UInt16, _ cid: UInt16, _ opcode: UInt8?) -> String {
    let opcode = opcode.map { NVMeName.opcode($0, isAdmin: qid == 0) ?? $0.hex }
    return "command \(qid)/\(cid)" + (opcode.map { " (\($0))" } ?? "")
  }

  func row(_ cells: [(text: String, width: Int)]) -> String {
    cells.map { String(repeating: " ", count: max(0, $0.width - $0.text.count)) + $0.text }.joined()
  }
}

/// A command by the events with which it begins and ends.
struct CommandSpan {
  /// "command 1/5 (read)".
  let name: String
  let begin: UInt64
  /// Nil if the trace has no end of it.
  let ended: UInt64?
}

/// What a search for breakpoints has found in a part of the trace.
struct FoundStops {
  /// In the order of their points.
  let hits: [BreakpointSearch.Hit]
  /// Where the search goes on: forwards after this point, backwards up to it.
  let next: UInt64
  /// How the replay diverged there, and the point.
  var divergence: (text: String, point: UInt64)?
}
