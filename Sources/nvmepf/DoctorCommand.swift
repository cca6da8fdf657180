import ArgumentParser
import Foundation
import Service
import Text

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Show what can be recorded on this machine and what is missing.",
    discussion: """
      Attaches every kernel probe for a moment, which needs root; without it,
      reports everything else.

      Exit status: 0 everything works, perhaps with limits; 1 something does not.
      """)

  @Flag(help: "Print one JSON object")
  var json = false

  func run() throws {
    let findings = MachineFinding.all()
    if json {
      print(["format": "nvmepf-doctor/1", "findings": .array(findings.map(\.object))])
    } else {
      for finding in findings { Swift.print(finding.text(color: isatty(STDOUT_FILENO) == 1)) }
    }
    if findings.contains(where: { $0.state == .red }) { throw ExitCode(1) }
  }
}

extension MachineFinding {
  var object: JSON {
    var members: [(String, JSON)] = [
      ("what", .string(what)), ("state", .string(state.rawValue)), ("found", .string(found)),
    ]
    if let remedy { members.append(("remedy", .string(remedy))) }
    if !details.isEmpty { members.append(("details", .array(details.map(JSON.string)))) }
    return .object(members)
  }

  /// The findings contain text of the kernel and of other programs; only the color is ours.
  func text(color: Bool) -> String {
    let paint = ["green": "32", "yellow": "33", "red": "31"][state.rawValue]!
    let mark = color ? "\u{1b}[\(paint)m\(state.rawValue)\u{1b}[0m" : state.rawValue
    let pad = String(repeating: " ", count: max(0, 6 - state.rawValue.count))
    var lines = ["\(mark)\(pad)  \(what.printable()): \(found.printable())"]
    if let remedy { lines.append("        → \(remedy.printable())") }
    lines += details.map { "        \($0.printable())" }
    return lines.joined(separator: "\n")
  }
}
