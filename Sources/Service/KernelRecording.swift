import Foundation
import Platform
import Probe
import Text
import Trace

/// A recording of this machine's kernel without an endpoint.
public final class KernelRecording: Watched {
  private let trace: RecordedTrace
  private let directory: RecordingDirectory
  let kernel: KernelRecorder
  private let begin = Clock.monotonicNs()
  public var isDiscarded: Bool { trace.isDiscarded }

  /// - Parameters:
  ///   - subsystem: NQN of the only one to record; nil for all.
  ///   - options: nvmepf's own command line, if `command` is another.
  ///   - notes: additional metadata of the trace.
  public convenience init(
    _ options: Probes.Options, subsystem: String?, output: String, command: [String], options words: [String] = [],
    notes: [(String, String)] = []
  ) throws {
    Journal.start()
    let probes = try Probes(options)
    try self.init(probes, subsystem: subsystem, output: output, command: command, options: words, notes: notes)
  }

  /// - Parameter probes: attached.
  init(
    _ probes: Probes, subsystem: String? = nil, output: String, command: [String], options words: [String] = [],
    notes: [(String, String)] = []
  ) throws {
    let id = TraceID.random()
    let directory = try RecordingDirectory(creating: id, tracePath: output, ringBytes: KernelRecorder.Budget().bytes)
    self.directory = directory
    if !directory.path.hasPrefix("/dev/shm/") {
      tell(
        "nvmepf: shared memory has no room for the recording's rings (\(Quantity.bytes(KernelRecorder.Budget().bytes))), which "
          + "lie in \(directory.path) instead: mount -o remount,size=1G /dev/shm if events are lost")
    }
    do {
      var writing = TraceWriter.Options()
      writing.clocks = { .now(.monotonic) }
      trace = try RecordedTrace(
        output, id: id, scale: .monotonicFromNow(), directory: directory, command: command, options: words,
        notes: notes + probes.metadata, options: writing)
      probes.countCosts()
      kernel = try KernelRecorder(
        probes, directory: directory.path, traceID: id, clock: .same, subsystem: subsystem)
    } catch {
      directory.remove()
      throw error
    }
  }

  public func finish() throws {
    kernel.stop()
    if let problem = kernel.problem { complain(problem) }
    try trace.finish(isWorthKeeping: kernel.events > 0)
  }

  /// Events in the recording so far.
  public var events: UInt64 { kernel.events }

  public func consumeTrouble() -> String? { trace.consumeTrouble() }

  /// A line for the terminal: events so far, or in total.
  public func progressLine(isEnd: Bool) -> String {
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    let progress = trace.progress
    return "\(Quantity.decimal(seconds, 0)) s, \(Quantity.count(kernel.events)) kernel events, "
      + Quantity.bytes(progress.bytes) + kernel.shortcomings
  }
}

extension KernelRecorder {
  /// The recording's losses, for the end of a line; empty if there are none.
  var shortcomings: String {
    var text = ""
    if lost > 0 {
      text += ", \(Quantity.count(lost)) LOST" + (lostToFullBuffers > 0 ? ": use a larger --kernel-buffer" : "")
    }
    if clockErrorNs > 1000 { text += ", clocks \(Quantity.count(clockErrorNs)) ns apart" }
    return text
  }
}

extension Probes {
  /// The trace's metadata about its probes.
  var metadata: [(String, String)] {
    func names(_ attachment: Attachment) -> String {
      points.filter { $0.attachment == attachment }.map(\.name).joined(separator: " ")
    }
    let missing = points.compactMap { point in
      if case .none(let why) = point.attachment { "\(point.name): \(why)" } else { nil }
    }
    return [
      ("probes fentry", names(.fentry)), ("probes kprobe", names(.kprobe)),
      ("probes tracepoint", names(.tracepoint)), ("probes missing", missing.joined(separator: "; ")),
    ]
  }
}
