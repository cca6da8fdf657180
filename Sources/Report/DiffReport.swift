import Analysis
import Diff
import Text

/// A comparison of recordings, for people and programs.
public struct DiffReport {
  /// A recording as it is compared.
  public struct Recording {
    /// Its file.
    public let name: String
    /// What the recorder noted about machine, versions and options.
    public let notes: [(key: String, value: String)]
    public let summary: Summary

    public init(name: String, notes: [(key: String, value: String)], summary: Summary) {
      (self.name, self.notes, self.summary) = (name, notes, summary)
    }
  }

  let a: [Recording]
  let b: [Recording]
  public let comparison: Comparison
  /// In their order, with what is known of them.
  public let limits: [(limit: ChangeLimit, verdict: ChangeLimit.Verdict)]

  /// - Parameters:
  ///   - a: the first side's.
  ///   - b: the second side's; one of each, or at least two of each.
  public init(_ a: [Recording], _ b: [Recording], limits: [ChangeLimit] = []) {
    (self.a, self.b) = (a, b)
    let comparison = Comparison(a.map(\.summary.io), b.map(\.summary.io))
    self.comparison = comparison
    self.limits = limits.map { ($0, $0.verdict(comparison, amongst: limits.count)) }
  }

  /// At most 72 columns, as mailing lists want; ends with a line feed.
  public var text: String {
    let sentences = DiffFindings(self).sentences.map { wrapped($0, columns: 72) }
    return [heading, DiffTable(comparison).text, sentences.joined(separator: "\n")].joined(separator: "\n\n") + "\n"
  }

  /// The sentences below the table.
  public var findings: [String] { DiffFindings(self).sentences }

  // MARK: What was compared

  private var heading: String {
    let lines = [("A", a), ("B", b)].flatMap { side, recordings in
      recordings.map { "\(side): \($0.name.printable(limit: 512)): \(Findings.throughput(of: $0.summary.io))" }
    }
    return (lines + notes.map { "\($0.key): \($0.value)" }).map { wrapped($0, columns: 72) }.joined(separator: "\n")
  }

  /// Notes that differ between recordings of one side say nothing about the sides.
  private static let ownNotes: Set = ["date"]

  /// A trace may hold a hundred thousand.
  private static let notesMax = 64

  /// Notes of both sides: once where they agree.
  private var notes: [(key: String, value: String)] {
    var keys: [String] = []
    for recording in a + b {
      for (key, _) in recording.notes.prefix(DiffReport.notesMax)
      where !keys.contains(key) && !DiffReport.ownNotes.contains(key) {
        keys.append(key)
      }
    }
    return keys.prefix(DiffReport.notesMax).flatMap { key -> [(key: String, value: String)] in
      let name = key.printable(limit: 100)
      let (ofA, ofB) = (values(of: key, in: a), values(of: key, in: b))
      if ofA == ofB { return ofA.isEmpty ? [] : [(name, ofA)] }
      return [("\(name), A", ofA.isEmpty ? "unknown" : ofA), ("\(name), B", ofB.isEmpty ? "unknown" : ofB)]
    }
  }

  private func values(of key: String, in recordings: [Recording]) -> String {
    var all: [String] = []
    for recording in recordings {
      let value = recording.notes.prefix(DiffReport.notesMax).first { $0.key == key }?.value ?? ""
      if !value.isEmpty, !all.contains(value) { all.append(value) }
    }
    guard let first = all.first else { return "" }
    return first.printable(limit: 512) + (all.count > 1 ? " (and \(all.count - 1) more)" : "")
  }
}
