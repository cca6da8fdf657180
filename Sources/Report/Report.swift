import Analysis
import Evidence
import Text

/// Formats an analysis for people and programs.
public enum Report {
  /// Sentences, then the tables. For a terminal of 80 columns or more; ends with a line feed.
  ///
  /// - Parameters:
  ///   - lives: the slowest commands.
  ///   - path: the trace, for the command to run next.
  public static func text(_ summary: Summary, _ lives: [CommandLife] = [], path: String? = nil) -> String {
    let next = lives.isEmpty && summary.among == nil ? path.map { [NextStep.sentence(summary, $0)] } ?? [] : []
    var parts = [(findings(summary) + next).map { wrapped($0) }.joined(separator: "\n")]
    if summary.io.commands > 0 { parts.append(StageTable(summary).text) }
    if let bands = summary.bands.flatMap({ BandColumns($0).text }) { parts.append(bands) }
    if let driver = DriverTables(summary) { parts += driver.texts }
    parts += BehaviourSections(summary).texts
    parts += summary.groups.map { group in
      let heading = "\(group.key.name): \(Findings.throughput(of: group.breakdown))"
      return wrapped(heading) + "\n\n" + StageTable(compact: group.breakdown).text
    }
    if let windows = summary.windows, let values = windows.values, !values.isEmpty {
      parts.append(WindowTable(values, lengthNs: windows.lengthNs).text)
    }
    parts += lives.map { text($0) }
    return parts.joined(separator: "\n\n") + "\n"
  }

  /// The findings, one string each, most important first.
  public static func findings(_ summary: Summary) -> [String] { Findings(summary).sentences }

  /// A command's life; ends without a line feed.
  public static func text(_ life: CommandLife) -> String { CommandLifeText(life).text }

  /// The same as one JSON object, format "nvmepf-command/1".
  public static func object(_ life: CommandLife) -> JSON {
    .object([("format", .string("nvmepf-command/1")), ("command", CommandLifeText(life).object)])
  }

  /// One JSON object, format "nvmepf-report/1"; ends with a line feed.
  ///
  /// - Parameter lives: the slowest commands.
  public static func json(_ summary: Summary, _ lives: [CommandLife] = []) -> String {
    JSONReport(summary, lives).object.text + "\n"
  }
}

/// Break text into lines of at most so many columns and indent all but the first. A number stays with its unit.
public func wrapped(_ text: String, columns: Int = 88) -> String {
  var pieces: [String] = []
  for word in text.split(separator: " ").flatMap({ $0.pieces(of: columns - 2) }) {
    if let last = pieces.last?.last, last.isNumber {
      pieces[pieces.count - 1] += " " + word
    } else {
      pieces.append(String(word))
    }
  }
  var lines: [String] = []
  var line = ""
  for piece in pieces {
    if !line.isEmpty, line.count + 1 + piece.count > columns {
      lines.append(line)
      line = "  " + piece
    } else {
      line += (line.isEmpty ? "" : " ") + piece
    }
  }
  lines.append(line)
  return lines.joined(separator: "\n")
}

extension Substring {
  /// A word that fits no line is broken.
  fileprivate func pieces(of length: Int) -> [Substring] {
    guard count > length else { return [self] }
    return [prefix(length)] + dropFirst(length).pieces(of: length)
  }
}
