import ArgumentParser
import Service

extension GoldenScenario: ExpressibleByArgument {}

struct GoldenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "golden", abstract: "Record one of the golden traces anew.", shouldDisplay: false)

  @Argument(help: "Scenario to record")
  var scenario: GoldenScenario

  @Option(name: [.short, .customLong("output")], help: "Write this trace")
  var output: String

  func run() throws { try scenario.record(to: output) }
}
