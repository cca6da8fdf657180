import CPlatform
import Glibc

/// Watches every program that a recorded command and its descendants execute, and refuses a fio that would use real
/// files and devices (seccomp_unotify(2)). It is a separate process, the parent of the command and the ancestor of all
/// processes that the command leaves behind: so it may read their memory (Yama's ptrace_scope 1). It stays as long as
/// any of them, so none blocks when the recording has ended.
public struct ExecGuard {
  /// A hidden argument that starts nvmepf as the watcher.
  private static let name = "--exec-guard"

  /// Arguments that start `command` under a watcher.
  /// - Parameters:
  ///   - socket: where the watcher reports the command's status to the recording.
  ///   - isNeeded: do not run the command if it cannot be watched.
  public static func words(socket: Int32, folder: String, isNeeded: Bool, command: [[UInt8]]) -> [[UInt8]] {
    ["/proc/self/exe", name, "\(socket)", folder, isNeeded ? "needed" : "wanted"].map { Array($0.utf8) } + command
  }

  /// If this process was started as the watcher, run as the watcher and never return.
  public static func runIfAsked() {
    let words = CommandLine.unsafeArgv
    guard CommandLine.argc > 5, String(cString: words[1]!) == name, let socket = Int32(String(cString: words[2]!))
    else { return }
    let folder = String(cString: words[3]!)
    var pair: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
      FioSession.fail("cannot create a socket: \(String(cString: strerror(errno)))")
    }
    let pid = nvmepf_fork_below()
    guard pid >= 0 else { FioSession.fail("cannot start the command: \(String(cString: strerror(errno)))") }
    if pid == 0 {
      close(socket)
      run(pair[1], isNeeded: String(cString: words[4]!) == "needed", words + 5)
    }
    close(pair[1])
    watch(pid, CommandReport(socket: socket), pair[0], folder)
  }

  private static func run(
    _ socket: Int32, isNeeded: Bool, _ command: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  ) -> Never {
    var keepsPrivileges = true
    var listener = nvmepf_guard_install(&keepsPrivileges)
    if listener < 0 {
      let reason = String(cString: strerror(errno))
      guard !isNeeded else {
        FioSession.fail(
          "cannot watch the programs that the command runs (\(reason)), so a fio in it could write real devices: name fio "
            + "itself as the command, or add --allow-real-devices")
      }
      FioSession.say(
        "cannot watch the programs that the command runs (\(reason)): only the fio named in it is redirected")
    } else {
      var byte: UInt8 = keepsPrivileges ? 1 : 0
      guard nvmepf_send_with_fds(socket, &byte, 1, &listener, 1) == 1 else {
        FioSession.fail("the watcher of the command has ended")
      }
      close(listener)
    }
    close(socket)
    execvp(command[0]!, command)
    FioSession.fail("cannot run \(String(cString: command[0]!)): \(String(cString: strerror(errno)))")
  }

  private static func watch(_ command: pid_t, _ report: CommandReport, _ socket: Int32, _ folder: String) -> Never {
    // Terminal signals go to the command, and the watcher closes everything inherited: otherwise a pipe would not end,
    // or a file system not be unmounted, as long as a descendant lives. Standard error ends with the command.
    setsid()
    chdir("/")
    closeAll(but: [STDERR_FILENO, report.socket, socket])
    report.send(command)
    var (listener, keepsPrivileges) = receiveListener(socket)
    close(socket)
    var judge = ExecJudge(folder: folder, keepsPrivileges: keepsPrivileges)
    var request = nvmepf_exec()
    var hasEnded = false
    while true {
      if reap(command, report) { hasEnded = true }
      switch nvmepf_guard_receive(listener, &request) {
      case 1:
        let exec = WatchedExec(request)
        let reason = judge.refusal(exec)
        if let reason { hasEnded ? exec.tell(reason) : FioSession.say(reason) }
        nvmepf_guard_answer(listener, request.id, reason == nil ? 0 : EPERM)
      case 0:
        close(listener)
        listener = -1
      default: break
      }
    }
  }

  /// The descriptor that announces the command's executions, -1 if it is not watched, and whether setuid programs keep
  /// their privileges.
  private static func receiveListener(_ socket: Int32) -> (Int32, Bool) {
    var byte: UInt8 = 0
    var listener: Int32 = -1
    var count = 0
    var isCut = false
    let received = nvmepf_receive_with_fds(socket, &byte, 1, &listener, 1, &count, &isCut)
    return received == 1 && count == 1 ? (listener, byte == 1) : (-1, true)
  }

  /// Reap ended children; the last one ends this process.
  /// - Returns: whether the command was among them.
  private static func reap(_ command: pid_t, _ report: CommandReport) -> Bool {
    var hasEnded = false
    var status: Int32 = 0
    while true {
      let pid = waitpid(-1, &status, WNOHANG)
      if pid == command {
        report.send(status)
        close(report.socket)
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        dup2(null, STDERR_FILENO)
        close(null)
        hasEnded = true
      } else if pid <= 0 {
        if pid < 0, errno == ECHILD { exit(0) }
        return hasEnded
      }
    }
  }

  private static func closeAll(but kept: [Int32]) {
    var first: UInt32 = 0
    for descriptor in kept.map(UInt32.init).sorted() {
      if descriptor > first { nvmepf_close_range(first, descriptor - 1) }
      first = descriptor + 1
    }
    nvmepf_close_range(first, .max)
  }
}

