import Glibc

/// A command that runs under the recording.
struct Child {
  let pid: pid_t

  /// Whether there is such a command, before anything is begun for it.
  static func check(_ name: String) throws(Failure) {
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let folders = name.contains("/") ? [""] : path.split(separator: ":").map { "\($0)/" }
    guard !folders.contains(where: { access($0 + name, X_OK) == 0 }) else { return }
    let remedy = name == "fio" ? "apt-get install fio" : "name one that can be run"
    throw Failure(description: "cannot run \(name), there is no such command: \(remedy)")
  }

  /// - Parameters:
  ///   - command: the words, as bytes.
  ///   - environment: added to this process's own.
  ///   - descriptor: one that the command inherits.
  init(
    _ command: [[UInt8]], environment: [String: String] = [:], inheriting descriptor: Int32? = nil
  ) throws(Failure) {
    for (key, value) in environment { setenv(key, value, 1) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Onto itself: that clears its close-on-exec.
    if let descriptor { posix_spawn_file_actions_adddup2(&actions, descriptor, descriptor) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = OwnProcess.set([])
    posix_spawnattr_setsigmask(&attributes, &none)
    // A script that runs this in the background has its Ctrl-C ignored; a signal passed on must not be.
    var own = OwnProcess.set(OwnProcess.ignored + [SIGINT])
    posix_spawnattr_setsigdefault(&attributes, &own)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { word in
      strdup(word.map { CChar(bitPattern: $0) } + [0])
    }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var pid = pid_t()
    let error = posix_spawnp(&pid, arguments[0]!, &actions, &attributes, arguments, environ)
    guard error == 0 else {
      throw Failure(
        description: "cannot run \(String(cString: arguments[0]!)): \(String(cString: strerror(error)))")
    }
    self.pid = pid
  }

  /// - Returns: the exit status as a shell has it; nil while it runs.
  func exitStatus() -> Int32? {
    var status: Int32 = 0
    guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
    return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
  }
}
