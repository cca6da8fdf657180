import Glibc
import Host
import Platform

/// Signal handling of this process. Only SIGKILL, SIGQUIT and the program's own faults end a server or a recording
/// before it is closed.
public enum OwnProcess {
  /// Signals that request an orderly end. The kernel repeats SIGXCPU every second, up to the hard limit.
  static let endings = [SIGINT, SIGTERM, SIGHUP, SIGXCPU]

  /// Signals that the main thread waits for synchronously; only the main thread uses this.
  nonisolated(unsafe) private static var awaited = endings + [SIGCHLD]

  /// Signals that would end the process. Without SIGXFSZ a write beyond a file size limit fails, as on a full disk;
  /// without SIGPIPE a write to a closed pipe fails.
  private static let harmless =
    [SIGXFSZ, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT]
    + (__libc_current_sigrtmin()...__libc_current_sigrtmax())

  /// Signals that this process ignores, and that a command must not inherit as ignored.
  nonisolated(unsafe) private(set) static var ignored: [Int32] = []

  /// Call it before any thread starts: threads inherit the mask.
  public static func prepare() {
    ignore(harmless)
    // If it is ignored the kernel discards a command's exit status.
    signal(SIGCHLD, SIG_DFL)
    // A process started with nohup must stay.
    var signals = set(awaited.filter { $0 != SIGHUP || !isIgnored(SIGHUP) })
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    // The soft limit is for programs that use select(2); a namespace on a file needs two descriptors.
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  /// For every command that writes a file: exceeding a file size limit is an error of the write, which names the file.
  public static func ignoreFileSizeLimit() { ignore([SIGXFSZ]) }

  private static func ignore(_ signals: [Int32]) {
    for number in signals where !isIgnored(number) {
      signal(number, SIG_IGN)
      ignored.append(number)
    }
  }

  private static func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    sigaction(number, nil, &action)
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
  }

  static func set(_ numbers: [Int32]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    return set
  }

  // MARK: Waiting

  /// One of the signals that the main thread waits for.
  public struct Arrival {
    let signal: Int32
    /// Whether a process sent it to this one: a terminal signals all its processes.
    let isSent: Bool

    /// Whether it requests the end of this process.
    public var isEnding: Bool { signal != SIGCHLD }

    /// Whether repeating it means impatience: closing a terminal sends two SIGHUP, the kernel many SIGXCPU.
    var isRepeatable: Bool { signal == SIGINT || signal == SIGTERM }
  }

  /// The next signal; nil after the time limit.
  public static func nextArrival(withinMs milliseconds: Int) -> Arrival? {
    var signals = set(awaited)
    var limit = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    var info = siginfo_t()
    let signal = sigtimedwait(&signals, &info, &limit)
    return signal > 0 ? Arrival(signal: signal, isSent: info.si_code <= 0) : nil
  }

  /// Wait for a signal that asks for the end; a second one ends the process.
  /// - Parameter seconds: the longest wait; nil for ever.
  public static func waitForEnd(within seconds: Double?, _ watch: Watch?) {
    _ = wait(seconds, watch)
    endAtNextSignal()
  }

  /// Wait so long, or for a signal that asks for the end; a second one then ends the process.
  static func wait(seconds: Double, _ watch: Watch) {
    if wait(seconds, watch) { endAtNextSignal() }
  }

  /// - Returns: whether a signal asked for the end.
  private static func wait(_ seconds: Double?, _ watch: Watch?) -> Bool {
    let end = seconds.map { Clock.monotonicNs() + UInt64($0 * 1e9) } ?? .max
    while Clock.monotonicNs() < end {
      if let arrival = nextArrival(withinMs: 100), arrival.isEnding { return true }
      watch?.show()
    }
    return false
  }

  /// Whether a signal that requests the end is pending, while the main thread is still starting up.
  static func isEndPending() -> Bool {
    var pending = sigset_t()
    sigpending(&pending)
    return endings.contains { sigismember(&pending, $0) == 1 }
  }

  // MARK: The second signal

  /// Let the next Ctrl-C or SIGTERM end the process immediately, whatever it waits for. The rings of its trace stay, so
  /// that `nvmepf repair` can close it.
  public static func endAtNextSignal() {
    guard firstNs == 0 else { return }
    firstNs = HostController.nowNs()
    // A thread that waits for them would consume them before the handler.
    awaited.removeAll { $0 == SIGINT || $0 == SIGTERM }
    // A constant may be initialised at its first use, which must not be in the handler.
    _ = (endText, requestNs)
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { OwnProcess.endNow($0) }
    for number in [SIGINT, SIGTERM] { sigaction(number, &action, nil) }
    var signals = set([SIGINT, SIGTERM])
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  /// Whether a signal has asked for the end; for the main thread.
  public static var isEnding: Bool { firstNs != 0 }

  nonisolated(unsafe) private static var firstNs: UInt64 = 0
  private static let endText: StaticString = "nvmepf: ended by a second signal; nvmepf repair closes a trace\n"

  /// timeout(1) and others signal a process and then its group, which counts as one request.
  static let requestNs: UInt64 = 500_000_000

  /// In a signal handler: do not allocate, lock, or block on an unread pipe.
  private static func endNow(_ number: Int32) {
    guard HostController.nowNs() - firstNs >= requestNs else { return }
    // Other processes share the flags: restore them.
    let flags = fcntl(STDERR_FILENO, F_GETFL)
    _ = fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK)
    _ = write(STDERR_FILENO, endText.utf8Start, endText.utf8CodeUnitCount)
    _ = fcntl(STDERR_FILENO, F_SETFL, flags)
    _exit(128 + number)
  }
}