/// The watcher's messages to the recording: the command's process identifier, and its status at the end.
public struct CommandReport: Sendable {
  public let socket: Int32

  public init(socket: Int32) { self.socket = socket }

  func send(_ value: Int32) {
    var value = value
    Glibc.send(socket, &value, MemoryLayout.size(ofValue: value), Int32(MSG_NOSIGNAL))
  }

  /// The result of reading the watcher's report.
  public enum Reading: Equatable, Sendable {
    case value(Int32)
    case nothingYet
    /// The watcher ended without a message.
    case lost
  }

  /// The next message.
  public func read(waits: Bool) -> Reading {
    var value: Int32 = 0
    let size = MemoryLayout.size(ofValue: value)
    let flags = Int32(waits ? MSG_WAITALL : MSG_DONTWAIT)
    while true {
      let count = recv(socket, &value, size, flags)
      if count == size { return .value(value) }
      if count < 0, errno == EINTR { continue }
      return count < 0 && errno == EAGAIN ? .nothingYet : .lost
    }
  }
}

/// What a watched process is about to execute, read from its memory.
struct WatchedExec {
  let pid: Int32
  /// The path that the process passed.
  let path: [UInt8]
  let arguments: [[UInt8]]
  /// Entries of its environment that affect loading, in order; nil if some could not be read.
  private let loading: [[UInt8]]?
  /// Whether the process's memory contained the path.
  let isReadable: Bool
  private let directory: Int32?

  /// Maximum entries read from a list.
  private static let (argumentsMax, entriesMax) = (256, 65_536)
  private static let loadingNames = ["LD_PRELOAD=", "LD_LIBRARY_PATH=", "PATH="].map { Array($0.utf8) }

  init(_ request: nvmepf_exec) {
    pid = request.pid
    let memory = Glibc.open("/proc/\(request.pid)/mem", O_RDONLY | O_CLOEXEC)
    defer { if memory >= 0 { close(memory) } }
    let values = [
      request.arguments.0, request.arguments.1, request.arguments.2, request.arguments.3,
    ]
    let first = request.is_at ? 1 : 0
    directory = request.is_at ? Int32(truncatingIfNeeded: values[0]) : nil
    let reader = MemoryReader(descriptor: memory, pointerBytes: request.is_32_bit ? 4 : 8)
    let read = reader.string(values[first], max: Int(PATH_MAX))
    isReadable = read != nil
    path = read ?? []
    arguments = (reader.list(values[first + 1], max: WatchedExec.argumentsMax).values)
      .map { reader.string($0, max: Int(PATH_MAX)) ?? [] }
    let entries = reader.list(values[first + 2], max: WatchedExec.entriesMax)
    loading =
      !entries.isWhole
      ? nil
      : entries.values.compactMap { address in
        let start = reader.string(address, max: 16) ?? []
        return WatchedExec.loadingNames.contains(where: start.starts) ? reader.string(address, max: 1 << 17) : nil
      }
  }

