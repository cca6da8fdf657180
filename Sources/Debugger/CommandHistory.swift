import Endpoint
import EventSequences
import Events
import NVMe
import Trace

/// What the engine's stream says of one command, from its fetch on.
struct CommandHistory {
  let qid: UInt16
  let cid: UInt16
  /// Number of the event that fetched it, its time, and its entry.
  let fetched: UInt64
  let fetchedNs: UInt64
  let entry: SubmissionEntry?
  /// The event that ended it: its completion, or a reset; nil if the recording has none.
  private(set) var ended: UInt64?
  private(set) var endedNs: UInt64 = 0
  private(set) var wasReset = false
  /// Another command with this name was fetched before it ended.
  private(set) var fetchedAgain: UInt64?
  /// From its fetch to its end.
  private(set) var events: [UInt64] = []

  /// Its events that are listed; a command of the largest transfer has some hundred.
  private static let eventsMax = 1000

  /// The latest command with this name that was fetched before an event.
  /// - Parameter ns: it was fetched at this time or later.
  /// - Returns: nil if there is none.
  static func find(
    _ qid: UInt16, _ cid: UInt16, before event: UInt64, since ns: UInt64 = 0, in stream: NumberedEvents
  ) throws -> CommandHistory? {
    var found: CommandHistory?
    try stream.forEachBackward(before: event, of: qid) { number, record in
      guard record.pointee.time >= ns else { return true }
      guard record.pointee.is(.fetch), record.pointee.qid == qid, record.pointee.cid == cid else { return false }
      found = CommandHistory(number, record)
      return true
    }
    try found?.follow(in: stream)
    return found
  }

  /// The first command with this name that is fetched at or after an event.
  static func findNext(_ qid: UInt16, _ cid: UInt16, from event: UInt64, in stream: NumberedEvents) throws
    -> CommandHistory?
  {
    var found: CommandHistory?
    try stream.forEach(from: event) { number, record in
      guard record.pointee.is(.fetch), record.pointee.qid == qid, record.pointee.cid == cid else { return false }
      found = CommandHistory(number, record)
      return true
    }
    try found?.follow(in: stream)
    return found
  }

  /// A command in flight at the first checkpoint: its fetch is not in the recording.
  init(inFlight command: EngineState.InFlight, in stream: NumberedEvents) throws {
    (qid, cid, entry, fetched) = (command.qid, command.cid, command.sqe, stream.first)
    fetchedNs = try stream.event(stream.first)?.pointee.time ?? 0
    try follow(in: stream)
  }

  private init(_ number: UInt64, _ record: UnsafePointer<Record>) {
    (qid, cid, fetched, fetchedNs) = (record.pointee.qid, record.pointee.cid, number, record.pointee.time)
    entry = record.fixedTail(as: SubmissionEntry.self)
  }

  /// Collect its events, up to its end.
  private mutating func follow(in stream: NumberedEvents) throws {
    var history = self
    try stream.forEach(from: fetched) { number, record in history.take(number, record) }
    self = history
  }

  /// A reset, or the host's write that disables the controller: every command in flight is abandoned.
  static func endsCommands(_ record: Record) -> Bool {
    if record.is(.reset) { return true }
    guard record.is(.registerWrite) else { return false }
    let write = Event.RegisterWrite(record)
    return write.offset == Register.cc && write.value & 1 == 0
  }

  /// - Returns: whether this ended it.
  private mutating func take(_ number: UInt64, _ record: UnsafePointer<Record>) -> Bool {
    if CommandHistory.endsCommands(record.pointee) {
      (ended, endedNs, wasReset) = (number, record.pointee.time, true)
      return true
    }
    guard record.pointee.command == cid else { return false }
    if number > fetched, record.pointee.is(.fetch), record.pointee.qid == qid {
      fetchedAgain = fetchedAgain ?? number
      return false
    }
    if record.pointee.is(.completion) {
      guard Event.Completion(record.pointee).sqid == qid else { return false }
      (ended, endedNs) = (number, record.pointee.time)
    } else if record.pointee.queue != qid {
      return false
    }
    if events.count < CommandHistory.eventsMax { events.append(number) }
    return ended != nil
  }
}
