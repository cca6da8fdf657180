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

    /// - Parameter letter: what it is called.
    func line(_ letter: String) -> String {
      "\(letter): \(name.printable(limit: 512)): \(Findings.throughput(of: summary.io))"
    }
  }

  let a: [Recording]
  let b: [Recording]
  /// Of the second side, a letter.
  let name: String
  public let comparison: Comparison
  /// In their order, with what is known of them.
  public let limits: [(limit: ChangeLimit, verdict: ChangeLimit.Verdict)]

  /// - Parameters:
  ///   - a: the first side's.
  ///   - b: the second side's; one of each, or at least two of each.
  ///   - name: what the second side is called.
  ///   - amongst: how many comparisons with these limits are judged together.
  public init(
    _ a: [Recording], _ b: [Recording], name: String = "B", limits: [ChangeLimit] = [], amongst comparisons: Int = 1
  ) {
    (self.a, self.b, self.name) = (a, b, name)
    let comparison = Comparison(a.map(\.summary.io), b.map(\.summary.io))
    self.comparison = comparison
    self.limits = limits.map { ($0, $0.verdict(comparison, amongst: limits.count * comparisons)) }
  }

  /// At most 72 columns, as mailing lists want; ends with a line feed.
  public var text: String {
    [DiffReport.lines(heading), DiffTable(comparison, name).text, DiffReport.lines(findings)]
      .joined(separator: "\n\n") + "\n"
  }

  /// The same for one of several comparisons with A, which share a heading and their last sentences.
  var section: String {
    let heading = ["\(name) compared with A"] + differingNotes.map { "\($0.key): \($0.value)" }
    let sentences = DiffFindings(self).sentences
    return [DiffReport.lines(heading), DiffTable(comparison, name).text, DiffReport.lines(sentences)]
      .joined(separator: "\n\n")
  }

  static func lines(_ lines: [String]) -> String { lines.map { wrapped($0, columns: 72) }.joined(separator: "\n") }

  /// The sentences below the table.
  public var findings: [String] { DiffFindings(self).sentences + DiffFindings(self).closing }

  // MARK: What was compared

  private var heading: [String] {
    a.map { $0.line("A") } + b.map { $0.line(name) } + notes.map { "\($0.key): \($0.value)" }
  }

  /// Notes that differ between recordings of one side say nothing about the sides.
  private static let ownNotes: Set = ["date"]

  /// A trace may hold a hundred thousand.
  private static let notesMax = 64

  /// Notes of both sides: once where they agree.
  private var notes: [(key: String, value: String)] {
    noteKeys.flatMap { key -> [(key: String, value: String)] in
      let (ofA, ofB) = (values(of: key, in: a), values(of: key, in: b))
      if ofA == ofB { return ofA.isEmpty ? [] : [(key.printable(limit: 100), ofA)] }
      return differing(key, ofA, ofB)
    }
  }

  /// Notes on which the sides disagree.
  private var differingNotes: [(key: String, value: String)] {
    noteKeys.flatMap { key -> [(key: String, value: String)] in
      let (ofA, ofB) = (values(of: key, in: a), values(of: key, in: b))
      return ofA == ofB ? [] : differing(key, ofA, ofB)
    }
  }

  private func differing(_ key: String, _ ofA: String, _ ofB: String) -> [(key: String, value: String)] {
    let key = key.printable(limit: 100)
    return [("\(key), A", ofA.isEmpty ? "unknown" : ofA), ("\(key), \(name)", ofB.isEmpty ? "unknown" : ofB)]
  }

  private var noteKeys: [String] {
    var keys: [String] = []
    for recording in a + b {
      for (key, _) in recording.notes.prefix(DiffReport.notesMax)
      where !keys.contains(key) && !DiffReport.ownNotes.contains(key) {
        keys.append(key)
      }
    }
    return Array(keys.prefix(DiffReport.notesMax))
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
