import Analysis
import ArgumentParser
import Editing
import Events
import Expressions
import Report
import Trace

/// What a minimized trace must still show.
enum Expectation: Sendable {
  case divergence
  /// A condition on events, on commands, or both: some names are those of both.
  case condition(events: Expression<EventValue>?, commands: Expression<CommandValue>?)

  /// `diverged`, or an expression.
  init(_ text: String) throws {
    if text == "diverged" {
      self = .divergence
      return
    }
    let (events, commands) = (try? Expression(text, Vocabulary.events), try? Expression(text, Vocabulary.commands))
    // If it is neither, the names of events are in the message.
    self = .condition(events: commands == nil ? try expression(text, .events) : events, commands: commands)
  }

  /// The time of the first event for which it holds, else of the first command; and the queue.
  /// - Returns: nil if there is none.
  func firstPeriod(in reader: TraceReader) throws -> (period: Range<UInt64>, qid: UInt16?)? {
    guard case .condition(let events, let commands) = self else { return nil }
    if let events, let found = try firstEvent(events, reader) { return found }
    return try commands.flatMap { try firstCommand($0, reader) }
  }

  private func firstEvent(_ condition: Expression<EventValue>, _ reader: TraceReader) throws
    -> (period: Range<UInt64>, qid: UInt16?)?
  {
    var earlier = WatchedValues(condition)
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      let values = EventValues(record, source: id.source, stream: id.stream)
      guard condition.holds(&earlier, { values.value(of: $0) }), id.source == .engine else { continue }
      return (record.pointee.time..<record.pointee.time + 1, record.pointee.queue)
    }
    return nil
  }

  private func firstCommand(_ condition: Expression<CommandValue>, _ reader: TraceReader) throws
    -> (period: Range<UInt64>, qid: UInt16?)?
  {
    let found = Collected<(period: Range<UInt64>, qid: UInt16?)?>(nil)
    var analyzer = StageAnalyzer(subject: .endpoint, filter: CommandFilter([condition]))
    analyzer.onCommand = { command in
      guard found.value == nil else { return }
      let begin = command.begin - min(command.hostSubmit ?? 0, command.begin)
      found.value = (begin..<max(command.end, begin) + 1, command.qid.rawValue)
    }
    try analyzer.ingestAll(of: reader)
    return found.value
  }
}
