import Events
import Replay
import Text
import Trace

extension Debugger {
  enum Direction { case forward, backward }

  private enum Unit: String { case event, command, pass }

  func move(to point: UInt64) {
    self.point = point
    time = (try? events.event(current)?.pointee.time) ?? time
    // A divergence before the point becomes known.
    _ = try? engine.state(at: point)
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
    let isDone = { (number: UInt64, record: UnsafePointer<Record>) in
      guard record.pointee.is(.fetch) else { return false }
      (found, left) = (number, left - 1)
      return left == 0
    }
    switch direction {
    case .forward: try events.forEach(from: point, isDone)
    case .backward: try events.forEachBackward(before: current, isDone)
    }
    guard let found else {
      return say(direction == .forward ? "no more command is fetched" : "no command is fetched before")
    }
    move(to: found + 1)
  }

  private func stepPasses(_ count: UInt64, _ direction: Direction) throws {
    switch direction {
    case .forward:
      guard let end = try passEnd(after: point, count: count) else {
        return say("no pass of the engine ends after this event")
      }
      move(to: end)
    case .backward: move(to: try passEnd(before: point, count: count))
    }
  }

  /// The end of the Nth pass, or event from outside, after a point; the last one if there are fewer.
  private func passEnd(after point: UInt64, count: UInt64) throws -> UInt64? {
    guard let anchor = engine.anchor(before: point) else { return nil }
    var replayer = try engine.replayer(from: anchor)
    var (last, left): (UInt64?, UInt64) = (nil, count)
    while left > 0, try replayer.step() {
      guard replayer.event > point else { continue }
      (last, left) = (replayer.event, left - 1)
      if left % 4096 == 0 { try events.checkInterruption() }
    }
    return last
  }

  /// The end of the Nth pass before a point; the first point if there are fewer.
  private func passEnd(before point: UInt64, count: UInt64) throws -> UInt64 {
    var (left, limit) = (count, point)
    while limit > begin, let anchor = engine.anchor(before: limit - 1) {
      var replayer = try engine.replayer(from: anchor)
      var ends: [UInt64] = []
      repeat {
        if replayer.event < limit { ends.append(replayer.event) }
      } while try replayer.event < limit && replayer.step()
      if UInt64(ends.count) >= left { return max(begin, ends[ends.count - Int(left)]) }
      left -= UInt64(ends.count)
      limit = min(ends.first ?? begin, events.header(anchor).firstEvent + 1)
      try events.checkInterruption()
    }
    return begin
  }

  // MARK: To a place

  func finish(_ words: inout TypedWords, _ direction: Direction) throws {
    let (qid, cid) = try command(&words)
    try words.end()
    guard let history = try history(qid, cid) else {
      throw DebuggerError("command \(qid)/\(cid) has not been fetched up to here")
    }
    if direction == .backward { return move(to: history.fetched + 1) }
    if let ended = history.ended, ended < point {
      throw DebuggerError("\(name(qid, cid, history.entry)) has ended before, at \(number(ended))")
    }
    guard let ended = history.ended else {
      throw DebuggerError("\(name(qid, cid, history.entry)) never completes in this recording; see why \(qid)/\(cid)")
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
      // Hosts may go on after the engine's last event.
      time = max(time, reader.chunks.map(\.header.lastTime).max() ?? 0)
      return
    default: break
    }
    if word.hasPrefix("#") || word.allSatisfy(\.isNumber) {
      guard let number = TypedWords.number(word.drop { $0 == "#" }), number >= events.first, number < end else {
        throw DebuggerError("events have numbers from #\(events.first) to #\(end - 1)")
      }
      return move(to: number + 1)
    }
    if let name = QueueAndCommand(word), let qid = name.qid {
      let history =
        try CommandHistory.find(qid, name.cid, before: point, in: events)
        ?? CommandHistory.findNext(qid, name.cid, from: point, in: events)
      guard let history else { throw DebuggerError("the recording has no command \(word)") }
      return move(to: history.fetched + 1)
    }
    // Without a unit, a number with a point is one of seconds, as times are shown.
    let isHexadecimal = word.hasPrefix("0x")
    guard !isHexadecimal, let ns = Quantity.nanoseconds(word.last?.isNumber == true ? word + "s" : word) else {
      throw DebuggerError(
        "'\(word.printable(limit: 40))' is no place: write a time such as 1.5ms, #EVENT, QID/CID, begin or end")
    }
    move(to: max(begin, try events.end(upTo: ns)))
    time = max(time, ns)
  }
}
