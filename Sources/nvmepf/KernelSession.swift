import ArgumentParser
import Events
import Foundation
import Platform
import Probe
import Trace

extension ProbeGroup: ExpressibleByArgument {}

/// What `record --kernel` is told.
struct KernelOptions: ParsableArguments {
  @Flag(help: "Record this kernel's NVMe target and host driver, as far as they are loaded.")
  var kernel = false

  @Flag(help: "With --kernel: serve and record the endpoint too, in the same trace.")
  var engine = false

  @Option(help: ArgumentHelp("With --kernel: record only this queue.", valueName: "number"))
  var qid: UInt16?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "With --kernel: record only these groups of probes (default: all but block).",
      valueName: "group"))
  var events: [ProbeGroup] = []

  @Option(help: ArgumentHelp("With --kernel: size of each CPU's ring buffer, a power of two.", valueName: "bytes"))
  var kernelBuffer: ByteCount?

  @Option(help: "With --kernel: attach by fentry, and by kprobe where fentry is not available, or by kprobe alone.")
  var attach = Attach.fentry

  enum Attach: String, CaseIterable, ExpressibleByArgument {
    case fentry, kprobe
  }

  @Option(
    help: ArgumentHelp(
      "With --kernel and a COMMAND: first run it this often without and with probes, in turn, and print what the probes cost.",
      valueName: "pairs"))
  var measureOverhead: Int?

  func validate() throws {
    guard measureOverhead.map({ kernel && $0 >= 2 }) ?? true else {
      throw ValidationError("--measure-overhead: 2 pairs at least, with --kernel")
    }
    guard !engine || measureOverhead == nil else {
      throw ValidationError(
        "--measure-overhead and --engine exclude each other: what the engine takes is no probe's cost")
    }
    guard kernel || (!engine && qid == nil && events.isEmpty && kernelBuffer == nil) else {
      throw ValidationError("--engine, --qid, --events and --kernel-buffer go with --kernel")
    }
    let page = UInt64(getpagesize())
    if let bytes = kernelBuffer?.bytes, bytes < page || bytes > 1 << 30 || bytes.nonzeroBitCount != 1 {
      throw ValidationError("--kernel-buffer is a power of two of \(page >> 10) KiB to 1 GiB")
    }
  }

  var probes: Probes.Options {
    var options = Probes.Options()
    options.groups = events.isEmpty ? Set(ProbeGroup.allCases).subtracting([.block]) : Set(events)
    options.qid = qid
    options.onlyKprobes = attach == .kprobe
    options.bufferBytes = kernelBuffer.map { Int($0.bytes) }
    return options
  }
}

/// A recording of this machine's kernel, without an endpoint of ours.
final class KernelSession: Watched {
  private let recorder: RecorderThread
  private let directory: RecordingDirectory
  private let kernel: KernelRecorder
  private let begin = Clock.monotonicNs()
  private var hasToldTrouble = false
  /// The recording holds no event, and the previous trace was kept instead.
  private(set) var isDiscarded = false

  /// - Parameters:
  ///   - subsystem: NQN of the only one that is recorded; nil for all.
  ///   - notes: for the trace, besides.
  init(
    _ options: KernelOptions, subsystem: String?, output: String, command: [String], notes: [(String, String)] = []
  ) throws(Failure) {
    Journal.start()
    let probes = try Failure.wrap { () throws(ProbeError) in try Probes(options.probes) }
    let id = TraceID.random()
    sweepLeftovers()
    let directory = try Failure.wrap { () throws(TraceError) in
      try RecordingDirectory(creating: id, tracePath: output, ringBytes: KernelRecorder.Budget().bytes)
    }
    self.directory = directory
    if !directory.path.hasPrefix("/dev/shm/") {
      tell(
        "nvmepf: shared memory has no room for the recording's rings (\(byteText(KernelRecorder.Budget().bytes))), which "
          + "lie in \(directory.path) instead: mount -o remount,size=1G /dev/shm if events are lost")
    }
    do throws(Failure) {
      var writing = TraceWriter.Options()
      writing.clocks = { .now(.monotonic) }
      writing.keepsPrevious = true
      let metadata =
        [("version", Nvmepf.configuration.version), ("command", command.joined(separator: " "))] + notes
        + probes.metadata
      recorder = try Failure.wrap { [writing] () throws(TraceError) in
        try RecorderThread(
          TraceWriter(
            path: output, id: id, scale: .monotonicFromNow(), metadata: metadata, directory: directory,
            options: writing))
      }
      probes.countCosts()
      kernel = try Failure.wrap { () throws(ProbeError) in
        try KernelRecorder(
          probes, directory: directory.path, traceID: id, clock: .same, subsystem: subsystem)
      }
    } catch {
      directory.remove()
      throw error
    }
  }

  /// End the recording and close the trace.
  func finish() throws(Failure) {
    kernel.stop()
    if let problem = kernel.problem { complain(problem) }
    let summary = recorder.stop(isWorthKeeping: kernel.events > 0)
    isDiscarded = summary.isDiscarded
    for problem in summary.problems { complain(problem.description) }
    if let error = summary.error { throw Failure(lines: hasToldTrouble ? [] : [error.description], status: 1) }
  }

  func takeTrouble() -> String? {
    guard !hasToldTrouble, let error = recorder.progress.error else { return nil }
    hasToldTrouble = true
    return error.description
  }

  var progressLine: String {
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    let progress = recorder.progress
    return String(
      format: "%.0f s, %@ kernel events, %@%@", seconds, grouped(kernel.events), byteText(progress.bytes),
      kernel.shortcomings)
  }
}

extension KernelRecorder {
  /// What a recording lacks, for the end of a line; empty where it lacks nothing.
  var shortcomings: String {
    var text = ""
    if lost > 0 { text += ", \(grouped(lost)) LOST" + (overrun > 0 ? ": a larger --kernel-buffer" : "") }
    if clockErrorNs > 1000 { text += ", clocks \(grouped(clockErrorNs)) ns apart" }
    return text
  }
}

extension Probes {
  /// What a trace says of the probes that made it.
  var metadata: [(String, String)] {
    func names(_ attachment: Attachment) -> String {
      points.filter { $0.attachment == attachment }.map(\.name).joined(separator: " ")
    }
    let missing = points.compactMap { point in
      if case .none(let why) = point.attachment { "\(point.name): \(why)" } else { nil }
    }
    return [
      ("kernel", kernelRelease()), ("probes fentry", names(.fentry)), ("probes kprobe", names(.kprobe)),
      ("probes tracepoint", names(.tracepoint)), ("probes missing", missing.joined(separator: "; ")),
    ]
  }
}

/// As `uname -r` has it.
func kernelRelease() -> String {
  var name = utsname()
  uname(&name)
  return withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
