import Testing

@testable import nvmepf

@Suite("Names of commands")
struct CommandNameTests {
  private func refusal(_ words: String...) -> String? {
    do { try Nvmepf.checkNames(words[...]) } catch { return "\(error)" }
    return nil
  }

  @Test("known commands, their subcommands, options and arguments pass")
  func passes() {
    #expect(refusal() == nil)
    #expect(refusal("dump", "trace.nvpt") == nil)
    #expect(refusal("ns", "list", "--socket", "s") == nil)
    #expect(refusal("help", "ns", "list") == nil)
    #expect(refusal("--version") == nil)
  }

  @Test("an unknown command is refused with the nearest one")
  func refuses() {
    #expect(refusal("dupm") == "no command dupm (did you mean dump?); nvmepf --help lists the commands")
    #expect(refusal("help", "reprot") == "no command reprot (did you mean report?); nvmepf --help lists the commands")
    #expect(refusal("ns", "lst") == "no command lst (did you mean list?); nvmepf ns --help lists the commands")
    #expect(refusal("fly") == "no command fly; nvmepf --help lists the commands")
  }

  @Test("hidden commands are not suggested")
  func hides() { #expect(refusal("bench-hots") == "no command bench-hots; nvmepf --help lists the commands") }
}
