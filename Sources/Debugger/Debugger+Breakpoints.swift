import Analysis
import Events
import Expressions
import Replay
import Report
import Text
import Trace

extension Debugger {
  // MARK: The list

  func addBreakpoint(_ words: inout TypedWords, isTemporary: Bool = false, isWatch: Bool = false) throws {
    var text = words.rest
    guard !text.isEmpty else { throw DebuggerError("an expression is needed, as in break event == completion") }
    if isWatch, !text.hasSuffix(" changes") { text += " changes" }
    guard breakpoints.count < 64 else { throw DebuggerError("there are 64 breakpoints: delete one") }
    var breakpoint = try Breakpoint(lastBreakpoint + 1, text, in: self)
    breakpoint.isTemporary = isTemporary
    lastBreakpoint += 1
    breakpoints.append(breakpoint)
    if case .commands(let points) = breakpoint.kind {
      return say(
        "breakpoint \(breakpoint.number): \(Quantity.count(points.count, "command meets", "commands meet")) it")
    }
    say("breakpoint \(breakpoint.number)" + (isTemporary ? ", once" : ""))
  }

  func deleteBreakpoints(_ words: inout TypedWords) throws {
    guard !words.isEmpty else {
      breakpoints = []
      return
    }
    let place = try breakpoint(&words)
    try words.end()
    breakpoints.remove(at: place)
  }

  func ignoreBreakpoint(_ words: inout TypedWords) throws {
    let place = try breakpoint(&words)
    guard let count = words.number() else { throw DebuggerError("ignore needs a breakpoint and a count") }
    try words.end()
    breakpoints[place].ignored = count
    say("breakpoint \(breakpoints[place].number) is passed over \(Quantity.count(count, "time"))")
  }

  func restrictBreakpoint(_ words: inout TypedWords) throws {
    let place = try breakpoint(&words)
    let condition = words.rest
    try breakpoints[place].restrict(to: condition.isEmpty ? nil : condition, in: self)
    say(
      "breakpoint \(breakpoints[place].number)" + (condition.isEmpty ? " has no further condition" : " stops only then")
    )
  }

  private func breakpoint(_ words: inout TypedWords) throws -> Int {
    guard let number = words.number(), let place = breakpoints.firstIndex(where: { UInt64($0.number) == number }) else {
      let numbers = breakpoints.map { "\($0.number)" }.joined(separator: ", ")
      throw DebuggerError(
        numbers.isEmpty ? "there are no breakpoints" : "a breakpoint's number is needed: \(numbers)")
    }
    return place
  }

  func showBreakpoints() {
    guard !breakpoints.isEmpty else { return say("there are no breakpoints") }
    for breakpoint in breakpoints {
      let notes = [
        breakpoint.condition.map { "if \($0)" }, breakpoint.isTemporary ? "temporary" : nil,
        breakpoint.ignored > 0 ? "ignored \(breakpoint.ignored) times" : nil,
        breakpoint.hits > 0 ? Quantity.count(breakpoint.hits, "hit") : nil,
      ].compactMap { $0 }
      tell("\(breakpoint.number)  ", breakpoint.text.printable() + notes.map { "; \($0)" }.joined())
    }
  }

  // MARK: Continue

  func `continue`(_ words: inout TypedWords, _ direction: Direction) throws {
    var left = words.number() ?? 1
    try words.end()
    guard left > 0 else { throw DebuggerError("the number must be at least 1") }
    switch direction {
    case .forward:
      guard point < end else { return say("the recording ends here") }
      try continueForward(&left)
    case .backward:
      guard point > begin else { return say("the recording begins here") }
      try continueBackward(&left)
    }
  }

  private func continueForward(_ left: inout UInt64) throws {
    var from = point
    while from < end {
      guard let anchor = engine.anchor(before: from + 1) else { break }
      let limit = nextAnchor(after: anchor)
      let (hits, divergence) = try search(from: anchor, after: from, upTo: limit)
      if let stop = wanted(hits, &left) { return stopAt(stop) }
      if let divergence, divergence.event >= from {
        say("the replay diverges:")
        for line in divergence.description.split(separator: "\n") { say("  \(line)") }
        return move(to: max(from, divergence.event))
      }
      from = limit
      try events.checkInterruption()
    }
    say("the recording ends")
    move(to: end)
  }

