import Text

extension Bisection: CustomStringConvertible {
  /// In one line: the event, and how certain that is.
  public var summary: String {
    let end = divergence.kind == .end ? ", the end of the recording" : ""
    let what = words.first.map { "#\($0.event) \($0.text)" } ?? "#\(events.lowerBound)\(end)"
    let last = words.count > 1 ? ", up to #\(events.upperBound - 1)" : ""
    switch certainty {
    case .exact where !isOfState: return "the first event that differs is \(what); the states agreed before its pass"
    case .exact where steps.isEmpty:
      return "no event of the engine lies between #\(agreed) and #\(differs): the recording contradicts itself"
    case .exact: return "the state differs after \(what)\(last)"
    case .likely: return "the state most likely differs after \(what)\(last)"
    case .output: return "the first output that differs is \(what)\(last)"
    case .earliest: return "the state differs after \(what)\(last), or later"
    }
  }

  public var description: String {
    var lines = [summary]
    for (name, point) in zip(["agreed: ", "differs:"], points) {
      lines.append("  \(name) #\(point.event) \(Divergence.moment(point.timeNs)): \(point.text)")
    }
    let passes = Quantity.count(steps.count, "pass or event from outside", "passes or events from outside")
    let between = differs > agreed ? differs - agreed - 1 : 0
    lines.append("  between:  \(passes), \(Quantity.count(between, "event"))")
    if words.count > 1 {
      lines.append("  its events:")
      lines += words.map { "    #\($0.event) \($0.text)" }
      if words.count < events.count { lines.append("    and others") }
    }
    if let later, !fields.isEmpty {
      lines.append("  at #\(later.event), the next checkpoint:")
      for field in fields { lines += Bisection.lines(field) }
    }
    if certainty != .exact {
      lines.append("  a recording with --state-hash-every 1 tells the exact pass")
    }
    return lines.joined(separator: "\n")
  }

  private static func lines(_ field: Trail) -> [String] {
    let name = "    \(Divergence.text((field.name, field.recorded, field.engine)))"
    guard let first = field.changes.first, let last = field.changes.last else {
      return [name, "      the replay does not change it in between"]
    }
    func text(_ change: Change) -> String { "from \(change.from) to \(change.to) at #\(change.events.lowerBound)" }
    var how = "the replay changes it \(text(first))"
    if field.changes.count > 1 {
      how =
        "the replay changes it \(Quantity.count(field.changes.count)) times, first \(text(first)), last \(text(last))"
    }
    return [name, "      \(how)"]
  }
}
