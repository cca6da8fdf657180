import Analysis
import Evidence
import NVMe
import Text

extension CommandFacts {
  /// The name of its opcode, else the number.
  func opcodeName(_ opcode: UInt8) -> String { NVMeName.opcode(opcode, isAdmin: isAdmin) ?? opcode.hex(digits: 2) }
}

extension Findings {
  /// How many of the commands the rest is about.
  static func selection(_ summary: Summary) -> String? {
    summary.among.map { among in
      "The filter selects \(Quantity.count(summary.io.commands)) of \(Quantity.count(among, "complete I/O command")); "
        + "everything but their times and bytes is about the whole trace."
    }
  }
}

extension JSONReport {
  /// What leads from the numbers to the trace.
  func evidence(_ lives: [CommandLife]) -> [(String, JSON)] {
    var members: [(String, JSON)] = []
    if let among = summary.among { members.append(("selected_among", .integer(among))) }
    if let windows = summary.windows?.values { members.append(("windows", .array(windows.map(window)))) }
    if !lives.isEmpty { members.append(("slowest", .array(lives.map { CommandLifeText($0).object }))) }
    return members
  }

  private func window(_ window: TimeWindow) -> JSON {
    let percentiles = [("p50_ns", window.p50Ns), ("p99_ns", window.p99Ns)].compactMap { name, value in
      value.map { (name, JSON.integer($0)) }
    }
    return .object(
      [
        ("from_ns", .integer(window.fromNs)), ("to_ns", .integer(window.toNs)), ("commands", .integer(window.commands)),
        ("failed", .integer(window.failed)), ("iops", .number(window.iops)), ("mean_ns", .number(window.meanNs)),
      ] + percentiles + [("max_ns", .integer(window.maxNs)), ("queue_depth", .number(window.depth))])
  }
}
