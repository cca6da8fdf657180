import Analysis
import Diff
import Text

/// What a comparison says, in sentences.
struct DiffFindings {
  private let report: DiffReport
  private var comparison: Comparison { report.comparison }
  private var mean: Comparison.Change { comparison.totals.first { $0.statistic == Statistic(.latency) }! }

  init(_ report: DiffReport) { self.report = report }

  /// About this comparison.
  var sentences: [String] {
    ([whole, explanation] + worse + [beginnings, workload, losses] + limits).compactMap { $0 }
  }

  /// About all comparisons with A.
  var closing: [String] { [confidence, next].compactMap { $0 } }

  private func time(_ ns: Double) -> String {
    let text = Quantity.time(ns.magnitude)
    return (ns < 0 ? "-" : "+") + text
  }

  private func percent(_ change: Comparison.Change) -> String {
    change.share.map { " (\(DiffUnit.percent($0)))" } ?? ""
  }

  private var whole: String? {
    guard let a = mean.a, let b = mean.b else { return nil }
    guard let interval = mean.interval else {
      return "The mean latency changes by \(time(b - a))\(percent(mean)); whether that is noise is unknown: with fewer "
        + "than 1,000 commands a recording does not show its precision."
    }
    let range = "between \(time(interval.lowerBound)) and \(time(interval.upperBound))"
    guard mean.isSeparated else {
      return "The change of the mean latency cannot be separated from noise: it is \(range)."
    }
    return "The mean latency \(b > a ? "rises" : "falls") by \(time(b - a).dropFirst())\(percent(mean)), \(range)."
  }

  /// Stages whose change is not only noise and goes the whole's way, largest first.
  private var explanation: String? {
    guard mean.isSeparated, let a = mean.a, let b = mean.b else { return nil }
    let all = comparison.summands.filter { part in
      guard part.isSeparated, let partA = part.a, let partB = part.b else { return false }
      return (partB - partA).sign == (b - a).sign && (partB - partA).magnitude >= 0.01 * (b - a).magnitude
    }
    let sorted = all.sorted { ($0.b! - $0.a!).magnitude > ($1.b! - $1.a!).magnitude }
    guard let first = sorted.first else { return "No single stage explains it: no stage's change is beyond noise." }
    let others = sorted.dropFirst().prefix(3).map { "\($0.statistic.phrase) \(time($0.b! - $0.a!))" }
    return "\(first.statistic.phrase.capitalizedFirst) explains \(time(first.b! - first.a!)) of \(time(b - a))"
      + (others.isEmpty ? "" : ", " + others.joined(separator: ", ")) + "."
  }

  /// What got worse while the whole did not.
  private var worse: [String] {
    guard !mean.isWorse else { return [] }
    let all = (comparison.totals + comparison.summands).filter { $0.isWorse && $0.statistic != mean.statistic }
    guard !all.isEmpty else { return [] }
    let list = all.map { change in
      let name = change.statistic.phrase
      return change.statistic.subject == .iops
        ? "\(name)\(percent(change))" : "\(name) \(time(change.b! - change.a!))\(percent(change))"
    }
    return ["Worse nevertheless: \(list.joined(separator: ", "))."]
  }

  // MARK: What limits the comparison

  /// Latencies that do not begin at the same event.
  private var beginnings: String? {
    let known = (report.a + report.b).map { $0.summary.commandsFromHost > 0 }
    guard known.contains(true), known.contains(false) else { return nil }
    return
      "Not comparable: some recordings contain the host, and their latencies begin at its doorbell; those of the others "
      + "begin when the controller saw it."
  }

  /// Sides that do not do the same work.
  private var workload: String? {
    func perCommand(_ recordings: [DiffReport.Recording]) -> Double {
      let commands = recordings.reduce(0.0) { $0 + Double($1.summary.io.commands) }
      let bytes = recordings.reduce(0.0) {
        $0 + Double($1.summary.io.bytesFromHost) + Double($1.summary.io.bytesToHost)
      }
      return commands > 0 ? bytes / commands : 0
    }
    func depth(_ recordings: [DiffReport.Recording]) -> Double {
      recordings.reduce(0.0) { $0 + $1.summary.io.queueDepth } / Double(recordings.count)
    }
    func differ(_ a: Double, _ b: Double, _ share: Double) -> Bool { (a - b).magnitude > share * max(a, b) }
    var parts: [String] = []
    let (bytesA, bytesB) = (perCommand(report.a), perCommand(report.b))
    if differ(bytesA, bytesB, 0.02) {
      parts.append("\(Quantity.bytes(bytesA)) a command in A, \(Quantity.bytes(bytesB)) in \(report.name)")
    }
    let (depthA, depthB) = (depth(report.a), depth(report.b))
    if differ(depthA, depthB, 0.2) {
      parts.append(
        "a queue depth of \(Quantity.significant(depthA)) in A, \(Quantity.significant(depthB)) in \(report.name)")
    }
    return parts.isEmpty ? nil : "The workloads differ: \(parts.joined(separator: "; "))."
  }

  private var losses: String? {
    let all = (report.a + report.b).filter { $0.summary.lost > 0 || $0.summary.partial > 0 || $0.summary.io.failed > 0 }
    guard !all.isEmpty else { return nil }
    let list = all.map { recording in
      "\(recording.name.printable(limit: 512)) (\(Quantity.count(recording.summary.lost, "event")) lost, "
        + "\(Quantity.count(recording.summary.io.failed, "command")) failed)"
    }
    return "Not intact: \(list.joined(separator: ", ")); nvmepf report shows what is missing."
  }

  private var limits: [String] {
    report.limits.map { limit, verdict in
      let text = "--fail-if '\(limit.text.printable(limit: 128))'"
      return switch verdict {
      case .exceeded: "\(text): yes."
      case .notExceeded: "\(text): no."
      case .unknown: "\(text): these recordings cannot tell."
      }
    }
  }

  private var confidence: String? {
    guard comparison.totals.contains(where: { $0.interval != nil }) else { return nil }
    if comparison.hasRuns {
      return
        "All intervals of differences hold together with 95% confidence (Welch's t over the recordings of each side)."
    }
    return "All intervals of differences hold together with 95% confidence as far as one recording of each side shows; "
      + "the spread between runs is unknown."
  }

  /// The next command to run.
  private var next: String? {
    if !comparison.hasRuns {
      return "Next: nvmepf diff --a A1 A2 A3 --b B1 B2 B3, with three recordings of each side or more."
    }
    return nil
  }
}

extension String {
  var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
