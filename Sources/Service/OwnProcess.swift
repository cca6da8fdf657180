import Glibc
import Host
import Platform

/// How this process takes signals. None ends a server or a recording before it is closed, but SIGKILL, SIGQUIT and what
/// stands for an error of the program itself.
public enum OwnProcess {
  /// Signals that ask for an orderly end. The kernel repeats SIGXCPU every second, up to the hard limit.
  static let endings = [SIGINT, SIGTERM, SIGHUP, SIGXCPU]

  /// Signals that the main thread, which alone looks at this, waits for instead of being interrupted by them.
  nonisolated(unsafe) private static var awaited = endings + [SIGCHLD]

  /// Signals that end a process which does not expect them. Beyond a file size limit a write fails instead (SIGXFSZ), as on
  /// a full disk; what is printed may go to one who has left (SIGPIPE).
  private static let harmless =
    [SIGXFSZ, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT]
    + (__libc_current_sigrtmin()...__libc_current_sigrtmax())

  /// What this process has set to be ignored, and a command that it runs must not inherit.
  nonisolated(unsafe) private(set) static var ignored: [Int32] = []

  /// Call it before any thread is made: threads inherit the mask.
  public static func prepare() {
    ignore(harmless)
    // Where it is ignored the kernel takes a command's exit status away.
    signal(SIGCHLD, SIG_DFL)
    // Who was started with nohup is to stay.
    var signals = set(awaited.filter { $0 != SIGHUP || !isIgnored(SIGHUP) })
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    // The soft limit is for programs that use select(2); a namespace on a file takes two descriptors.
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  /// For every command that writes a file: a file size limit is an error of the write, which names the file.
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
    /// Whether a process sent it to this one: what the terminal sends, every process in it gets.
    let isSent: Bool

    /// Whether it asks this process to end.
    public var isEnding: Bool { signal != SIGCHLD }

    /// Whether somebody who repeats it is impatient: a terminal that is closed sends two SIGHUP, the kernel many SIGXCPU.
    var isRepeatable: Bool { signal == SIGINT || signal == SIGTERM }
  }

  /// The next signal, nil when none came within the time.
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
    let end = seconds.map { Clock.monotonicNs() + UInt64($0 * 1e9) } ?? .max
    while Clock.monotonicNs() < end {
      if let arrival = nextArrival(withinMs: 100), arrival.isEnding { break }
      watch?.show()
    }
    endAtNextSignal()
  }

  /// Whether a signal that asks for the end has come and nobody has taken it yet: the main thread is busy starting.
  static func isEndPending() -> Bool {
    var pending = sigset_t()
    sigpending(&pending)
    return endings.contains { sigismember(&pending, $0) == 1 }
  }

  // MARK: The second signal

  /// The next Ctrl-C or SIGTERM ends the process at once, whatever it waits for. The rings of its trace stay, for
  /// `nvmepf repair` to close it.
  public static func endAtNextSignal() {
    guard firstNs == 0 else { return }
    firstNs = HostController.nowNs()
    // Who waited for them would take them from the handler.
    awaited.removeAll { $0 == SIGINT || $0 == SIGTERM }
    // A constant may be made at its first use, which must not be in the handler.
    _ = (endText, requestNs)
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { OwnProcess.endNow($0) }
    for number in [SIGINT, SIGTERM] { sigaction(number, &action, nil) }
    var signals = set([SIGINT, SIGTERM])
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  nonisolated(unsafe) private static var firstNs: UInt64 = 0
  private static let endText: StaticString = "nvmepf: ended by a second signal; nvmepf repair closes a trace\n"

  /// timeout(1) and others signal a process and then its group: that is one request.
  static let requestNs: UInt64 = 500_000_000

  /// In a signal handler: nothing here may allocate or lock, or wait for a reader that does not read.
  private static func endNow(_ number: Int32) {
    guard HostController.nowNs() - firstNs >= requestNs else { return }
    // Others share the flags: they get them back.
    let flags = fcntl(STDERR_FILENO, F_GETFL)
    _ = fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK)
    _ = write(STDERR_FILENO, endText.utf8Start, endText.utf8CodeUnitCount)
    _ = fcntl(STDERR_FILENO, F_SETFL, flags)
    _exit(128 + number)
  }
}