  /// All values that its environment sets for `name`. Nil if unknown.
  func values(of name: String) -> [[UInt8]]? {
    let lead = Array("\(name)=".utf8)
    return loading?.filter { $0.starts(with: lead) }.map { Array($0.dropFirst(lead.count)) }
  }

  /// Directories in which ld.so would look for a program whose name has no slash: from its environment and its options.
  var libraryFolders: [[UInt8]] {
    ((values(of: "LD_LIBRARY_PATH") ?? []) + arguments)
      .flatMap { $0.split(whereSeparator: { $0 == 0x3a || $0 == 0x3b }) }
      .filter { $0.contains(0x2f) }.map { Array($0) }
  }

  /// The first program of that name in its PATH.
  func inSearchPath(_ name: [UInt8]) -> [UInt8]? {
    for folder in (values(of: "PATH")?.last ?? []).split(separator: 0x3a) {
      let path = Array(folder) + [0x2f] + name
      let descriptor = open(path)
      if descriptor >= 0 {
        close(descriptor)
        return path
      }
    }
    return nil
  }

  /// Print a line on the process's own standard error.
  func tell(_ text: String) {
    let descriptor = nvmepf_standard_error_of(pid)
    guard descriptor >= 0 else { return }
    FioSession.say(text, on: descriptor)
    close(descriptor)
  }

  /// The file that it would execute; -1 with errno.
  func open() -> Int32 { open(path) }

  /// A path as this process sees it.
  func open(_ path: [UInt8]) -> Int32 {
    let own = Array("/proc/self/".utf8)
    var path = path
    if path.starts(with: own) { path = Array("/proc/\(pid)/".utf8) + path.dropFirst(own.count) }
    if path.first == 0x2f {
      if isSameRoot { return path.open() }
      let root = Glibc.open("/proc/\(pid)/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      defer { close(root) }
      return path.withCString { nvmepf_open_in_root(root, $0) }
    }
    let place = directory.map { $0 == AT_FDCWD ? "cwd" : "fd/\($0)" } ?? "cwd"
    return (Array("/proc/\(pid)/\(place)".utf8) + (path.isEmpty ? [] : [0x2f] + path)).open()
  }

  /// Whether a path leads to the same file for both processes: they have the same root directory and mounts.
  private var isSameRoot: Bool {
    FileIdentity.isSame("/", "/proc/\(pid)/root")
      && FileIdentity.isSame("/proc/self/ns/mnt", "/proc/\(pid)/ns/mnt")
  }
}

/// Reads another process's memory.
private struct MemoryReader {
  let descriptor: Int32
  let pointerBytes: Int

  /// Up to the zero, or `max` bytes.
  func string(_ address: UInt64, max: Int) -> [UInt8]? {
    var result: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 256)
    while result.count < max {
      // Not beyond the page: the next one may not exist.
      let place = address &+ UInt64(result.count)
      let count = pread(
        descriptor, &piece, min(min(256, max - result.count), Int(4096 - place % 4096)), Int(bitPattern: UInt(place)))
      guard count > 0 else { return nil }
      if let end = piece[..<count].firstIndex(of: 0) { return result + piece[..<end] }
      result += piece[..<count]
    }
    return result
  }

  /// Pointers up to the null, and whether these are all.
  func list(_ address: UInt64, max: Int) -> (values: [UInt64], isWhole: Bool) {
    var result: [UInt64] = []
    while address != 0, result.count < max {
      var pointer: UInt64 = 0
      let place = address &+ UInt64(result.count * pointerBytes)
      guard pread(descriptor, &pointer, pointerBytes, Int(bitPattern: UInt(place))) == pointerBytes else {
        return (result, false)
      }
      if pointer == 0 { return (result, true) }
      result.append(pointer)
    }
    return (result, address == 0)
  }
}
