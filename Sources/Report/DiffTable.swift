import Analysis
import Diff
import Intervals
import Text

/// A comparison in columns, 72 wide at most.
struct DiffTable {
  static let columns = 72
  private static let widths = [11, 3, 14, 14, 8, 14, 8]
  private let comparison: Comparison
  /// Of the second side.
  private let name: String

  init(_ comparison: Comparison, _ name: String) { (self.comparison, self.name) = (comparison, name) }

  var text: String {
    let rule = String(repeating: "─", count: DiffTable.columns)
    let heading = line(["", "", "A", name, "\(name) − A", "interval", ""])
    // A stage that is all waiting needs no row to say so.
    let parts = comparison.parts.filter { part in
      if case .service = part.statistic.subject { part.a != 0 || part.b != 0 } else { true }
    }
    return ([heading, rule] + comparison.totals.map(row) + [rule] + parts.map(row)).joined(separator: "\n")
  }

  private func row(_ change: Comparison.Change) -> String {
    let isRate = change.statistic.subject == .iops
    let values = [change.a, change.b].compactMap { $0 }
    guard let large = values.max() else { return line([change.statistic.title, "", "-", "-", "", "", ""]) }
    let unit = DiffUnit(for: large, isRate: isRate)
    func side(_ value: Double?, _ estimate: Estimate?) -> String {
      guard let value else { return "-" }
      guard let range = estimate?.interval() else { return unit.text(value) }
      return "\(unit.text(value)) ±\(unit.text((range.upperBound - range.lowerBound) / 2))"
    }
    var cells = [
      change.statistic.title, unit.name, side(change.a, change.estimateA), side(change.b, change.estimateB), "", "", "",
    ]
    if let a = change.a, let b = change.b {
      cells[4] = unit.signed(b - a)
      cells[5] =
        change.interval.map { "\(unit.signed($0.lowerBound))…\(unit.signed($0.upperBound))" } ?? "unknown"
      cells[6] = change.share.map { DiffUnit.percent($0) } ?? ""
    }
    let line = line(cells)
    guard line.count > DiffTable.columns else { return line }
    // Far from any conclusion; the numbers are in the JSON object.
    cells[2] = change.a.map(unit.text) ?? "-"
    cells[3] = change.b.map(unit.text) ?? "-"
    cells[5] = change.interval == nil ? "unknown" : "wide"
    return String(self.line(cells).prefix(DiffTable.columns))
  }

  private func line(_ cells: [String]) -> String {
    var line = cells[0]
    var end = DiffTable.widths[0]
    for (cell, width) in zip(cells, DiffTable.widths).dropFirst() {
      end += width
      // A wide cell takes its room from the following ones.
      line += String(repeating: " ", count: max(cell.isEmpty ? 0 : 1, end - line.count - cell.count)) + cell
    }
    while line.last == " " { line.removeLast() }
    return line
  }
}

extension Statistic {
  /// In a table's first column: service and waiting stand below their stage.
  var title: String {
    switch subject {
    case .iops: "IOPS"
    case .service: "  service"
    case .waiting(in: _): "  waiting"
    default: name
    }
  }

  /// In a sentence.
  var phrase: String {
    switch subject {
    case .iops: "IOPS"
    case .service(let stage): "the service of \(stage.name)"
    case .waiting(let stage): "waiting in \(stage.name)"
    default: name
    }
  }
}

/// The unit of a row.
struct DiffUnit {
  let name: String
  private let scale: Double
  private let places: Int

  /// - Parameter value: the largest of the row: nanoseconds, or commands per second.
  init(for value: Double, isRate: Bool) {
    let units = isRate ? [("", 1.0), ("k", 1e3), ("M", 1e6)] : [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)]
    (name, scale) = units.last { value >= $0.1 * 0.9995 } ?? units[0]
    places =
      switch value / scale {
      case ..<9.9995: scale == 1 ? 1 : 3
      case ..<99.995: scale == 1 ? 1 : 2
      case ..<999.95: 1
      default: 0
      }
  }

  func text(_ value: Double) -> String { Quantity.decimal(value / scale, places) }

  func signed(_ value: Double) -> String {
    let text = text(value)
    return text.hasPrefix("-") ? text : "+" + text
  }

  /// A change as a share; a large one as a factor.
  static func percent(_ share: Double) -> String {
    switch share {
    case 99_999...: return ">×99,999"
    case 9.995...: return "×" + Quantity.decimal(share + 1, 0)
    case 0.9995...: return "×" + Quantity.decimal(share + 1, 1)
    default:
      let text = Quantity.decimal(share * 100, share < -0.9995 ? 0 : 1)
      return (text.hasPrefix("-") ? text : "+" + text) + "%"
    }
  }
}
