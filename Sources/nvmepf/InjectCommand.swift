import ArgumentParser
import Faults
import Text

struct InjectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inject",
    abstract: "Show the faults that record, serve and torment can inject.",
    discussion: """
      For each fault: its SPEC, what the host sees, which rule of the specification
      it breaks, and what a driver should do. docs/injection.md explains SPECs.

        nvmepf inject --list
        nvmepf inject --list drop-completion wrong-phase
      """)

  @Flag(help: "List the faults")
  var list = false

  @Flag(help: "Print JSON")
  var json = false

  @Argument(help: "Faults to list (default: all)", completion: .list(Fault.Kind.allCases.map(\.name)))
  var names: [String] = []

  func validate() throws {
    try require(list, "inject shows faults with --list; record and serve inject them with --inject")
    let known = Fault.Kind.allCases.map(\.name)
    if let name = names.first(where: { !known.contains($0) }) {
      throw ValidationError("\(name) is not a fault; use \(known.joined(separator: ", "))")
    }
  }

  func run() {
    let kinds = Fault.Kind.allCases.filter { names.isEmpty || names.contains($0.name) }
    if json {
      print(["format": "nvmepf-faults/1", "faults": .array(kinds.map(InjectCommand.json))])
    } else {
      print(kinds.map(InjectCommand.text).joined(separator: "\n\n"))
    }
  }

  private static func json(_ kind: Fault.Kind) -> JSON {
    let fault = kind.described
    return [
      "fault": .string(kind.name), "spec": .string(fault.spec), "conditions": .string(kind.conditions),
      "effect": .string(fault.effect), "rule": .string(fault.rule ?? ""),
      "section": .string(fault.section), "advice": .string(fault.advice),
    ]
  }

  private static func text(_ kind: Fault.Kind) -> String {
    let fault = kind.described
    let lines = [
      ("host sees", fault.effect), ("rule", (fault.rule ?? "Breaks none.") + " (\(fault.section))"),
      ("driver", fault.advice), ("takes", kind.conditions),
    ]
    return fault.spec + "\n" + lines.map { wrapped($0, $1) }.joined(separator: "\n")
  }

  /// A label and its text, in lines of 80 columns.
  private static func wrapped(_ label: String, _ text: String) -> String {
    let indent = String(repeating: " ", count: 13)
    var lines = ["  \(label)".padded(to: 13)]
    for word in text.split(separator: " ") {
      let line = lines[lines.count - 1]
      if line.count + word.count + 1 > 80 {
        lines.append(indent + word)
      } else {
        lines[lines.count - 1] += line.last == " " ? word : " " + word
      }
    }
    return lines.joined(separator: "\n")
  }
}
