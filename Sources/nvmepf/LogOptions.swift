import ArgumentParser
import Logging

/// Log options.
struct LogOptions: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Also log clients, resets and enabling; -vv also queues")
  var verbose: Int

  @Flag(name: .shortAndLong, help: "Log errors only")
  var quiet = false

  @Option(
    help: ArgumentHelp(
      "Log from this level on (default: notice)", valueName: "level"))
  var logLevel: Level?

  enum Level: String, CaseIterable, ExpressibleByArgument {
    case debug, info, notice, warning, error
  }

  var isGiven: Bool { verbose > 0 || quiet || logLevel != nil }

  var level: Logger.Level {
    if let logLevel { return Logger.Level(rawValue: logLevel.rawValue)! }
    return quiet ? .error : verbose == 0 ? .notice : verbose == 1 ? .info : .debug
  }
}
