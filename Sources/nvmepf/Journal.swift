import ArgumentParser
import Glibc
import Live
import Logging
import Synchronization
import VFIOUser

/// What is told while an endpoint is served, line by line on standard error.
///
/// Whoever tells never waits for who reads: a thread of its own writes, and lines beyond a bound are counted and dropped.
final class Journal: Sendable {
  private let state = Mutex(State())
  private let written = Signal()

  private struct State {
    var lines: [String] = []
    var dropped = 0
  }

  private static let linesMax = 1000

  static let shared = Journal()

  private init() {
    _ = WorkerThread(name: "nvmepf-log") { [state = Unmanaged.passRetained(self)] in
      state.takeUnretainedValue().writeLines()
    }
  }

  func add(_ line: String) {
    state.withLock { state in
      if state.lines.count < Journal.linesMax { state.lines.append(line) } else { state.dropped += 1 }
    }
    written.raise()
  }

  private func writeLines() {
    while true {
      guard written.wait(milliseconds: 60_000) else { continue }
      flush()
    }
  }

  /// Write what was added so far.
  func flush() {
    let (lines, dropped) = state.withLock { state in
      defer { state = State() }
      return (state.lines, state.dropped)
    }
    for line in lines { complain(line) }
    if dropped > 0 { complain("\(dropped) lines of the log were dropped") }
  }

  /// A logger that writes here.
  static func logger(_ level: Logger.Level) -> Logger {
    var logger = Logger(label: "nvmepf") { _ in JournalHandler() }
    logger.logLevel = level
    return logger
  }
}

/// One line a message, with its level from warning on.
private struct JournalHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.notice

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    Journal.shared.add((event.level >= .warning ? "\(event.level): " : "") + "\(event.message)")
  }
}

/// How much is told.
struct LogOptions: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Log clients, resets and enabling too; -vv also queues.")
  var verbose: Int

  @Flag(name: .shortAndLong, help: "Log errors only.")
  var quiet = false

  @Option(
    help: ArgumentHelp(
      "Log from this level on: debug, info, notice, warning or error (default: notice).", valueName: "level"))
  var logLevel: Level?

  enum Level: String, CaseIterable, ExpressibleByArgument {
    case debug, info, notice, warning, error
  }

  var level: Logger.Level {
    if let logLevel { return Logger.Level(rawValue: logLevel.rawValue)! }
    return quiet ? .error : verbose == 0 ? .notice : verbose == 1 ? .info : .debug
  }
}

extension Logger {
  func tell(_ event: ServingEvent) {
    switch event {
    case .clientCame: info("client connected")
    case .negotiated(let minor): info("client speaks vfio-user 0.\(minor)")
    case .memoryNotShared(let address, let size):
      warning(
        """
        the client does not share its memory (\(size) bytes at 0x\(String(address, radix: 16))): the controller cannot \
        reach it; give QEMU -object memory-backend-memfd,id=ram,size=SIZE,share=on -machine memory-backend=ram
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
