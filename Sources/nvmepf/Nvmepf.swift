import ArgumentParser
import CPlatform
import Endpoint
import FioGuard
import Foundation
import Glibc
import Service
import Text

@main
struct Nvmepf: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nvmepf",
    abstract: "Record, replay and explain what an NVMe device's front end does.",
    discussion: """
        nvmepf record -- fio --name=a --rw=randread --bs=4k --number_ios=100000
        nvmepf replay
        nvmepf report
      """,
    version: productCommit.map { "\(productVersion) (commit \($0))" } ?? productVersion,
    subcommands: [
      RecordCommand.self, ServeCommand.self, NamespaceCommand.self, LinkCommand.self, ReplayCommand.self,
      ReportCommand.self, DiffCommand.self, DumpCommand.self, SimulateCommand.self,
      InjectCommand.self, TormentCommand.self, InfoCommand.self, RepairCommand.self, CutCommand.self,
      MinimizeCommand.self, AnonymizeCommand.self, DoctorCommand.self, MergeCommand.self, BenchCommand.self,
      BenchHostCommand.self,
    ])

  /// The trace that `record` writes and the others read by default.
  static let defaultTrace = "nvmepf.nvpt"

  static func main() {
    // nvmepf also serves as the fio of a recorded command, and as the watcher of the command.
    FioSession.becomeFio()
    ExecGuard.runIfAsked()
    OwnProcess.ignoreFileSizeLimit()
    do {
      #if MUTANTS
        try plantMutant()
      #endif
      try checkNames(CommandLine.arguments.dropFirst())
      var command = try parseAsRoot()
      try command.run()
      try flush()
    } catch {
      try? flush()
      exit(error)
    }
  }

  #if MUTANTS
    /// Plant the fault that the environment names.
    private static func plantMutant() throws {
      guard let name = ProcessInfo.processInfo.environment["NVMEPF_MUTANT"] else { return }
      guard let mutant = Mutant(rawValue: name) else {
        let names = Mutant.allCases.map(\.rawValue).joined(separator: ", ")
        throw Failure(description: "no mutant \(name); NVMEPF_MUTANT is one of \(names)")
      }
      Mutant.planted = mutant
    }
  #endif

  /// Refuse an unknown command: the parser reports it as an unexpected argument, and `help` ignores it.
  static func checkNames(_ words: ArraySlice<String>) throws {
    var known = configuration.subcommands
    var parents = "nvmepf"
    for name in words.first == "help" ? words.dropFirst() : words {
      guard !known.isEmpty, !name.hasPrefix("-") else { return }
      guard let command = known.first(where: { $0._commandName == name }) else {
        let names = known.filter { $0.configuration.shouldDisplay }.map { $0._commandName }
        let hint = name.nearest(among: names).map { " (did you mean \($0)?)" } ?? ""
        throw Failure(description: "no command \(name)\(hint); \(parents) --help lists the commands")
      }
      known = command.configuration.subcommands
      parents += " \(name)"
    }
  }

  /// A message of several lines ends with the choices.
  private static func oneLine(_ message: String, else other: String) -> String {
    let lines = message.split(whereSeparator: \.isNewline).map { $0.drop { $0 == " " } }
    if lines.isEmpty { return other }
    let choices = lines.filter { $0.hasPrefix("- ") }.map { $0.dropFirst(2) }
    let text = lines.filter { !$0.hasPrefix("- ") }.joined(separator: " ")
    return choices.isEmpty ? text : "\(text) \(choices.joined(separator: ", "))"
  }

  /// Fail if printed output was not written.
  private static func flush() throws {
    guard !nvmepf_flush_output() else { return }
    throw Failure(description: "cannot write output: \(String(cString: strerror(errno)))", status: 1)
  }

  /// Help goes to standard output; everything else is one line on standard error, with status 2 unless the error sets
  /// another.
  private static func exit(_ error: any Error) -> Never {
    if let failure = error as? Failure { end(failure.lines, failure.status) }
    let code = exitCode(for: error)
    if code.isSuccess || error is ExitCode {
      print(fullMessage(for: error), terminator: code.isSuccess ? "\n" : "")
      Glibc.exit(code.rawValue)
    }
    // The parser's own errors speak through it; others are one line, whatever the names in them.
    let isParsers = String(reflecting: type(of: error)).hasPrefix("ArgumentParser.")
    end([isParsers ? oneLine(message(for: error), else: "\(error)") : "\(error)"], 2)
  }

  /// With `--json` the error is also an object on standard output, for programs that read only that.
  private static func end(_ lines: [String], _ status: Int32) -> Never {
    for line in lines { complain(line) }
    if CommandLine.arguments.prefix(while: { $0 != "--" }).contains("--json"), !lines.isEmpty {
      print([
        "format": "nvmepf-error/1", "error": .string(lines.joined(separator: "\n")), "status": .integer(status),
      ])
      _ = nvmepf_flush_output()
    }
    Glibc.exit(status)
  }
}

/// Print to standard output with control characters escaped. It shadows Swift's own `print` in this module, so that no
/// command prints untrusted text unescaped.
func print(_ items: Any..., separator: String = " ", terminator: String = "\n") {
  print(items.map { "\($0)" }.joined(separator: separator), terminator: terminator)
}

/// Print one JSON value in one line.
func print(_ value: JSON) { print(value.line) }

/// The same for one text, without boxing and joining: `dump` prints millions of them.
func print(_ text: String, terminator: String = "\n") {
  Swift.print(text.printableLines, terminator: terminator)
}
