import Analysis
import Text

/// A line for each window of time.
struct WindowTable {
  private let windows: [TimeWindow]
  private let lengthNs: UInt64
  private let unit: (name: String, ns: UInt64)

  init(_ windows: [TimeWindow], lengthNs: UInt64) {
    (self.windows, self.lengthNs) = (windows, lengthNs)
    let units: [(String, UInt64)] = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000)]
    // The largest unit in which every window begins at a whole number.
    unit = units.first { lengthNs % $0.1 == 0 }.map { (name: $0.0, ns: $0.1) } ?? (name: "ns", ns: 1)
  }

  /// Aligned, without a line feed at the end.
  var text: String {
    let heading = [unit.name, "commands", "failed", "IOPS", "mean", "p50", "p99", "max", "depth"]
    let rows = [heading] + windows.map(cells)
    let widths = heading.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
      zip(row, widths).map { cell, width in String(repeating: " ", count: width - cell.count) + cell }
        .joined(separator: "  ")
    }
    let rule = String(repeating: "─", count: lines[0].count)
    return ([lines[0], rule] + lines.dropFirst()).joined(separator: "\n")
  }

  private func cells(_ window: TimeWindow) -> [String] {
    let begin = window.fromNs / lengthNs * lengthNs / unit.ns
    guard window.commands > 0 else {
      return [Quantity.count(begin), "0", "0", "0", "-", "-", "-", "-", Quantity.significant(window.depth)]
    }
    return [
      Quantity.count(begin), Quantity.count(window.commands), Quantity.count(window.failed),
      Quantity.decimal(window.iops, 0), Quantity.time(window.meanNs), window.p50Ns.map { Quantity.time($0) } ?? "-",
      window.p99Ns.map { Quantity.time($0) } ?? "-", Quantity.time(window.maxNs), Quantity.significant(window.depth),
    ]
  }
}
