import Glibc

/// Decides what a watched process may execute.
struct ExecJudge {
  let folder: String
  let keepsPrivileges: Bool
  private var known: [FileIdentity: Program] = [:]

  init(folder: String, keepsPrivileges: Bool) {
    (self.folder, self.keepsPrivileges) = (folder, keepsPrivileges)
  }

  /// Size of the cache of files.
  private static let knownMax = 4096
  /// Depth of scripts interpreted by scripts, as in the kernel.
  private static let scriptsMax = 5

  /// Programs that load another one without an exec of its own.
  private static let loaders = ["ld-linux", "ld-musl", "ld.so", "valgrind", "qemu-"]
  private static let remedy = "(--allow-real-devices lets it run)"

  /// Why it may not run, in one line; nil if it may.
  mutating func refusal(_ exec: WatchedExec) -> String? {
    guard exec.isReadable else {
      // The system call itself fails if the process has no such memory either.
      return "a program was not run: nvmepf may not inspect it (kernel.yama.ptrace_scope?), and it may be fio; "
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
        return "\(exec.path.text) was not run: its recording has ended"
      }
      if let reason = foreignerRefusal(exec) { return reason }
      if isPreloaded(exec) { return nil }
      return "\(exec.path.text) was not run: it is fio, and would use real files and devices; name it first in "
        + "record's command, or call it as plain fio \(ExecJudge.remedy)"
    case .other, .script:
      guard FioSession.exists(folder) else { return nil }
      if exec.path.starts(with: Array("\(folder)/fio".utf8)), let reason = foreignerRefusal(exec) { return reason }
      return launcherRefusal(exec, descriptor)
    }
  }

  /// Whether the engine is loaded before any other library. The C library uses the last LD_PRELOAD of an environment, a
  /// shell the first: all must begin with the engine, and the path must lead the process to the engine.
  private func isPreloaded(_ exec: WatchedExec) -> Bool {
    guard let lists = exec.values(of: "LD_PRELOAD"), !lists.isEmpty else { return false }
    let engine = Array(FioSession.engine(folder).utf8)
    guard lists.allSatisfy({ $0.split(whereSeparator: { $0 == 0x3a || $0 == 0x20 }).first.map(Array.init) == engine })
    else { return false }
    let descriptor = exec.open(engine)
    defer { close(descriptor) }
    return descriptor >= 0 && FileIdentity(descriptor) == FileIdentity(path: engine.text)
  }

  /// A recording's directory is accessible to its owner and root.
  private func foreignerRefusal(_ exec: WatchedExec) -> String? {
    guard let owner = FileIdentity(path: folder)?.owner, let user = FileIdentity(path: "/proc/\(exec.pid)")?.owner,
      user != 0, user != owner
    else { return nil }
    return "\(exec.path.text) was not run: it is fio, started as user \(user), who may not enter the recording of user "
      + "\(owner): start nvmepf itself as user \(user) \(ExecJudge.remedy)"
  }

  /// Someone who may execute a file may not be allowed to read it; then its name decides.
  private func unreadable(_ exec: WatchedExec, _ error: Int32) -> String? {
    guard error != ENOENT, error != ENOTDIR, exec.path.isEmpty || exec.path.baseName.text == "fio" else { return nil }
    return "\(exec.path.text) was not run: nvmepf cannot read it, and it may be fio \(ExecJudge.remedy)"
  }

  private mutating func judge(_ descriptor: Int32) -> Program {
    guard let identity = FileIdentity(descriptor) else { return .other }
    if let program = known[identity] { return program }
    let program = Program(descriptor)
    if known.count >= ExecJudge.knownMax { known = [:] }
    known[identity] = program
    return program
  }

  /// The file that the kernel executes in the end: the file itself, or the interpreter of a script.
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
    if ExecJudge.loaders.contains(where: name.hasPrefix), !name.hasPrefix("qemu-system"), !namesOurs,
      let word = loadedFio(exec)
    {
      return
        "\(name) was not run: it would load \(word), which would use real files and devices \(ExecJudge.remedy)"
    }
    if !namesOurs, Delegates.hasOthersRun(name, exec.arguments.map(\.text)) {
      return
        "\(name) was not run: this recording does not watch what it starts, and a fio in it would use real files "
        + "and devices \(ExecJudge.remedy)"
    }
    noteLostPrivileges(exec, descriptor)
    return nil
  }

  /// The argument that is a fio for a loader. valgrind searches PATH, ld.so its library path, others the working
  /// directory; only the loader knows which argument it is.
  private mutating func loadedFio(_ exec: WatchedExec) -> String? {
    let folders = [[]] + exec.libraryFolders
    for word in exec.arguments.dropFirst() where !word.isEmpty && word.first != 0x2d {
      let places = word.contains(0x2f) ? [word] : folders.map { $0.isEmpty ? word : $0 + [0x2f] + word }
      if places.contains(where: { leadsToFio(exec, $0) }) { return word.text }
      if !word.contains(0x2f), let found = exec.inSearchPath(word), leadsToFio(exec, found) { return word.text }
    }
    return nil
  }

  private mutating func leadsToFio(_ exec: WatchedExec, _ path: [UInt8]) -> Bool {
    let file = exec.open(path)
    guard file >= 0 else { return false }
    defer { close(file) }
    return judge(file).isFio
  }

  /// sudo and similar commands start, and find that they lack privileges.
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
