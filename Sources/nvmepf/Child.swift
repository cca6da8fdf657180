import Glibc

/// What a process that serves is to others of its machine.
enum OwnProcess {
  /// Signals that the main thread waits for instead of being interrupted by them.
  static let awaited = [SIGINT, SIGTERM, SIGHUP, SIGCHLD]

  /// To be called before any thread is made: threads inherit the mask.
  static func prepare() {
    // Who was started with nohup is to stay.
    var hangup = sigaction()
    sigaction(SIGHUP, nil, &hangup)
    let ignoresHangup = unsafeBitCast(hangup.__sigaction_handler.sa_handler, to: Int.self) == 1
    var set = signals(awaited.filter { $0 != SIGHUP || !ignoresHangup })
    pthread_sigmask(SIG_BLOCK, &set, nil)
    // Whoever reads what is told here may leave before the host does.
    signal(SIGPIPE, SIG_IGN)
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    // The soft limit is for programs that use select(2); a namespace on a file takes two descriptors.
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}

private func signals(_ numbers: [Int32]) -> sigset_t {
  var set = sigset_t()
  sigemptyset(&set)
  for number in numbers { sigaddset(&set, number) }
  return set
}

/// A command that runs under the recording, and the signals that concern it.
struct Child {
  let pid: pid_t

  /// The next of the signals that the main thread waits for, nil when none came within the time.
  static func nextSignal(withinMs milliseconds: Int) -> Int32? { nextArrival(withinMs: milliseconds)?.signal }

  /// The same, and whether a process sent it to this one: what the terminal sends, all that run in it get.
  static func nextArrival(withinMs milliseconds: Int) -> (signal: Int32, isSent: Bool)? {
    var set = signals(OwnProcess.awaited)
    var limit = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    var info = siginfo_t()
    let signal = sigtimedwait(&set, &info, &limit)
    return signal > 0 ? (signal, info.si_code <= 0) : nil
  }

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
    var none = signals([])
    posix_spawnattr_setsigmask(&attributes, &none)
    // A script that runs this in the background has its Ctrl-C ignored; what is sent on is not.
    var ignored = signals([SIGPIPE, SIGINT])
    posix_spawnattr_setsigdefault(&attributes, &ignored)
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
