import Device
import Glibc
import Logging
import Platform
import Synchronization
import Text
import Trace
import VFIOUser

/// Everything that this process writes to standard error, in order.
///
/// Its own thread writes it, so an unread terminal or pipe blocks neither the engine nor the end of the process. Lines
/// beyond a limit are counted and discarded.
public final class Journal: Sendable {
  private let state = Mutex(State())
  private let added = Signal()

  private struct Text {
    let bytes: [UInt8]
    /// Raised when the text is written; nil if nobody waits.
    let written: Signal?
  }

  private struct State {
    var texts: [Text] = []
    var dropped = 0
    /// When the writing of the current text began; 0 while there is none.
    var busySinceNs: UInt64 = 0
  }

  private static let textsMax = 1000
  /// Time limit for a text that is waited for, and for the text before it.
  private static let writeLimitNs: UInt64 = 1_000_000_000
  private static let lookMs = 50

  public static let shared = Journal()

  private init() {
    // The main thread handles signals, even if it has not blocked them yet.
    var (all, before) = (sigset_t(), sigset_t())
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    do throws(SystemError) {
      _ = try WorkerThread(name: "nvmepf-log") { [journal = Unmanaged.passRetained(self)] in
        journal.takeUnretainedValue().writeTexts()
      }
    } catch {
      let line = Array("nvmepf: cannot start a thread: \(error)\n".utf8)
      _ = Glibc.write(STDERR_FILENO, line, line.count)
      exit(2)
    }
    pthread_sigmask(SIG_SETMASK, &before, nil)
  }

  /// Start the thread now, since a later failure would end a recording.
  static func start() { _ = shared }

  /// Add a text without waiting.
  func add(_ text: String) { add(text, nil) }

  /// Wait like `write` until everything so far is written.
  public func flush() { write("") }

  /// Add a text and wait until it is written, within a time limit.
  func write(_ text: String) {
    let written = Signal()
    add(text, written)
    let end = Clock.monotonicNs() + Journal.writeLimitNs
    while !written.wait(milliseconds: Journal.lookMs) {
      let now = Clock.monotonicNs()
      let busySinceNs = state.withLock(\.busySinceNs)
      if now >= end || busySinceNs != 0 && now >= busySinceNs + Journal.writeLimitNs { return }
    }
  }

  private func add(_ text: String, _ written: Signal?) {
    state.withLock { state in
      if state.texts.count < Journal.textsMax {
        state.texts.append(Text(bytes: Array(text.utf8), written: written))
      } else {
        state.dropped += 1
      }
    }
    added.raise()
  }

  private func writeTexts() -> Never {
    while true {
      guard added.wait(milliseconds: 60_000) else { continue }
      let (texts, dropped) = state.withLock { state in
        defer { (state.texts, state.dropped) = ([], 0) }
        return (state.texts, state.dropped)
      }
      for text in texts { put(text) }
      if dropped > 0 { put(Text(bytes: Array("\(dropped) lines were lost".faultLine.utf8), written: nil)) }
    }
  }

  private func put(_ text: Text) {
    state.withLock { $0.busySinceNs = Clock.monotonicNs() }
    Journal.writeFully(text.bytes)
    state.withLock { $0.busySinceNs = 0 }
    text.written?.raise()
  }

  private static func writeFully(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN {
        // A process that shares the terminal or pipe has made it nonblocking.
        var polled = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        poll(&polled, 1, -1)
      } else if errno != EINTR {
        return
      }
    }
  }

  /// A logger that writes here.
  static func logger(_ level: Logger.Level) -> Logger {
    start()
    var logger = Logger(label: "nvmepf") { _ in JournalHandler() }
    logger.logLevel = level
    return logger
  }
}

/// Print one line about a fault on standard error. The text may be untrusted.
public func complain(_ text: String) { Journal.shared.write(text.faultLine) }

/// Print to standard error, apart from output that a script reads. Control characters are escaped.
public func tell(_ text: String) { Journal.shared.write(text.printableLines + "\n") }

/// Replace the terminal's last line; "" clears it.
public func showProgress(_ text: String) { Journal.shared.add("\r\u{1b}[K" + text.printable()) }

extension String {
  /// This text as a line about a fault.
  public var faultLine: String { "nvmepf: \(printable())\n" }
}

/// One line per message, with its level from warning on.
private struct JournalHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.notice

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    Journal.shared.add(((event.level >= .warning ? "\(event.level): " : "") + "\(event.message)").faultLine)
  }
}

extension Logger {
  func tell(_ event: ServingEvent) {
    switch event {
    case .clientCame: info("client connected")
    case .negotiated(let minor): info("client uses vfio-user 0.\(minor)")
    case .memoryNotShared(let address, let size):
      warning(
        """
        the client does not share its memory (\(size) bytes at \(address.hex)): the controller cannot \
        reach it; give QEMU -object memory-backend-memfd,id=ram,size=SIZE,share=on -machine memory-backend=ram
        """)
    case .memoryRefused(let address, let size):
      warning(
        """
        the client's memory (\(size) bytes at \(address.hex)) is refused: its file system may never \
        answer (FUSE, NFS); give the client a memfd, or a file on tmpfs, hugetlbfs or a local disk
        """)
    case .clientLeft: info("client disconnected")
    }
  }

  func tell(_ event: EndpointEvent) {
    switch event {
    case .enabled: info("controller enabled")
    case .disabled: info("controller reset")
    case .fatal(let reason): error("controller stopped (CSTS.CFS): \(reason)")
    case .queues(let count): debug("submission queues: \(count)")
    case .prefaulting(let nsid, let done, let total):
      notice("namespace \(nsid): preparing memory, \(done >> 20) of \(total >> 20) MiB")
    case .namespaceAttached(let nsid, let backend): notice("namespace \(nsid) attached: \(backend)")
    case .namespaceDetached(let nsid): notice("namespace \(nsid) detached")
    case .link(let isUp): notice("link \(isUp ? "up" : "down")")
    }
  }
}
