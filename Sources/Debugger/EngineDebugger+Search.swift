import Analysis
import Events
import Expressions
import Replay
import Trace

extension EngineDebugger {
  // MARK: Passes

  /// The end of the Nth pass, or event from outside, after a point; the last one if there are fewer.
  func passEnd(after point: UInt64, count: UInt64) throws -> UInt64? {
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
  func passEnd(before point: UInt64, count: UInt64) throws -> UInt64 {
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

  // MARK: Breakpoints

  func searchForward(from point: UInt64) throws -> FoundStops? {
    guard let anchor = engine.anchor(before: point + 1) else { return nil }
    let limit = nextAnchor(after: anchor)
    let (hits, divergence) = try search(from: anchor, after: point, upTo: limit)
    var found = FoundStops(hits: hits, next: limit)
    if let divergence, divergence.event >= point {
      found.divergence = (divergence.description, max(point, divergence.event))
    }
    return found
  }

  func searchBackward(upTo point: UInt64) throws -> FoundStops? {
    guard let anchor = engine.anchor(before: point) else { return nil }
    let (hits, _) = try search(from: anchor, after: begin - 1, upTo: point)
    return FoundStops(hits: hits, next: events.header(anchor).firstEvent)
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

  // MARK: Commands by their times

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