  private func continueBackward(_ left: inout UInt64) throws {
    var upTo = point - 1
    while upTo >= begin, let anchor = engine.anchor(before: upTo) {
      let (hits, _) = try search(from: anchor, after: begin - 1, upTo: upTo)
      if let stop = wanted(hits.reversed(), &left) { return stopAt(stop) }
      upTo = events.header(anchor).firstEvent
      try events.checkInterruption()
    }
    say("the recording begins")
    move(to: begin)
  }

  /// The first event of the next chunk at which a replay can start, or the end.
  private func nextAnchor(after anchor: Int) -> UInt64 {
    let next = (anchor + 1..<events.chunkCount).first { events.header($0).beginsWithCheckpoint }
    return next.map { events.header($0).firstEvent + 1 } ?? end
  }

  /// Where breakpoints hold between two points, and whether the replay diverges there.
  private func search(from anchor: Int, after begin: UInt64, upTo end: UInt64) throws
    -> (hits: [BreakpointSearch.Hit], divergence: Divergence?)
  {
    var replayer = try engine.replayer(from: anchor)
    let search = BreakpointSearch(
      breakpoints, events, first: events.header(anchor).firstEvent, after: begin, upTo: end)
    replayer.observer = search
    search.observe(replayer.controller, event: replayer.event)
    while replayer.event < end, try replayer.step() {
      search.observe(replayer.controller, event: replayer.event)
      if let failure = search.failure { throw failure }
    }
    let divergence = replayer.divergence()
    if divergence == nil { search.check(upTo: end) }
    if let failure = search.failure { throw failure }
    return (search.hits.sorted { $0.point < $1.point }, divergence)
  }

  /// The hit to stop at.
  /// - Parameter left: how many hits it takes that are not ignored.
  private func wanted(_ hits: [BreakpointSearch.Hit], _ left: inout UInt64) -> BreakpointSearch.Hit? {
    for hit in hits {
      guard breakpoints[hit.index].ignored == 0 else {
        breakpoints[hit.index].ignored -= 1
        continue
      }
      left -= 1
      if left == 0 { return hit }
      breakpoints[hit.index].hits += 1
    }
    return nil
  }

  private func stopAt(_ hit: BreakpointSearch.Hit) {
    breakpoints[hit.index].hits += 1
    tell("breakpoint \(breakpoints[hit.index].number): ", breakpoints[hit.index].text.printable())
    if breakpoints[hit.index].isTemporary { breakpoints.remove(at: hit.index) }
    move(to: hit.point)
  }

  // MARK: Commands by their times

  /// The points right after the completions of the commands that meet an expression, ascending.
  func completions(of condition: Expression<CommandValue>) throws -> [UInt64] {
    final class Found { var spans: [UInt32: [(begin: UInt64, end: UInt64)]] = [:] }
    let found = Found()
    var analyzer = StageAnalyzer(subject: .endpoint)
    analyzer.onCommand = { command in
      guard condition.holds({ command.value(of: $0) }) else { return }
      let name = UInt32(command.qid.rawValue) << 16 | UInt32(command.cid.rawValue)
      found.spans[name, default: []].append((command.begin, command.end))
    }
    try analyzer.ingestAll(of: reader)
    var points: [UInt64] = []
    var positions: [UInt32: Int] = [:]
    try events.forEach(from: events.first) { number, record in
      guard record.pointee.is(.completion) else { return false }
      let name = UInt32(Event.Completion(record.pointee).sqid) << 16 | UInt32(record.pointee.cid)
      guard let spans = found.spans[name] else { return false }
      var position = positions[name, default: 0]
      while position < spans.count, spans[position].end < record.pointee.time { position += 1 }
      if position < spans.count, spans[position].begin <= record.pointee.time {
        points.append(number + 1)
        position += 1
      }
      positions[name] = position
      return false
    }
    return points
  }
}
