import Analysis
import Diff
import Intervals
import Text

extension DiffReport {
  /// One JSON object, format "nvmepf-diff/1" (docs/schema/diff.json); ends with a line feed. Times are nanoseconds.
  public var json: String { JSON.object(members).text + "\n" }

  var members: [(String, JSON)] {
    [
      ("format", .string("nvmepf-diff/1")),
      ("a", .array(a.map(recording))), ("b", .array(b.map(recording))),
      ("spread", .string(comparison.hasRuns ? "runs" : "batches")),
      ("statistics", .array((comparison.totals + comparison.parts).map(row))),
      (
        "limits",
        .array(
          limits.map { limit, verdict in
            .object([("limit", .string(limit.text)), ("verdict", .string(verdict.rawValue))])
          })
      ),
      ("findings", .array(findings.map(JSON.string))),
    ]
  }

  private func recording(_ recording: Recording) -> JSON {
    .object([
      ("file", .string(recording.name)), ("commands", .integer(recording.summary.io.commands)),
      ("duration_ns", .integer(recording.summary.io.durationNs)),
      ("metadata", .object(recording.notes.map { ($0.key, .string($0.value)) })),
    ])
  }

  /// Members whose value is unknown are absent.
  private func row(_ change: Comparison.Change) -> JSON {
    func side(_ name: String, _ value: Double?, _ estimate: Estimate?) -> [(String, JSON)] {
      guard let value else { return [] }
      return [(name, .number(value))] + range(name, estimate?.interval())
    }
    func range(_ name: String, _ range: ClosedRange<Double>?) -> [(String, JSON)] {
      guard let range else { return [] }
      return [("\(name)_low", .number(range.lowerBound)), ("\(name)_high", .number(range.upperBound))]
    }
    var members: [(String, JSON)] = [("statistic", .string(change.statistic.name))]
    members += side("a", change.a, change.estimateA) + side("b", change.b, change.estimateB)
    if let a = change.a, let b = change.b { members.append(("difference", .number(b - a))) }
    members += range("difference", change.interval)
    if let share = change.share { members.append(("share", .number(share))) }
    if change.interval != nil { members.append(("separated", .boolean(change.isSeparated))) }
    return .object(members)
  }
}
