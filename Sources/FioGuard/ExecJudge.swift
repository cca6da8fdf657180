import Glibc

/// Decides what a watched process may run.
struct ExecJudge {
  let folder: String
  let keepsPrivileges: Bool
  private var known: [FileIdentity: Program] = [:]

  init(folder: String, keepsPrivileges: Bool) {
    (self.folder, self.keepsPrivileges) = (folder, keepsPrivileges)
  }

  private struct FileIdentity: Hashable {
    let device: UInt64
    let inode: UInt64
    let size: Int64
    let changed: Int
    let changedNs: Int

    init(_ status: stat) {
      (device, inode, size) = (UInt64(status.st_dev), UInt64(status.st_ino), Int64(status.st_size))
      (changed, changedNs) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
    }
  }

  /// Files that are remembered.
  private static let knownMax = 4096
  /// Scripts whose interpreter is a script, as the kernel follows them.
  private static let scriptsMax = 5

  /// Programs that load another one without an exec of its own.
  private static let loaders = ["ld-linux", "ld-musl", "ld.so", "valgrind", "qemu-"]
  /// Programs that have others run by a process that is not watched.
  private static let delegating: Set<String> = [
    "at", "batch", "docker", "lxc-attach", "lxc-execute", "machinectl", "nerdctl", "podman", "screen", "systemd-run",
    "tmux",
  ]
  /// The same, but only where their arguments name fio.
  private static let remote: Set<String> = ["busctl", "crontab", "kubectl", "ssh", "systemctl"]

  private static let remedy = "(--allow-real-devices lets it run)"

  /// Why it may not be run, in one line; nil where it may.
  mutating func refusal(_ exec: WatchedExec) -> String? {
    guard exec.isReadable else {
      // The system call fails by itself where the process has no such memory either.
      return "a program was not run: nvmepf may not see which one (kernel.yama.ptrace_scope?), and it may be fio; "
        + "record as root, or name fio itself in record's command \(ExecJudge.remedy)"
    }
    let descriptor = exec.open()
    guard descriptor >= 0 else { return unreadable(exec, errno) }
    defer { close(descriptor) }
    switch effective(exec, descriptor) {
    case .sealedFio(let reason):
      return "\(exec.path.text) was not run: its I/O cannot be redirected, since \(reason) \(ExecJudge.remedy)"
    case .fio:
      guard FioSession.exists(folder) else {
        return "\(exec.path.text) was not run: the recording under which it was started has ended"
      }
      if isPreloaded(exec) { return nil }
      return "\(exec.path.text) was not run: it is fio, and would work on real files and devices; name it first in "
        + "record's command, or call it as plain fio \(ExecJudge.remedy)"
    case .other, .script: return FioSession.exists(folder) ? launcherRefusal(exec, descriptor) : nil
    }
  }

  /// Whether the engine will be loaded before it.
  private func isPreloaded(_ exec: WatchedExec) -> Bool {
    guard let preload = exec.preload else { return false }
    let wanted = Array(FioSession.preload(folder).utf8)
    return preload.starts(with: wanted) && (preload.count == wanted.count || preload[wanted.count] == 0x3a)
  }

  /// Who may run a file may not be allowed to read it; then its name decides.
  private func unreadable(_ exec: WatchedExec, _ error: Int32) -> String? {
    guard error != ENOENT, error != ENOTDIR, exec.path.isEmpty || exec.path.baseName.text == "fio" else { return nil }
    return "\(exec.path.text) was not run: nvmepf cannot read it, and it may be fio \(ExecJudge.remedy)"
  }

  private mutating func judge(_ descriptor: Int32) -> Program {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return .other }
    let identity = FileIdentity(status)
    if let program = known[identity] { return program }
    let program = Program(descriptor)
    if known.count >= ExecJudge.knownMax { known = [:] }
    known[identity] = program
    return program
  }

  /// What the kernel runs in the end: the file, or the interpreter of a script.
  private mutating func effective(_ exec: WatchedExec, _ descriptor: Int32) -> Program {
    var program = judge(descriptor)
    for _ in 0..<ExecJudge.scriptsMax {
      guard case .script(let interpreter) = program else { break }
      let next = exec.open(interpreter)
      guard next >= 0 else { return .other }
      program = judge(next)
      close(next)
    }
    return program
  }

  private mutating func launcherRefusal(_ exec: WatchedExec, _ descriptor: Int32) -> String? {
    let name = exec.path.baseName.text
    let own = Array(folder.utf8)
    let namesOurs = exec.arguments.contains { $0.starts(with: own) }
    if ExecJudge.loaders.contains(where: name.hasPrefix), !name.hasPrefix("qemu-system"), !namesOurs {
      for word in exec.arguments.dropFirst() where word.contains(0x2f) || word.text == "fio" {
        let file = exec.open(word)
        guard file >= 0 else { continue }
        defer { close(file) }
        if judge(file).isFio {
          return "\(name) was not run: it would load \(word.text), which would work on real files and devices "
            + ExecJudge.remedy
        }
      }
    }
    let isDelegating =
      ExecJudge.delegating.contains(name)
      || (ExecJudge.remote.contains(name) && exec.arguments.contains { $0.text.contains("fio") })
    if isDelegating, !namesOurs {
      return
        "\(name) was not run: what it starts is not under this recording, and a fio in it would work on real files "
        + "and devices \(ExecJudge.remedy)"
    }
    noteLostPrivileges(exec, descriptor)
    return nil
  }

  /// sudo and the like start, and find that they may not do what they are for.
  private func noteLostPrivileges(_ exec: WatchedExec, _ descriptor: Int32) {
    var status = stat()
    guard !keepsPrivileges, fstat(descriptor, &status) == 0, status.st_mode & S_ISUID != 0,
      status.st_uid != geteuid()
    else { return }
    FioSession.say(
      "\(exec.path.text) runs without its privileges under a recording that is not root's: record as root, or add "
        + "--allow-real-devices")
  }
}
