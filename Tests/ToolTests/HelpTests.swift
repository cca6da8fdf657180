import ArgumentParser
import Testing

@testable import nvmepf

@Suite("Help")
struct HelpTests {
  /// Every command of the tool, subcommands included.
  private static let commands: [any ParsableCommand.Type] = {
    var (all, left): ([any ParsableCommand.Type], [any ParsableCommand.Type]) = ([], [Nvmepf.self])
    while let command = left.popLast() {
      all.append(command)
      left += command.configuration.subcommands
    }
    return all
  }()

  private static func lines(_ command: any ParsableCommand.Type) -> [Substring] {
    Nvmepf.helpMessage(for: command, includeHidden: true, columns: 80).split(
      separator: "\n", omittingEmptySubsequences: false)
  }

  @Test("no line of any command's help is longer than 80 columns")
  func fits() {
    #expect(HelpTests.commands.count > 15)
    for command in HelpTests.commands {
      for line in HelpTests.lines(command) where line.count > 80 { Issue.record("\(command): \(line)") }
    }
  }

  @Test("discussions keep their lines at 80 columns, and so their examples")
  func keepsLines() {
    for command in HelpTests.commands {
      let lines = Set(HelpTests.lines(command).map { $0.drop { $0 == " " } })
      for line in command.configuration.discussion.split(separator: "\n") {
        #expect(lines.contains(line.drop { $0 == " " }), "\(command): \(line)")
      }
    }
  }

  @Test("help of options has no final period, since the default follows")
  func endsWithoutPeriod() {
    for command in HelpTests.commands {
      for line in HelpTests.lines(command) {
        #expect(!line.contains(". (default:") && !line.contains(". (values:"), "\(command): \(line)")
      }
    }
  }
}
