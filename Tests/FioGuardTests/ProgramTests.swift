import Foundation
import Testing

@testable import FioGuard

@Suite struct ProgramTests {
  private static let fio = Array("/usr/bin/fio".utf8)

  private func file(_ bytes: [UInt8], mode: mode_t = 0o755) throws -> [UInt8] {
    let path = NSTemporaryDirectory() + "nvmepf-program-\(UUID())"
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    chmod(path, mode)
    return Array(path.utf8)
  }

  private func fioBytes() throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: "/usr/bin/fio"))) }

  @Test func fioIsKnownByItsContents() throws {
    let copy = try file(fioBytes())
    defer { unlink(copy.text) }
    #expect(Program(path: Self.fio) == .fio)
    #expect(Program(path: copy) == .fio)
  }

  @Test func otherProgramsAreNot() throws {
    let named = try file(Array("not a program: No job(s) defined".utf8))
    defer { unlink(named.text) }
    #expect(Program(path: named) == .other)
    #expect(Program(path: Array("/proc/self/exe".utf8)) == .other)
    #expect(Program(path: Array("/usr/bin".utf8)) == .other)
    #expect(Program(path: Array("/nowhere".utf8)) == .other)
  }

  @Test func scriptsNameTheirInterpreter() throws {
    for (line, interpreter) in [("#!/usr/bin/fio\n", "/usr/bin/fio"), ("#! \t/bin/sh -e\n", "/bin/sh"), ("#!", "")] {
      let script = try file(Array(line.utf8))
      defer { unlink(script.text) }
      #expect(Program(path: script) == .script(interpreter: Array(interpreter.utf8)))
    }
  }

  @Test func aFioThatIgnoresItsPreloadIsSealed() throws {
    var statically = try fioBytes()
    // Every program header loses its type PT_INTERP.
    let (start, size, count) = (64, 56, Int(statically[56]))
    for header in 0..<count where statically[start + header * size] == 3 { statically[start + header * size] = 0 }
    var foreign = try fioBytes()
    foreign[18] ^= 0x55
    for (bytes, mode, reason) in [
      (statically, 0o755 as mode_t, "it is statically linked"), (foreign, 0o755, "it is for another architecture"),
      (try fioBytes(), 0o4755, "it is setuid or has capabilities"),
    ] {
      let path = try file(bytes, mode: mode)
      defer { unlink(path.text) }
      #expect(Program(path: path) == .sealedFio(reason))
    }
  }

  @Test func truncatedProgramsAreJudged() throws {
    let whole = try fioBytes()
    for length in [0, 1, 4, 19, 63, 64, 120] {
      let path = try file(Array(whole[..<length]))
      defer { unlink(path.text) }
      #expect(Program(path: path) == .other)
    }
  }
}

@Suite struct CommandWordsTests {
  private func index(_ line: String) -> Int? {
    CommandWords.findFio(line.split(separator: " ").map { Array($0.utf8) }, searchPath: "/usr/bin:/bin")?.index
  }

  @Test func fioIsFoundBehindLaunchers() {
    #expect(index("fio --name=a") == 0)
    #expect(index("/usr/bin/fio --name=a") == 0)
    #expect(index("env A=1 nice fio --name=a") == 3)
    #expect(index("sudo -u root /usr/bin/fio job.fio") == 3)
    #expect(index("systemd-run --scope fio job.fio") == 2)
  }

  @Test func whatIsNoCommandIsLeftAlone() {
    #expect(index("ls -d fio") == nil)
    #expect(index("sh -c fio") == nil)
    #expect(index("nice dd if=fio of=/dev/null") == nil)
    #expect(CommandWords.findFio([], searchPath: "") == nil)
  }

  @Test func raisingPrivilegesIsSeen() {
    #expect(CommandWords.raisesPrivileges(["sudo", "ls"].map { Array($0.utf8) }))
    #expect(CommandWords.raisesPrivileges(["nice", "/usr/bin/sudo", "ls"].map { Array($0.utf8) }))
    #expect(!CommandWords.raisesPrivileges(["echo", "sudo"].map { Array($0.utf8) }))
  }
}

@Suite struct DelegatesTests {
  @Test func whoeverHandsWorkOnIsKnown() {
    #expect(Delegates.hasOthersRun("srun", ["srun", "hostname"]))
    #expect(Delegates.hasOthersRun("podman", ["podman", "run", "image"]))
    #expect(Delegates.hasOthersRun("ssh", ["ssh", "host", "sudo fio job.fio"]))
    #expect(!Delegates.hasOthersRun("ssh", ["ssh", "host", "uptime"]))
    #expect(!Delegates.hasOthersRun("nice", ["nice", "fio"]))
  }
}
