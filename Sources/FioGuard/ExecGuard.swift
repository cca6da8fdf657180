import CPlatform
import Glibc

/// Watches every program that a recorded command and its descendants run, and refuses a fio that would work on real files
/// and devices (seccomp_unotify(2)). It is a process of its own: it stays as long as any of them, so none is left waiting
/// when the recording has ended.
public struct ExecGuard {
  /// Hidden words by which nvmepf is started as one of the two processes.
  private static let watcher = "--exec-watcher"
  private static let watched = "--exec-watched"

  /// Words that start the watcher; the socket is its end of a pair.
  public static func watcherWords(socket: Int32, folder: String) -> [[UInt8]] {
    words([watcher, "\(socket)", folder])
  }

  /// Words that run `command` watched.
  /// - Parameter isNeeded: the command does not run where it cannot be watched.
  public static func watchedWords(socket: Int32, isNeeded: Bool, command: [[UInt8]]) -> [[UInt8]] {
    words([watched, "\(socket)", isNeeded ? "needed" : "wanted"]) + command
  }

  private static func words(_ rest: [String]) -> [[UInt8]] {
    (["/proc/self/exe"] + rest).map { Array($0.utf8) }
  }

  /// Where this process was started as one of the two: be it. Returns otherwise.
  public static func runIfAsked() {
    guard CommandLine.argc >= 4, let word = CommandLine.unsafeArgv[1] else { return }
    let (kind, socket) = (String(cString: word), Int32(String(cString: CommandLine.unsafeArgv[2]!)) ?? -1)
    let third = String(cString: CommandLine.unsafeArgv[3]!)
    if kind == watcher { watch(socket, third) }
    if kind == watched, CommandLine.argc > 4 { run(socket, isNeeded: third == "needed") }
  }

  private static func run(_ socket: Int32, isNeeded: Bool) -> Never {
    var keepsPrivileges = true
    var listener = nvmepf_guard_install(&keepsPrivileges)
    if listener < 0 {
      let reason = String(cString: strerror(errno))
      guard !isNeeded else {
        FioSession.fail(
          "cannot watch which programs the command runs (\(reason)), so a fio in it could write real devices: name fio "
            + "itself as the command, or add --allow-real-devices")
      }
      FioSession.say("cannot watch which programs the command runs (\(reason)): only the fio named in it is redirected")
    } else {
      var byte: UInt8 = keepsPrivileges ? 1 : 0
      guard nvmepf_send_with_fds(socket, &byte, 1, &listener, 1) == 1 else {
        FioSession.fail("the watcher of the command's programs has ended")
      }
      close(listener)
    }
    close(socket)
    let command = CommandLine.unsafeArgv + 4
    execvp(command[0]!, command)
    FioSession.fail("cannot run \(String(cString: command[0]!)): \(String(cString: strerror(errno)))")
  }

  private static func watch(_ socket: Int32, _ folder: String) -> Never {
    // The terminal's signals are for the command; nobody waits for what this process does not write.
    setsid()
    close(STDIN_FILENO)
    close(STDOUT_FILENO)
    var byte: UInt8 = 0
    var listener: Int32 = -1
    var count = 0
    var isCut = false
    let received = nvmepf_receive_with_fds(socket, &byte, 1, &listener, 1, &count, &isCut)
    close(socket)
    guard received == 1, count == 1 else { exit(0) }
    var judge = ExecJudge(folder: folder, keepsPrivileges: byte == 1)
    var request = nvmepf_exec()
    while nvmepf_guard_receive(listener, &request) == 1 {
      let reason = judge.refusal(WatchedExec(request))
      if let reason { FioSession.say(reason) }
      nvmepf_guard_answer(listener, request.id, reason == nil ? 0 : EPERM)
    }
    exit(0)
  }
}

/// What a watched process is about to run, as its memory says.
struct WatchedExec {
  let pid: Int32
  /// As the process names it.
  let path: [UInt8]
  let arguments: [[UInt8]]
  /// The first entry of its environment that is LD_PRELOAD, whole.
  let preload: [UInt8]?
  /// Whether the process's memory said what it runs.
  let isReadable: Bool
  private let directory: Int32?

  /// Entries of a list that are read.
  private static let wordsMax = 8192

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
    arguments = reader.list(values[first + 1], max: 256).map { reader.string($0, max: Int(PATH_MAX)) ?? [] }
    let name = Array("LD_PRELOAD=".utf8)
    preload =
      reader.list(values[first + 2], max: WatchedExec.wordsMax).lazy
      .compactMap { reader.string($0, max: name.count) == name ? reader.string($0, max: Int(PATH_MAX)) : nil }.first
  }

  /// The file that it would run; -1 with errno.
  func open() -> Int32 { open(path) }

  /// A path as this process sees it.
  func open(_ path: [UInt8]) -> Int32 {
    let own = Array("/proc/self/".utf8)
    var path = path
    if path.starts(with: own) { path = Array("/proc/\(pid)/".utf8) + path.dropFirst(own.count) }
    if path.first == 0x2f {
      if isSameRoot { return openHere(path) }
      let root = Glibc.open("/proc/\(pid)/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      defer { close(root) }
      return path.withCString { nvmepf_open_in_root(root, $0) }
    }
    let place = directory.map { $0 == AT_FDCWD ? "cwd" : "fd/\($0)" } ?? "cwd"
    return openHere(Array("/proc/\(pid)/\(place)".utf8) + (path.isEmpty ? [] : [0x2f] + path))
  }

  private func openHere(_ path: [UInt8]) -> Int32 {
    path.withCString { Glibc.open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) }
  }

  private var isSameRoot: Bool {
    var (own, other) = (stat(), stat())
    guard stat("/", &own) == 0, stat("/proc/\(pid)/root", &other) == 0 else { return true }
    return own.st_ino == other.st_ino && own.st_dev == other.st_dev
  }
}

extension [UInt8] {
  fileprivate func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    (self + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
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
      // Not beyond the page: the next may not be there.
      let place = address &+ UInt64(result.count)
      let count = pread(
        descriptor, &piece, min(min(256, max - result.count), Int(4096 - place % 4096)), Int(bitPattern: UInt(place)))
      guard count > 0 else { return nil }
      if let end = piece[..<count].firstIndex(of: 0) { return result + piece[..<end] }
      result += piece[..<count]
    }
    return result
  }

  /// Pointers up to the null.
  func list(_ address: UInt64, max: Int) -> [UInt64] {
    var result: [UInt64] = []
    while address != 0, result.count < max {
      var pointer: UInt64 = 0
      let place = address &+ UInt64(result.count * pointerBytes)
      guard pread(descriptor, &pointer, pointerBytes, Int(bitPattern: UInt(place))) == pointerBytes, pointer != 0 else {
        break
      }
      result.append(pointer)
    }
    return result
  }
}
