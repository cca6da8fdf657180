import ArgumentParser
import Device
import Events
import Foundation
import Host
import Platform
import Probe
import Target
import Trace

extension Workload.Pattern: ExpressibleByArgument {}

struct RecordCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "record",
    abstract: "Record everything that crosses the endpoint's PCI boundary while a workload runs.",
    discussion: """
      With a COMMAND, serve the endpoint while the command runs. Every fio that it
      runs works on the endpoint's namespace, whatever engine and files its jobs
      name; a fio that cannot be redirected does not run. Other hosts find the
      vfio-user socket in NVMEPF_SOCKET. QEMU as the COMMAND gets the endpoint as a
      device. Without a COMMAND, the built-in workload runs.

      The previous trace is kept as FILE.old once the first command is recorded.

        nvmepf record -- fio --name=a --rw=randread --bs=4k --number_ios=100000
        nvmepf record --rw randread --bs 4k --iodepth 32 --runtime 5
        nvmepf record --backend memory -- fio job.fio
        nvmepf record -- qemu-system-x86_64 -m 2G -machine memory-backend=ram \\
          -object memory-backend-memfd,id=ram,size=2G,share=on disk.img

      With --kernel, record this machine's kernel, its NVMe target (nvmet) and its
      NVMe driver, while the COMMAND runs, or for --runtime seconds, or until
      Ctrl-C. A fio then works on the files and devices that it names:

        nvmepf record --kernel -- fio --name=a --filename=/dev/nvme0n1 --rw=randread

      Ctrl-C ends the recording and keeps it. The exit status is the command's own.
      """)

  @Option(name: [.short, .customLong("output")], help: ArgumentHelp("Write this trace.", valueName: "file"))
  var output = Nvmepf.defaultTrace

  @OptionGroup var log: LogOptions

  @OptionGroup var endpoint: EndpointOptions

  @OptionGroup var kernel: KernelOptions

  @Option(help: "Run the built-in workload with this pattern.")
  var rw: Workload.Pattern?

  @Option(help: ArgumentHelp("Built-in workload: bytes per command.", valueName: "bytes"))
  var bs = ByteCount(bytes: 4096)

  @Option(help: ArgumentHelp("Built-in workload: commands outstanding.", valueName: "number"))
  var iodepth = 1

  @Option(help: ArgumentHelp("Built-in workload: threads, each with a queue pair.", valueName: "number"))
  var numjobs = 1

  @Option(help: ArgumentHelp("Built-in workload: how long it runs. (default: 5)", valueName: "seconds"))
  var runtime: Double?

  @Option(help: ArgumentHelp("Built-in workload: commands per thread, instead of --runtime.", valueName: "commands"))
  var number: UInt64?

  @Flag(
    help: """
      Run what is refused otherwise: a fio that cannot be redirected to the endpoint and so writes real files and \
      devices, one whose output is a block device, and a job that writes and names a device (it runs on the endpoint).
      """)
  var allowRealDevices = false

  @Option(
    help: ArgumentHelp(
      "Give up when a command of the built-in workload or of fio is not completed for this long.",
      valueName: "seconds"))
  var timeout = 30.0

  @Argument(parsing: .postTerminator, help: "Command to run, after --.")
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
      throw ValidationError("--subsystem needs --config, or --kernel")
    }
    guard runtime == nil || number == nil else { throw ValidationError("--runtime and --number exclude each other") }
    guard iodepth >= 1, numjobs >= 1, (runtime ?? 1) > 0, (number ?? 1) > 0 else {
      throw ValidationError("--iodepth, --numjobs and --number must be at least 1, --runtime more than 0")
    }
    guard timeout > 0, timeout <= 1_000_000 else {
      throw ValidationError("--timeout must be more than 0 and at most 1000000 seconds")
    }
  }

  /// What is the endpoint's and its workload's means nothing without it.
  private func validateKernel() throws {
    let given = [
      ("--flight-recorder", endpoint.flightRecorder != nil), ("--payload", endpoint.payload != .digest),
      ("--rw", rw != nil), ("--number", number != nil), ("-v, -q or --log-level", log.isGiven),
    ]
    if let (name, _) = given.first(where: \.1) {
      throw ValidationError("\(name) is for the endpoint, which record --kernel has only with --engine")
    }
    if kernel.measureOverhead != nil, let why = recorded.timed {
      throw ValidationError(
        "--measure-overhead compares how long the command takes, and \(why): give fio a number of commands "
          + "(--number_ios or --size) instead")
    }
  }

  func run() throws {
    let recorded = recorded
    if kernel.kernel && !kernel.engine {
      if let name = command.first { try Child.check(name) }
      return try recordKernel()
    }
    try recorded.check()
    let configuration = try endpoint.configuration()
    // A recording that fails to start keeps the previous trace.
    if rw != nil { try checkWorkload(configuration) }
    let probes = try !kernel.kernel ? nil : Failure.wrap { () throws(ProbeError) in try Probes(kernel.probes) }
    OwnProcess.prepare()
    let session = try Session(
      configuration, keeping: endpoint.keeping, socketPath: nil, output: .trace(output),
      command: command.isEmpty ? CommandLine.arguments : command, logLevel: log.level)
    try session.start()
    var status: Int32 = 0
    var failure: Failure?
    do throws(Failure) {
      if let probes { try session.record(probes, subsystem: endpoint.subsystem) }
      status =
        command.isEmpty
        ? try runWorkload(session)
        : try run(recorded.start(session, keepsData: configuration.keepsData, timeout: timeout), Watch(session))
    } catch { failure = error }
    Watch(session).end()
    do throws(Failure) { try session.finish() } catch {
      failure = failure ?? error
    }
    summarise(session.progressLine(isEnd: true), isDiscarded: session.isDiscarded)
    if !command.isEmpty, status == 0, failure == nil, session.recorder?.progress.commands == 0 {
      complain(
        "the endpoint received no commands: fio is redirected to it, other hosts connect to the vfio-user socket in "
          + "NVMEPF_SOCKET")
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
          if let arrival = OwnProcess.nextArrival(withinMs: 100), arrival.isEnding { break }
          watch.show()
        }
        OwnProcess.endAtNextSignal()
      } else {
        status = try run(Child(recorded.words), watch)
      }
    } catch { failure = error }
    watch.end()
    do throws(Failure) { try session.finish() } catch {
      failure = failure ?? error
    }
    summarise(session.progressLine, isDiscarded: session.isDiscarded)
    if let failure { throw failure }
    if status != 0 { throw ExitCode(status) }
  }

  /// Run the command without and with probes, in turn.
  private func measureOverhead(_ pairs: Int) throws -> String {
    guard !command.isEmpty else { throw Failure(description: "--measure-overhead needs a command after --") }
    let folder = try RecordingDirectory.scratch()
    defer { folder.remove() }
    let path = folder.file("overhead.nvpt")
    func seconds(_ isRecorded: Bool) throws -> Double {
      let session =
        try isRecorded ? KernelSession(kernel, subsystem: endpoint.subsystem, output: path, command: command) : nil
      let begin = Clock.monotonicNs()
      let status: Int32
      do { status = try run(Child(recorded.words), Watch("measuring what the probes cost")) } catch {
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

  /// The command, as it was typed.
  private var recorded: RecordedCommand {
    RecordedCommand(lastWords: command.count, allowsRealDevices: allowRealDevices)
  }

  /// Wait until the command has ended. A second signal kills it, a third ends this process.
  /// - Returns: its exit status.
  private func run(_ child: Child, _ watch: Watch) throws(Failure) -> Int32 {
    var firstNs: UInt64?
    while true {
      if let status = try child.exitStatus() { return status }
      if let arrival = OwnProcess.nextArrival(withinMs: 200), arrival.isEnding {
        if let firstNs, arrival.isRepeatable, Clock.monotonicNs() - firstNs >= OwnProcess.requestNs {
          kill(child.pid, SIGKILL)
          OwnProcess.endAtNextSignal()
        } else {
          // The terminal sends its Ctrl-C to the command too: it ends by itself, and the recording after it.
          if arrival.isSent { kill(child.pid, arrival.signal) }
          firstNs = firstNs ?? Clock.monotonicNs()
        }
      }
      watch.show()
    }
  }

  // MARK: The built-in workload

  private func runWorkload(_ session: Session) throws(Failure) -> Int32 {
    let workload = Workload(
      pattern: rw!, blockBytes: Int(clamping: bs.bytes), depth: iodepth,
      length: number.map { .commands($0) } ?? .seconds(runtime ?? 5))
    let jobs = Jobs(workload, count: numjobs, timeoutNs: UInt64(timeout * 1e9))
    jobs.start(session)
    let watch = Watch(session)
    while !jobs.areDone {
      if let arrival = OwnProcess.nextArrival(withinMs: 100), arrival.isEnding {
        jobs.stop()
        OwnProcess.endAtNextSignal()
      }
      watch.show()
    }
    if let failures = jobs.failures { complain(failures) }
    return jobs.status
  }

  // MARK: The end

  private func summarise(_ line: String, isDiscarded: Bool) {
    guard !isDiscarded else { return tellOfDiscarded(output) }
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

/// The recording at `path` ended without a command, and a previous trace is there.
func tellOfDiscarded(_ path: String) {
  tell("nvmepf: nothing was recorded; \(path) stays as it was")
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
    showProgress(watched?.progressLine ?? text)
  }

  func end() {
    if isTerminal { showProgress("") }
  }
}
