import Analysis
import Diff
import Text

/// Several recordings, each compared with the first.
public struct DiffSeries {
  /// One letter for each.
  public static let recordingsMax = 26

  private let first: DiffReport.Recording
  public let comparisons: [DiffReport]

  /// - Parameters:
  ///   - first: the baseline, A.
  ///   - others: B, C and so on, at least one.
  public init(_ first: DiffReport.Recording, _ others: [DiffReport.Recording], limits: [ChangeLimit] = []) {
    precondition(!others.isEmpty && others.count < DiffSeries.recordingsMax)
    self.first = first
    comparisons = others.enumerated().map { index, other in
      let name = String(UnicodeScalar(UInt8(ascii: "B") + UInt8(index)))
      return DiffReport([first], [other], name: name, limits: limits, amongst: others.count)
    }
  }

  /// At most 72 columns: an overview, then each comparison by itself; ends with a line feed.
  public var text: String {
    guard comparisons.count > 1 else { return comparisons[0].text }
    let names = [first.line("A")] + comparisons.map { $0.b[0].line($0.name) }
    let closing = DiffReport.lines(DiffFindings(comparisons[0]).closing)
    let parts = [DiffReport.lines(names), overview] + comparisons.map(\.section) + [closing]
    return parts.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  /// One JSON object: the first comparison, with the others as `more` if there are any; ends with a line feed.
  public var json: String {
    let more = comparisons.dropFirst().map { JSON.object($0.members) }
    let members = comparisons[0].members + (more.isEmpty ? [] : [("more", .array(more))])
    return JSON.object(members).text + "\n"
  }

  // MARK: Overview

  /// A line for each recording: A's statistics, and how those of the others differ from them.
  private var overview: String {
    let all = comparisons[0].comparison.totals
    let rule = String(repeating: "─", count: DiffTable.columns)
    let heading = line([""] + all.map(\.statistic.title))
    let rows = comparisons.map { report in line([report.name] + report.comparison.totals.map(DiffSeries.change)) }
    let legend = "~ within noise, ? precision unknown, - too few commands"
    return ([heading, rule, line(["A"] + all.map(DiffSeries.value))] + rows + [rule, legend]).joined(separator: "\n")
  }

  private static func value(_ change: Comparison.Change) -> String {
    guard let value = change.a else { return "-" }
    let unit = DiffUnit(for: value, isRate: change.statistic.subject == .iops)
    return unit.name.isEmpty ? unit.text(value) : "\(unit.text(value)) \(unit.name)"
  }

  private static func change(_ change: Comparison.Change) -> String {
    guard let share = change.share else { return "-" }
    return DiffUnit.percent(share) + (change.interval == nil ? " ?" : change.isSeparated ? "" : " ~")
  }

  private func line(_ cells: [String]) -> String {
    cells[0] + cells.dropFirst().map { String(repeating: " ", count: max(1, 11 - $0.count)) + $0 }.joined()
  }
}
