import Analysis
import ArgumentParser
import Expressions
import Testing

@testable import nvmepf

@Suite("Options that select commands and events")
struct WhereTests {
  private func conditions(_ arguments: String...) throws -> [String] {
    try CommandOptions.parse(arguments).filter().conditions.map(\.text)
  }

  private func message(_ command: any ParsableArguments.Type, _ arguments: String...) -> String {
    do {
      _ = try command.parse(arguments)
      return "accepted"
    } catch { return command.message(for: error) }
  }

  @Test("the other options are expressions of the same language")
  func options() throws {
    #expect(try conditions() == [])
    #expect(try conditions("--slower-than", "1.5us") == ["total > 1500"])
    #expect(
      try conditions("--stage", "execute>50us", "--stage", " total <= 1ms") == [
        "stage.execute > 50us", "total <=  1ms",
      ])
    #expect(try conditions("--stage", "unexplained>=7", "--failed") == ["unexplained >= 7", "failed"])
    #expect(try conditions("--status", "lba-out-of-range") == ["status == lba-out-of-range"])
    #expect(try conditions("--opcode", "0x2", "--nsid", "3") == ["nsid == 3", "opcode == 0x2"])
    #expect(try conditions("--lba", "0x10-31") == ["slba in 0x10..31"])
    #expect(try conditions("--lba", "100+8") == ["slba in 100+8"])
    #expect(try conditions("--lba", "100", "--where", "failed or qid == 1") == ["slba in 100", "failed or qid == 1"])
  }

  @Test(
    "a value that is none is refused",
    arguments: [
      (
        "--stage",
        [
          "execute", "execute>", "execute>x", ">5us", "sleep>5us", "execute=5us", "execute>-5us",
          "total>nan", "execute>5us && failed", "qid>5", "execute>5KiB",
        ], "the names are total, detect"
      ),
      ("--status", ["fine", "0x800", "0 || failed", "1..2"], "a name such as lba-out-of-range"),
      ("--opcode", ["reed", "256", "read write", "read)"], "a name such as read"),
      (
        "--lba", ["-", "1-", "-1", "+8", "8-7", "8+0", "18446744073709551615+2", "a", "1-2-3", "1 2", "1KiB"],
        "the first and the last"
      ),
    ] as [(String, [String], String)])
  func refused(option: String, values: [String], text: String) {
    for value in values { #expect(message(CommandOptions.self, "\(option)=\(value)").contains(text), "\(value)") }
  }

  @Test("a mistake in an expression is one line with its column")
  func mistakes() {
    for (command, option) in [
      (DumpCommand.self, "--where"), (DumpCommand.self, "--events-where"), (ReportCommand.self, "--where"),
    ]
      as [(any ParsableArguments.Type, String)]
    {
      let text = message(command, "\(option)=qid == 1 && nonsense > 5us")
      #expect(text.contains("column 13: there is no 'nonsense'; the names are "), "\(text)")
      #expect(!text.contains("\n"))
    }
    #expect(message(DumpCommand.self, "--where=qid changes").contains("commands have no earlier values"))
    #expect(message(DumpCommand.self, "--events-where=qid changes") == "accepted")
    #expect(message(DumpCommand.self, "--events-where=event > fetch").contains("fetch has no order"))
    let all = message(ReportCommand.self, "--command=1:2@3us", "--where=failed")
    #expect(all.contains("every filter"))
    #expect(message(CommandOptions.self, "--failed", "--status=success").contains("has not failed"))
    #expect(message(CommandOptions.self, "--failed", "--status=0x80") == "accepted")
  }
}
