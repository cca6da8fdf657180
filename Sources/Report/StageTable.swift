import Analysis
import Intervals
import Text

/// The stages of a set of commands, in columns.
struct StageTable {
  private struct Row {
    var name: String
    var cells: [String]
    var bar = ""
    var isEmpty: Bool { cells[0] == "-" }
  }

  private let unit: Unit
  private var rows: [Row] = []
  private var total: [Row] = []
  private var outside: [Row] = []

  /// All I/O commands of a summary.
  init(_ summary: Summary) {
    self.init(summary.io)
    let latency = summary.io.latency
    insert(after: .complete, "no room in CQ", summary.queueFull, latency)
    if summary.subject == .endpoint {
      for stage in [Stage.complete, .interrupt] { insertWaiting(in: stage, summary.io) }
    }
    if let handoffs = summary.handoffs {
      insert(after: .detect, "submit → doorbell", handoffs.doorbell, latency)
      insert(after: .dispatch, "queued → runs", handoffs.dispatch, latency)
      insert(after: .complete, "queued → runs", handoffs.completion, latency)
      if handoffs.wakeUp.maxNs > 0 {
        rows.append(
          Row(name: "  executed → data-out", cells: cells(handoffs.wakeUp, share: handoffs.wakeUp.share(of: latency))))
      }
    }
    // Without a host stream, its turn is all that is known of detect.
    if summary.commandsFromHost > 0 { insert(after: .detect, "its turn", summary.turn, latency) }
    if let handling = summary.handling { insert(after: .reap, "seen → doorbell", handling, latency) }
    if let submit = summary.hostSubmit {
      outside.append(Row(name: "host submit → doorbell", cells: cells(submit, share: nil)))
    }
    if let undetected = summary.undetected {
      outside.append(Row(name: "doorbell → seen, at most", cells: cells(undetected, share: nil)))
    }
  }

  /// Some of the commands, without empty stages.
  init(compact breakdown: Breakdown) {
    self.init(breakdown)
    rows.removeAll { $0.isEmpty }
  }

  private init(_ breakdown: Breakdown) {
    unit = Unit(for: breakdown.latency.meanNs)
    for stage in Stage.allCases {
      let share = breakdown[stage].share(of: breakdown.latency)
      rows.append(Row(name: stage.name, cells: cells(breakdown[stage], share: share), bar: bar(share)))
    }
    let share = breakdown.unexplained.share(of: breakdown.latency)
    rows.append(Row(name: "between stages", cells: cells(breakdown.unexplained, share: share), bar: bar(share)))
    total.append(Row(name: "total", cells: cells(breakdown.latency, share: 1)))
    if breakdown.waiting.maxNs > 0 {
      let share = breakdown.waiting.share(of: breakdown.latency)
      total.append(Row(name: "  of it waiting", cells: cells(breakdown.waiting, share: share)))
    }
  }

  /// Aligned, without a line feed at the end.
  var text: String {
    let heading = Row(name: "", cells: ["mean", "share", "p50", "p99", "p99.9", "max"])
    let body = [heading] + rows + total + outside
    let nameWidth = body.map(\.name.count).max() ?? 0
    let widths = (0..<6).map { column in (body.map { $0.cells[column].count }.max() ?? 0) + 2 }
    func line(_ row: Row) -> String {
      var line = row.name + spaces(nameWidth - row.name.count)
      for (cell, width) in zip(row.cells, widths) { line += spaces(width - cell.count) + cell }
      return (row.bar.isEmpty ? line : line + "  " + row.bar).trimmingSuffix(" ")
    }
    let rule = String(repeating: "─", count: nameWidth + widths.reduce(0, +))
    var head = line(heading)
    head = unit.name + head.dropFirst(unit.name.count)
    var lines = [head, rule] + rows.map(line) + [rule] + total.map(line)
    if !outside.isEmpty { lines += ["", "not in the total:"] + outside.map(line) }
    return lines.joined(separator: "\n")
  }

  /// Insert a part of a stage below it, if it has any time.
  private mutating func insert(after stage: Stage, _ name: String, _ part: Distribution, _ whole: Distribution) {
    guard part.maxNs > 0, let index = rows.firstIndex(where: { $0.name == stage.name }) else { return }
    rows.insert(Row(name: "  \(name)", cells: cells(part, share: part.share(of: whole))), at: index + 1)
  }

  /// Insert which part of a stage was waiting, if any.
  private mutating func insertWaiting(in stage: Stage, _ io: Breakdown) {
    let ns = io.waitingMeanNs(stage)
    guard ns >= 0.01 * io[stage].meanNs, ns > 0, let index = rows.firstIndex(where: { $0.name == stage.name }) else {
      return
    }
    let share = Quantity.percent(ns / io.latency.meanNs)
    rows.insert(Row(name: "  waiting", cells: [unit.mean(ns), share, "", "", "", ""]), at: index + 1)
  }

  /// A percentile that fewer than ten commands support is left out.
  /// - Parameter share: nil if it is not a part of the total.
  private func cells(_ times: Distribution, share: Double?) -> [String] {
    guard times.maxNs > 0 else { return Array(repeating: "-", count: 6) }
    return [unit.mean(times.meanNs), share.map(Quantity.percent) ?? ""]
      + [.p50, .p99, .p999].map { times[$0].map(unit.value) ?? "" } + [unit.value(times.maxNs)]
  }

  /// Twelve columns represent the total.
  private func bar(_ share: Double) -> String {
    let eighths = Int((share * 12 * 8).rounded())
    let last = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    return String(repeating: "█", count: eighths / 8) + last
  }

  private func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }
}

/// One unit for a whole table, chosen by its total.
struct Unit {
  let name: String
  private let ns: Double
  private let places: Int

  /// - Parameter meanNs: the mean of the total.
  init(for meanNs: Double) {
    (name, ns, places) =
      switch meanNs {
      case ..<20_000: ("ns", 1, 0)
      case ..<20_000_000: ("µs", 1e3, 2)
      default: ("ms", 1e6, 3)
      }
  }

  func value(_ time: UInt64) -> String { Quantity.decimal(Double(time) / ns, places) }
  /// Means have tenths even if the unit is a nanosecond.
  func mean(_ time: Double) -> String { Quantity.decimal(time / ns, max(places, 1)) }
}

extension String {
  fileprivate func trimmingSuffix(_ character: Character) -> String {
    var end = endIndex
    while end > startIndex, self[index(before: end)] == character { end = index(before: end) }
    return String(self[..<end])
  }
}
