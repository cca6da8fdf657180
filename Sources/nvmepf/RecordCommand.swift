import ArgumentParser
import Foundation
import Host
import Live
import Probe
import Target
import Trace

extension Workload.Pattern: ExpressibleByArgument {}

struct RecordCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "record",
    abstract: "Record everything that crosses the endpoint's PCI boundary while a workload runs.",
    discussion: """
      With a COMMAND, usually fio, the endpoint is served while the command runs; a fio command line needs no change:
      nvmepf supplies the I/O engine and thread mode, also where fio comes behind taskset, env or the like, but not
      where a script calls it. Other commands find the endpoint's vfio-user socket in
      NVMEPF_SOCKET. Without a COMMAND the built-in workload runs, as --rw says.

        nvmepf record -- fio --name=test --rw=randread --bs=4k --iodepth=1 --runtime=5 --time_based
        nvmepf record --rw randread --bs 4k --iodepth 32 --runtime 5

      With --kernel it is this machine's own kernel that is recorded, its NVMe target (nvmet) and its NVMe driver,
      while the COMMAND runs, or for --runtime seconds, or until Ctrl-C:

        nvmepf record --kernel -- fio --name=test --filename=/dev/nvme0n1 --rw=randread --bs=4k --runtime=5 --time_based

      Ctrl-C ends the recording; what was recorded is kept. The exit status is the command's own.
      """)

  @Option(name: [.short, .customLong("output")], help: "The trace to write.")
  var output = Nvmepf.defaultTrace

  @OptionGroup var endpoint: EndpointOptions

  @OptionGroup var kernel: KernelOptions

  @Option(help: "Built-in workload: what to do.")
  var rw: Workload.Pattern?

  @Option(help: ArgumentHelp("Built-in workload: bytes of a command.", valueName: "bytes"))
  var bs = ByteCount(bytes: 4096)

  @Option(help: ArgumentHelp("Built-in workload: commands outstanding.", valueName: "number"))
  var iodepth = 1

  @Option(help: ArgumentHelp("Built-in workload: threads, each with a queue pair.", valueName: "number"))
  var numjobs = 1

  @Option(help: ArgumentHelp("Built-in workload: how long it runs. (default: 5)", valueName: "seconds"))
  var runtime: Double?

  @Option(help: ArgumentHelp("Built-in workload: how many commands a thread executes.", valueName: "commands"))
  var number: UInt64?

  @Argument(parsing: .postTerminator, help: "The command to run, after --.")
  var command: [String] = []

  func validate() throws {
    let needsWorkload = !kernel.kernel || kernel.engine
    guard command.isEmpty != (rw == nil) || (!needsWorkload && rw == nil) else {
      throw ValidationError(
        command.isEmpty
          ? "nothing to record: give a command after --, or --rw for the built-in workload"
          : "a command and --rw exclude each other")
    }
    if kernel.kernel && !kernel.engine { try validateKernel() }
    guard kernel.kernel || endpoint.config != nil || endpoint.subsystem == nil else {
      throw ValidationError("--subsystem chooses from a --config, or from the target with --kernel")
    }
    guard runtime == nil || number == nil else { throw ValidationError("--runtime and --number exclude each other") }
    guard iodepth >= 1, numjobs >= 1, (runtime ?? 1) > 0, (number ?? 1) > 0 else {
      throw ValidationError("--iodepth, --numjobs and --number are at least 1, and --runtime is more than 0")
    }
  }

  /// What is the endpoint's and its workload's means nothing without it.
  private func validateKernel() throws {
    let given = [
      ("--flight-recorder", endpoint.flightRecorder != nil), ("--payload", endpoint.payload != .digest),
      ("--rw", rw != nil), ("--number", number != nil),
    ]
    if let (name, _) = given.first(where: \.1) {
      throw ValidationError("\(name) is for the endpoint, which record --kernel has only with --engine")
    }
    if kernel.measureOverhead != nil, let why = timed {
      throw ValidationError(
        "--measure-overhead compares how long the command takes, and \(why): give fio a number of commands "
          + "(--number_ios or --size) instead")
    }
  }

  /// Why the command takes the same time whatever it costs; nil where that is not known.
  private var timed: String? {
    guard let fio else { return nil }
    func isTimed(_ option: Substring) -> Bool {
      let parts = option.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
      return parts.first == "time_based" && !["0"].contains(parts.dropFirst().first)
    }
    for word in command[(fio + 1)...] {
      if word.hasPrefix("-") {
        if isTimed(word.drop { $0 == "-" }) { return "\(word) says how long" }
      } else if let text = try? String(contentsOfFile: word, encoding: .utf8),
        text.split(separator: "\n").contains(where: isTimed)
      {
        return "time_based in \(word) says how long"
      }
    }
    return nil
  }

  func run() throws {
    if let name = command.first { try Child.check(name) }
    if kernel.kernel && !kernel.engine { return try recordKernel() }
    let engine = try fio == nil ? nil : RecordCommand.fioEngine()
    let configuration = try endpoint.configuration()
    // What cannot be begun leaves the trace before as it is.
    if rw != nil { try checkWorkload(configuration) }
    let probes = try !kernel.kernel ? nil : Failure.wrap { () throws(ProbeError) in try Probes(kernel.probes) }
    OwnProcess.prepare()
    let session = try Session(
      configuration, keeping: endpoint.keeping, socketPath: nil, output: .trace(output),
      command: command.isEmpty ? CommandLine.arguments : command)
    try session.start()
    var status: Int32 = 0
    var failure: Failure?
    do throws(Failure) {
      if let probes { try session.record(probes, subsystem: endpoint.subsystem) }
      status = command.isEmpty ? try runWorkload(session) : try runCommand(session, engine)
    } catch { failure = error }
    Watch(session).end()
    do throws(Failure) { try session.finish() } catch { failure = failure ?? error }
    summarise(session.progressLine(isEnd: true))
    if !command.isEmpty, failure == nil, session.recorder?.progress.commands == 0 {
      complain(
        "no command has reached the endpoint: only a fio in the command line itself is given our engine, and others find "
          + "the socket in NVMEPF_SOCKET; what \(command[0]) did, it did elsewhere")
    }
    if let failure { throw failure }
    if status != 0 { throw ExitCode(status) }
  }

  /// The workload fits the endpoint, as far as that is known before there is one.
  private func checkWorkload(_ configuration: EndpointConfiguration) throws(Failure) {
    let subsystem = configuration.subsystem
    let (queues, entries) = (Int(subsystem.ioQueuesMax), Int(subsystem.queueEntriesMax))
    let block: UInt64 = 1 << UInt64(configuration.namespaces.first?.blockShift ?? 9)
    guard numjobs <= queues else {
      throw Failure(description: "--numjobs \(numjobs): a job needs a queue, and the endpoint has \(queues)")
    }
    guard iodepth < entries else {
      throw Failure(description: "--iodepth \(iodepth): a queue has room for \(entries - 1) commands")
    }
    guard bs.bytes > 0, bs.bytes % block == 0, bs.bytes <= subsystem.maxTransferBytes else {
      throw Failure(
        description:
          "--bs \(bs.bytes): a command moves a multiple of \(block) bytes, \(subsystem.maxTransferBytes) at most (--mdts)"
      )
    }
  }

  // MARK: The kernel

  private func recordKernel() throws {
    OwnProcess.prepare()
    var notes: [(String, String)] = []
    if let pairs = kernel.measureOverhead {
      let overhead = try measureOverhead(pairs)
      tell("nvmepf: \(overhead)")
      notes = [("overhead", overhead)]
    }
    let session = try KernelSession(
      kernel, subsystem: endpoint.subsystem, output: output, command: command.isEmpty ? CommandLine.arguments : command,
      notes: notes)
    var status: Int32 = 0
    var failure: Failure?
    let watch = Watch(session)
    do throws(Failure) {
      if command.isEmpty {
        let end = runtime.map { Clock.monotonicNs() + UInt64($0 * 1e9) }
        tell("nvmepf: recording the kernel\(runtime == nil ? ", Ctrl-C ends it" : "")")
        while end.map({ Clock.monotonicNs() < $0 }) ?? true {
          if let signal = Child.nextSignal(withinMs: 100), signal != SIGCHLD { break }
          watch.show()
        }
      } else {
        status = try run(Child(command, environment: [:]), watch)
      }
    } catch { failure = error }
    watch.end()
    do throws(Failure) { try session.finish() } catch { failure = failure ?? error }
    summarise(session.progressLine)
    if let failure { throw failure }
    if status != 0 { throw ExitCode(status) }
  }

  /// Run the command without and with probes, in turn.
  private func measureOverhead(_ pairs: Int) throws -> String {
    guard !command.isEmpty else { throw Failure(description: "--measure-overhead needs a command after --") }
    let path = "/dev/shm/nvmepf-overhead-\(getpid()).nvpt"
    defer { unlink(path) }
    func seconds(_ isRecorded: Bool) throws -> Double {
      let session =
        try isRecorded ? KernelSession(kernel, subsystem: endpoint.subsystem, output: path, command: command) : nil
      let begin = Clock.monotonicNs()
      let status: Int32
      do { status = try run(Child(command, environment: [:]), Watch("measuring what the probes cost")) } catch {
        try? session?.finish()
        throw error
      }
      let elapsed = Double(Clock.monotonicNs() - begin) / 1e9
      try session?.finish()
      guard status == 0 else { throw Failure(description: "\(command[0]) ended with status \(status)", status: status) }
      return elapsed
    }
    var costs: [Double] = []
    for _ in 0..<pairs {
      let off = try seconds(false)
      costs.append(try seconds(true) / off - 1)
    }
    let mean = costs.reduce(0, +) / Double(pairs)
    let deviation = (costs.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(pairs - 1)).squareRoot()
    let interval = 1.96 * deviation / Double(pairs).squareRoot()
    return String(
      format: "with probes the command takes %.1f %% longer (± %.1f, 95 %% of %d pairs)", 100 * mean, 100 * interval,
      pairs)
  }

  // MARK: A command

  /// Commands that run the one behind them.
  private static let launchers: Set = [
    "chrt", "env", "ionice", "nice", "nohup", "numactl", "perf", "prlimit", "setpriv", "setsid", "stdbuf", "strace",
    "sudo", "taskset", "time", "timeout",
  ]

  /// Which word of the command is fio: the first, or one behind taskset, env and the like.
  private var fio: Int? {
    func name(_ word: String) -> String { (word as NSString).lastPathComponent }
    guard let first = command.first, name(first) == "fio" || RecordCommand.launchers.contains(name(first)) else {
      return nil
    }
    return command.firstIndex { name($0) == "fio" }
  }

  /// - Parameter engine: the fio engine, where the command is fio.
  private func runCommand(_ session: Session, _ engine: String?) throws(Failure) -> Int32 {
    var arguments = command
    if let engine, let fio {
      var rewriting = FioArguments(enginePath: engine) { session.temporaryFile("job-\($0)") }
      arguments = try Array(command[..<fio]) + rewriting.rewrite(Array(command[fio...]))
      if let device = rewriting.device {
        tell("nvmepf: \(device) is not touched: fio works on the endpoint's namespace (--backend, --config)")
      }
    }
    return try run(Child(arguments, environment: session.environment), Watch(session))
  }

  /// Wait until the command has ended. Returns its exit status.
  private func run(_ child: Child, _ watch: Watch) throws(Failure) -> Int32 {
    while true {
      if let status = child.exitStatus() { return status }
      // The terminal tells the command of a Ctrl-C too: it ends by itself, and the recording after it.
      if let (signal, isSent) = Child.nextArrival(withinMs: 200), isSent, signal != SIGCHLD { kill(child.pid, signal) }
      watch.show()
    }
  }

  /// The engine that lies beside this executable.
  static func fioEngine() throws(Failure) -> String {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    let path = (own as NSString).deletingLastPathComponent + "/nvmepf-fio.so"
    guard FileManager.default.fileExists(atPath: path) else {
      throw Failure(description: "the fio engine \(path) is not built: make build")
    }
    return path
  }

  // MARK: The built-in workload

  private func runWorkload(_ session: Session) throws(Failure) -> Int32 {
    let workload = Workload(
      pattern: rw!, blockBytes: Int(clamping: bs.bytes), depth: iodepth,
      length: number.map { .commands($0) } ?? .seconds(runtime ?? 5))
    let jobs = Jobs(workload, count: numjobs)
    try jobs.start(session)
    let watch = Watch(session)
    while !jobs.areDone {
      if let signal = Child.nextSignal(withinMs: 100), signal != SIGCHLD { jobs.stop() }
      watch.show()
    }
    return try jobs.finish()
  }

  // MARK: The end

  private func summarise(_ line: String) {
    tell("nvmepf: recorded \(line)")
    if endpoint.flightRecorder != nil,
      let bytes = try? FileManager.default.attributesOfItem(atPath: output)[.size] as? UInt64
    {
      tell("nvmepf: of that the newest \(byteText(bytes)) are kept: nvmepf info says what they are")
    }
    let file = output == Nvmepf.defaultTrace ? "" : " \(output)"
    tell("nvmepf: wrote \(output); now: nvmepf report\(file)")
  }
}

/// What is being recorded, to whom looks on.
protocol Watched: AnyObject {
  var progressLine: String { get }
  /// Why nothing is recorded any more; told once.
  func takeTrouble() -> String?
}

/// Shows how a recording comes on, where somebody looks, and tells of its trouble at once.
struct Watch {
  private let watched: (any Watched)?
  private let text: String
  private let isTerminal = isatty(STDERR_FILENO) == 1

  init(_ watched: any Watched) { (self.watched, text) = (watched, "") }

  /// There is nothing to see but that something is done.
  init(_ text: String) { (watched, self.text) = (nil, text) }

  func show() {
    if let trouble = watched?.takeTrouble() {
      end()
      complain(trouble)
    }
    guard isTerminal else { return }
    tell("\r\u{1b}[K\(watched?.progressLine ?? text)", terminator: "")
  }

  func end() {
    if isTerminal { tell("\r\u{1b}[K", terminator: "") }
  }
}
