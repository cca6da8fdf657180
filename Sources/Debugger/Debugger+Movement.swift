import EventSequences
import Text
import Trace

extension Debugger {
  enum Direction { case forward, backward }

  private enum Unit: String { case event, command, pass }

  func move(to point: UInt64) {
    self.point = point
    time = (try? sequence.event(current)?.pointee.time) ?? time
    settle()
    showEvent()
  }

  // MARK: By steps

  func step(_ words: inout TypedWords, _ direction: Direction) throws {
    let count = words.number() ?? 1
    var unit = Unit.event
    if let word = words.next() {
      guard let found = Unit(rawValue: word) else {
        throw DebuggerError("'\(word.printable(limit: 40))' is no unit: event, command or pass")
      }
      unit = found
    }
    try words.end()
    try step(count, unit, direction)
  }

  func next(_ words: inout TypedWords, _ direction: Direction) throws {
    let count = words.number() ?? 1
    try words.end()
    try step(count, .command, direction)
  }

  private func step(_ count: UInt64, _ unit: Unit, _ direction: Direction) throws {
    guard count > 0 else { throw DebuggerError("the number must be at least 1") }
    if direction == .forward, point >= end { return say("the recording ends here") }
    if direction == .backward, point <= begin { return say("the recording begins here") }
    switch unit {
    case .event:
      let room = direction == .forward ? end - point : point - begin
      move(to: direction == .forward ? point + min(count, room) : point - min(count, room))
    case .command: try stepCommands(count, direction)
    case .pass: try stepPasses(count, direction)
    }
  }

  private func stepCommands(_ count: UInt64, _ direction: Direction) throws {
    var left = count
    var found: UInt64?
    let isDone = { [self] (event: NumberedEvent) in
      guard beginsCommand(event) else { return false }
      (found, left) = (event.number, left - 1)
      return left == 0
    }
    switch direction {
    case .forward: try sequence.visit(from: point, isDone)
    case .backward: try sequence.visitBackward(before: current, isDone)
    }
    guard let found else {
      return say(direction == .forward ? "no more command begins" : "no command begins before")
    }
    move(to: found + 1)
  }

  private func stepPasses(_ count: UInt64, _ direction: Direction) throws {
    guard let end = try pass(count, direction) else { return say("no pass of the engine ends after this event") }
    move(to: end)
  }

  // MARK: To a place

  func finish(_ words: inout TypedWords, _ direction: Direction) throws {
    let (qid, cid) = try command(&words)
    try words.end()
    guard let span = try span(qid, cid) else { throw DebuggerError("there is no command \(qid)/\(cid) up to here") }
    if direction == .backward { return move(to: span.begin + 1) }
    if let ended = span.ended, ended < point {
      throw DebuggerError("\(span.name) has ended before, at \(number(ended))")
    }
    guard let ended = span.ended else {
      throw DebuggerError("\(span.name) never completes in this recording; see why \(qid)/\(cid)")
    }
    move(to: ended + 1)
  }

  func goto(_ words: inout TypedWords) throws {
    guard let word = words.next() else {
      throw DebuggerError("goto needs a place: a time, #EVENT, QID/CID, begin or end")
    }
    try words.end()
    switch word {
    case "begin": return move(to: begin)
    case "end":
      move(to: end)
      // Other streams may go on after the engine's last event.
      time = max(time, reader.chunks.map(\.header.lastTime).max() ?? 0)
      return
    default: break
    }
    if word.hasPrefix("#") || word.allSatisfy(\.isNumber) {
      guard let number = TypedWords.number(word.drop { $0 == "#" }), number >= sequence.first, number < end else {
        throw DebuggerError("events have numbers from #\(sequence.first) to #\(end - 1)")
      }
      return move(to: number + 1)
    }
    if let name = QueueAndCommand(word), let qid = name.qid {
      guard let start = try start(qid, name.cid) else { throw DebuggerError("the recording has no command \(word)") }
      return move(to: start + 1)
    }
    // Without a unit, a number with a point is one of seconds, as times are shown.
    let isHexadecimal = word.hasPrefix("0x")
    guard !isHexadecimal, let ns = Quantity.nanoseconds(word.last?.isNumber == true ? word + "s" : word) else {
      throw DebuggerError(
        "'\(word.printable(limit: 40))' is no place: write a time such as 1.5ms, #EVENT, QID/CID, begin or end")
    }
    move(to: max(begin, try sequence.end(upTo: ns)))
    time = max(time, ns)
  }
}
