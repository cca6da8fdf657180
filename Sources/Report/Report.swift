import Analysis

/// What a person, or a program, reads of an analysis.
public enum Report {
  /// Sentences, then the tables. For a terminal of 80 columns or more; ends with a line feed.
  public static func text(_ summary: Summary) -> String {
    var parts = [findings(summary).map(wrapped).joined(separator: "\n")]
    if summary.io.commands > 0 { parts.append(StageTable(summary).text) }
    parts += summary.groups.map { group in
      let heading = "\(group.key.name): \(Findings.throughput(of: group.breakdown))"
      return wrapped(heading) + "\n\n" + StageTable(compact: group.breakdown).text
    }
    return parts.joined(separator: "\n\n") + "\n"
  }

  /// What the numbers say, one finding to a string, the most important first.
  public static func findings(_ summary: Summary) -> [String] { Findings(summary).sentences }

  /// One JSON object, format "nvmepf-report/1"; ends with a line feed.
  public static func json(_ summary: Summary) -> String { JSONReport(summary).object.text + "\n" }
}
