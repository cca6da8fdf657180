import Replay
import Text
import Trace

extension ReplayCommand {
  static let notBisected =
    "no replay from a checkpoint before the divergence finds it: nothing is known of the state before it"

  /// Nil if there is no divergence, or nothing to narrow it by.
  func bisection(_ result: ReplayResult, _ reader: TraceReader) throws -> Bisection? {
    guard let divergence = result.divergence else { return nil }
    return try Bisection(reader, divergence)
  }

  func object(_ bisection: Bisection) -> JSON {
    func range(_ events: Range<UInt64>) -> JSON {
      ["first": .integer(events.lowerBound), "last": .integer(max(events.upperBound, 1) - 1)]
    }
    func object(_ change: Bisection.Change) -> JSON {
      ["events": range(change.events), "from": .string(change.from), "to": .string(change.to)]
    }
    let fields = bisection.fields.map { field -> JSON in
      [
        "name": .string(field.name), "expected": .string(field.recorded), "came": .string(field.engine),
        "changes": .integer(field.changes.count), "first": field.changes.first.map(object) ?? .literal("null"),
        "last": field.changes.last.map(object) ?? .literal("null"),
      ]
    }
    return [
      "summary": .string(bisection.summary), "certainty": .string(bisection.certainty.rawValue),
      "events": range(bisection.events), "words": .array(bisection.words.map(self.object)),
      "agreed": .integer(bisection.agreed), "differs": .integer(bisection.differs),
      "passes": .integer(bisection.steps.count),
      "checkpoint": bisection.fields.isEmpty ? .literal("null") : .integer(bisection.later?.event ?? 0),
      "fields": .array(fields),
    ]
  }
}
