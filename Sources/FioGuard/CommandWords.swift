import Glibc

/// Finds fio in a command line.
public enum CommandWords {
  /// Commands that run another command given as arguments.
  private static let launchers: Set<String> = [
    "bwrap", "cgexec", "choom", "chrt", "dbus-run-session", "doas", "env", "faketime", "firejail", "flock", "i386",
    "ionice", "linux32", "linux64", "ltrace", "nice", "nohup", "nsenter", "numactl", "parallel", "perf", "pkexec",
    "prlimit", "rr", "runuser", "setarch", "setpriv", "setsid", "stdbuf", "strace", "sudo", "systemd-run", "taskset",
    "time", "timeout", "trace-cmd", "unbuffer", "unshare", "valgrind", "x86_64", "xargs",
  ]

  /// Commands that raise privileges, which an ordinary user's guard prevents.
  private static let raising: Set<String> = ["doas", "pkexec", "su", "sudo"]

  /// The word that is fio, and the path of its file.
  public static func findFio(_ words: [[UInt8]], searchPath: String) -> (index: Int, path: [UInt8], program: Program)? {
    guard let first = words.first else { return nil }
    let count = launchers.contains(first.baseName.text) ? words.count : 1
    for index in 0..<count {
      for path in candidates(words[index], searchPath, isCommand: index == 0) {
        let program = Program(path: path)
        if program.isFio { return (index, path, program) }
      }
    }
    return nil
  }

  /// After a launcher, a word is a command if it is named fio or is a path; `nice dd if=fio` does not run fio.
  private static func candidates(_ word: [UInt8], _ searchPath: String, isCommand: Bool) -> [[UInt8]] {
    if word.contains(0x2f) { return [word] }
    guard isCommand || word.text == "fio" else { return [] }
    return searchPath.split(separator: ":").map { Array("\($0)/".utf8) + word }
  }

  /// Whether any of the commands is sudo or the like.
  public static func raisesPrivileges(_ words: [[UInt8]]) -> Bool {
    guard let first = words.first?.baseName.text else { return false }
    return raising.contains(first)
      || (launchers.contains(first) && words.contains { raising.contains($0.baseName.text) })
  }
}
