import ArgumentParser
import Foundation
import Host
import Platform
import Probe
import Service
import Text

extension Workload.Pattern: ExpressibleByArgument {}
extension Workload.Misbehaviour: ExpressibleByArgument {}

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

      Ctrl-C ends the recording and keeps it.

      Exit status: the command's own; if that is 0: 3 nothing was recorded, 1 the
      recording failed; 2 nothing ran.
      """)

  @Option(
    name: [.short, .customLong("output")], help: ArgumentHelp("Write this trace", valueName: "file"), completion: .trace
  )
  var output = Nvmepf.defaultTrace

  @OptionGroup var log: LogOptions

  @OptionGroup var endpoint: EndpointOptions

  @OptionGroup var kernel: KernelOptions

  @Option(help: "Run the built-in workload with this pattern")
  var rw: Workload.Pattern?

  @Option(help: ArgumentHelp("Built-in workload: bytes per command", valueName: "bytes"))
  var bs = ByteCount(bytes: 4096)

  @Option(help: ArgumentHelp("Built-in workload: outstanding commands", valueName: "number"))
  var iodepth = 1

  @Option(help: ArgumentHelp("Built-in workload: threads with one queue pair each", valueName: "number"))
  var numjobs = 1

  @Option(help: ArgumentHelp("Built-in workload: duration (default: 5)", valueName: "seconds"))
  var runtime: Double?

  @Option(help: ArgumentHelp("Built-in workload: commands per thread, instead of --runtime", valueName: "commands"))
  var number: UInt64?

  @Flag(help: "Built-in workload: wait for interrupts, instead of polling")
  var interrupts = false

  @Flag(help: "Built-in workload: after --timeout abort commands, then reset the controller, instead of giving up")
  var recover = false

  @Option(
    help: "Built-in workload: misbehave on purpose after some commands, to try a debugger (docs/injection.md)")
  var misbehave: Workload.Misbehaviour?

  @Flag(
    help: """
      Also run a fio that cannot be redirected and so writes real files and devices, a fio whose output is a block \
      device, and a job that writes and names a device (on the endpoint)
      """)
  var allowRealDevices = false

  @Option(
    help: ArgumentHelp(
      "Give up when a command of the built-in workload or of fio takes longer than this",
      valueName: "seconds"))
  var timeout = 30.0

  @Argument(parsing: .postTerminator, help: "Command to run, after --", completion: .file())
  var command: [String] = []

  func validate() throws {
    let needsWorkload = !kernel.kernel || kernel.engine
    try require(
      command.isEmpty != (rw == nil) || (!needsWorkload && rw == nil),
      command.isEmpty
        ? "nothing to record: give a command after --, or --rw for the built-in workload"
        : "a command and --rw exclude each other")
    if kernel.kernel && !kernel.engine { try validateKernel() }
    try require(
      kernel.kernel || endpoint.config != nil || endpoint.subsystem == nil, "--subsystem needs --config, or --kernel")
    try require(runtime == nil || number == nil, "--runtime and --number exclude each other")
    try require(
      iodepth >= 1 && numjobs >= 1 && (runtime ?? 1) > 0 && (number ?? 1) > 0,
      "--iodepth, --numjobs and --number must be at least 1, --runtime more than 0")
    try require(
      rw != nil || (!interrupts && !recover && misbehave == nil), "--interrupts, --recover and --misbehave need --rw")
    try require(
      numjobs == 1 || (!recover && misbehave == nil), "--recover and --misbehave work with one job: leave out --numjobs"
    )
    try require(timeout > 0 && timeout <= 1_000_000, "--timeout must be more than 0 and at most 1,000,000 seconds")
  }

  /// Options of the endpoint and its workload have no meaning without one.
  private func validateKernel() throws {
    let given = [
      ("--flight-recorder", endpoint.flightRecorder != nil), ("--payload", endpoint.payload != .digest),
      ("--state-hash-every", endpoint.stateHashEvery != nil),
      ("--inject", endpoint.faults.isGiven), ("--rw", rw != nil), ("--number", number != nil),
      ("-v, -q or --log-level", log.isGiven),
    ]
    if let (name, _) = given.first(where: \.1) {
      throw ValidationError("\(name) needs an endpoint, which record --kernel has only with --engine")
    }
    if kernel.measureOverhead != nil, let why = recorded.timed {
      throw ValidationError(
        "--measure-overhead compares durations, and \(why): give fio a number of commands "
          + "(--number_ios or --size) instead")
    }
  }

  func run() throws {
    guard !kernel.kernel || kernel.engine else { return try recordKernel() }
    let recorded = recorded
    try recorded.check()
    let configuration = try endpoint.configuration()
    let jobs = rw.map(self.jobs(for:))
    // A recording that fails to start keeps the previous trace.
    try jobs?.check(configuration)
    let probes = try kernel.kernel ? Probes(kernel.probes) : nil
    OwnProcess.prepare()
    sweepLeftovers()
    let served = try ServedEndpoint(
      configuration, keeping: endpoint.keeping, output: .trace(output),
      command: command.isEmpty ? CommandLine.arguments : command, options: ownOptions, logLevel: log.level)
    try served.start()
    let (status, failure) = served.record { watch in
      if let probes { try served.record(probes, subsystem: endpoint.subsystem) }
      if let jobs { return jobs.run(on: served, watch) }
      return try recorded.start(served, keepsData: configuration.keepsData, timeout: timeout).wait(watch)
    }
    summarise(served)
    endpoint.faults.tellCounts(served)
    if !command.isEmpty, status == 0, failure == nil, served.commands == 0 {
      complain(
        "the endpoint received no commands: only a fio started by the command is redirected to it; other hosts connect "
          + "to the vfio-user socket in $NVMEPF_SOCKET")
    }
    if let failure { throw failure }
    try exit(status, isEmpty: served.commands == 0 && served.kernelEvents == 0)
  }

  private func exit(_ status: Int32, isEmpty: Bool) throws {
    if status != 0 { throw ExitCode(status) }
    if isEmpty { throw ExitCode(3) }
  }

  private func recordKernel() throws {
    let recorded = recorded
    try recorded.checkName()
    OwnProcess.prepare()
    sweepLeftovers()
    var notes: [(String, String)] = []
    if let pairs = kernel.measureOverhead {
      guard !command.isEmpty else { throw Failure(description: "--measure-overhead needs a command after --") }
      let overhead = try ProbeOverhead(of: recorded, pairs: pairs, kernel.probes, subsystem: endpoint.subsystem)
      tell("nvmepf: \(overhead)")
      notes = [("overhead", "\(overhead)")]
    }
    let recording = try KernelRecording(
      kernel.probes, subsystem: endpoint.subsystem, output: output,
      command: command.isEmpty ? CommandLine.arguments : command, options: ownOptions, notes: notes)
    let (status, failure) = recording.record { watch in
      if !command.isEmpty { return try Child(recorded.words).wait(watch) }
      tell("nvmepf: recording the kernel\(runtime == nil ? ", Ctrl-C ends it" : "")")
      OwnProcess.waitForEnd(within: runtime, watch)
      return 0
    }
    summarise(recording)
    if let failure { throw failure }
    try exit(status, isEmpty: recording.events == 0)
  }

  /// The command line without the command; empty without one.
  private var ownOptions: [String] {
    command.isEmpty ? [] : Array(CommandLine.arguments.dropLast(command.count + 1))
  }

  /// The command, as it was typed.
  private var recorded: RecordedCommand {
    let all = CommandLine.unsafeArgv
    let count = Int(CommandLine.argc)
    // As bytes: a file's name need not be text.
    let words = ((count - command.count)..<count).map {
      [UInt8](UnsafeRawBufferPointer(start: all[$0]!, count: strlen(all[$0]!)))
    }
    return RecordedCommand(words, allowsRealDevices: allowRealDevices)
  }

  private func jobs(for pattern: Workload.Pattern) -> Jobs {
    var workload = Workload(
      pattern: pattern, blockBytes: Int(clamping: bs.bytes), depth: iodepth,
      length: number.map { .commands($0) } ?? .seconds(runtime ?? 5))
    (workload.misbehaviour, workload.recovers) = (misbehave, recover)
    return Jobs(workload, count: numjobs, timeoutNs: UInt64(timeout * 1e9), usesInterrupts: interrupts)
  }

  private func summarise(_ recording: any Watched) {
    guard !recording.isDiscarded else { return tellOfDiscarded(output) }
    tell("nvmepf: recorded \(recording.progressLine(isEnd: true))")
    if endpoint.flightRecorder != nil,
      let bytes = try? FileManager.default.attributesOfItem(atPath: output)[.size] as? UInt64
    {
      tell("nvmepf: kept the newest \(Quantity.bytes(bytes)); nvmepf info shows them")
    }
    let file = output == Nvmepf.defaultTrace ? "" : " \(output)"
    tell("nvmepf: wrote \(output); now: nvmepf report\(file)")
  }
}

/// The recording at `path` ended without a command, and a previous trace exists.
func tellOfDiscarded(_ path: String) {
  tell("nvmepf: nothing was recorded; \(path) is unchanged")
}
