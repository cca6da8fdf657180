import FioGuard
import Glibc
import Platform

/// A command that runs under the recording.
public struct Child {
  private let pid: pid_t
  /// Where the watcher, the command's parent, reports its status; nil if this process is the parent.
  private let report: CommandReport?

  /// Check that the command exists, before anything is started for it.
  /// - Parameter searchPath: `PATH`.
  static func check(_ name: String, searchPath: String) throws {
    let folders = name.contains("/") ? [""] : searchPath.split(separator: ":").map { "\($0)/" }
    guard !folders.contains(where: { access($0 + name, X_OK) == 0 }) else { return }
    let remedy = name == "fio" ? "apt-get install fio" : "check its spelling and PATH"
    throw Failure(description: "cannot run \(name): no such command; \(remedy)")
  }

  /// - Parameters:
  ///   - command: the words, as bytes.
  ///   - environment: added to this process's own.
  ///   - descriptor: inherited by the command.
  public init(
    _ command: [[UInt8]], environment: [String: String] = [:], inheriting descriptor: Int32? = nil
  ) throws {
    for (key, value) in environment { setenv(key, value, 1) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Duplicating it onto itself clears close-on-exec.
    if let descriptor { posix_spawn_file_actions_adddup2(&actions, descriptor, descriptor) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = OwnProcess.set([])
    posix_spawnattr_setsigmask(&attributes, &none)
    // A script that runs this in the background ignores Ctrl-C; a signal passed on must not be ignored.
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
    report = nil
  }

  /// Start a command under a watcher.
  /// - Parameter folder: the recording's directory.
  init(
    watched command: [[UInt8]], isNeeded: Bool, folder: String, environment: [String: String]
  ) throws {
    var pair: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
      throw Failure(description: "cannot create a socket: \(String(cString: strerror(errno)))")
    }
    defer { close(pair[1]) }
    let words = ExecGuard.words(socket: pair[1], folder: folder, isNeeded: isNeeded, command: command)
    _ = try Child(words, environment: environment, inheriting: pair[1])
    close(pair[1])
    pair[1] = -1
    let report = CommandReport(socket: pair[0])
    guard case .value(let pid) = report.read(waits: true) else {
      throw Failure(description: "the watcher of the command has ended")
    }
    (self.pid, self.report) = (pid, report)
  }

  /// - Returns: the exit status as in a shell; nil while it runs.
  private func exitStatus() throws -> Int32? {
    var status: Int32 = 0
    switch report?.read(waits: false) {
    case nil: guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
    case .value(let value): status = value
    case .nothingYet: return nil
    case .lost: throw Failure(description: "the watcher of the command was killed", status: 1)
    }
    return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
  }
  /// Wait until it has ended. A second signal kills it, a third ends this process.
  /// - Returns: its exit status.
  public func wait(_ watch: Watch) throws -> Int32 {
    var firstNs: UInt64?
    while true {
      if let status = try exitStatus() { return status }
      if let arrival = OwnProcess.nextArrival(withinMs: 200), arrival.isEnding {
        if let firstNs, arrival.isRepeatable, Clock.monotonicNs() - firstNs >= OwnProcess.requestNs {
          kill(pid, SIGKILL)
          OwnProcess.endAtNextSignal()
        } else {
          // The terminal sends Ctrl-C to the command too: the command ends by itself, then the recording.
          if arrival.isSent { kill(pid, arrival.signal) }
          firstNs = firstNs ?? Clock.monotonicNs()
        }
      }
      watch.show()
    }
  }
}
