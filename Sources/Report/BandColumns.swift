import Analysis
import Text

/// How commands of different latency spend their time: a row per stage, a column per band of percentiles.
struct BandColumns {
  private let bands: [Band]

  init(_ bands: Bands) { self.bands = [bands.typical] + bands.all }

  /// Aligned, without a line feed at the end; nil if all commands are in one band.
  var text: String? {
    guard bands.count > 2 else { return nil }
    let unit = Unit(for: bands[0].latencyMeanNs)
    func row(_ name: String, _ ns: (Band) -> Double) -> [String] {
      [name] + bands.map { ns($0) > 0 ? unit.mean(ns($0)) : "-" }
    }
    let stages =
      Stage.allCases.map { stage in row(stage.name) { $0.meanNs(stage) } } + [
        row("between stages") { $0.unexplainedMeanNs }
      ]
    let body = stages.filter { $0.dropFirst().contains { $0 != "-" } }
    let ends = [row("total") { $0.latencyMeanNs }, row("  of it waiting") { $0.waitingMeanNs }]
    let head = [unit.name] + bands.map(heading)
    let widths = head.indices.map { column in ([head] + body + ends).map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      let padded = cells.enumerated().map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column == 0 ? cell + space : "  " + space + cell
      }
      return padded.joined()
    }
    let rule = String(repeating: "─", count: widths.reduce(2 * bands.count, +))
    return
      (["means of the commands between two percentiles of latency", line(head), rule] + body.map(line) + [rule]
      + ends.map(line)).joined(separator: "\n")
  }

  private func heading(_ band: Band) -> String {
    if band.from == 0.45 { return "typical" }
    func percentile(_ share: Double) -> String { share == 0.999 ? "99.9" : Quantity.decimal(share * 100, 0) }
    return band.upTo == 1 ? "beyond \(percentile(band.from))" : "\(percentile(band.from))–\(percentile(band.upTo))"
  }
}
