import ArgumentParser
import Backends
import Device
import Host
import NVMe

/// Records the scenarios of `traces/`, each by driving the controller step by step.
struct GoldenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "golden", abstract: "Record one of the golden traces anew.", shouldDisplay: false)

  enum Scenario: String, CaseIterable, ExpressibleByArgument {
    case qd1Read = "qd1-read"
    case qd32Mixed = "qd32-mixed"
    case bringUp = "bring-up"
    case errors
    case twoQueues = "two-queues"
    case sgl
    case commands
    case coalescing
    case resetInFlight = "reset-in-flight"
    case namespaces

    /// One queue a vector, and a namespace of memory; where commands must be under way, one that takes its time.
    var configuration: EndpointConfiguration {
      let slow = BackendConfiguration.null(bytes: 64 << 20, serviceTime: .exponential(meanNs: 20_000_000, seed: 1))
      return EndpointConfiguration(
        backend: self == .resetInFlight ? slow : .memory(bytes: 64 << 20), ioQueuesMax: 4)
    }
  }

  @Argument(help: "Which.")
  var scenario: Scenario

  @Option(name: [.short, .customLong("output")], help: "The trace to write.")
  var output: String

  func run() throws {
    let session = try Session(
      scenario.configuration, socketPath: nil, output: .trace(output), command: ["nvmepf", "golden", scenario.rawValue])
    try session.start()
    let (path, recording, scenario) = (session.socketPath, session.hostRecording, scenario)
    try Failure.wrap { () throws(HostError) in
      let controller = try HostController(path: path, recording: recording)
      try GoldenScenario(controller: controller, function: session.function).play(scenario)
      try controller.shutDown()
    }
    try session.finish()
  }
}
