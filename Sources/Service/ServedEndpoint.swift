import Backends
import Control
import Device
import Foundation
import Host
import Logging
import Platform
import Probe
import Text
import Trace
import VFIOUser

/// An endpoint that is served on a socket, and recorded where that is asked for: everything that the tool, its benchmarks and
/// the tests share.
public final class ServedEndpoint: Watched {
  /// Destination of the endpoint's events.
  public enum Output {
    case none
    case trace(String)
    /// Recorded and discarded, to measure the cost on the engine's thread alone.
    case discarded
  }

  /// What a recording keeps.
  public struct Keeping {
    /// Keep only the newest part of the recording, about this many bytes; nil for all of it.
    let bytes: UInt64?
    /// Keep data completely, not only as digests.
    let payload: Bool
    /// Slots of events between two hashes of the engine's state; nil: by the size of the state.
    let stateHashEvery: UInt64?

    public init(bytes: UInt64? = nil, payload: Bool = false, stateHashEvery: UInt64? = nil) {
      (self.bytes, self.payload, self.stateHashEvery) = (bytes, payload, stateHashEvery)
    }
  }

  public let socketPath: String
  private let logger: Logger
  private let trace: RecordedTrace?
  private var discarder: WorkerThread?
  private let id: TraceID
  /// Nil if nothing is recorded and the socket is elsewhere.
  private let directory: RecordingDirectory?
  public let function: EndpointFunction
  private let server: Server
  private var serving: WorkerThread?
  private var control: ControlServer?
  private let begin = Clock.monotonicNs()
  private var kernelRecorder: KernelRecorder?
  private var ticksPerSecond: UInt64 = 0
  public var isDiscarded: Bool { trace?.isDiscarded ?? false }

  /// Slots of the engine's ring: 8 MiB.
  private static let ringSlots: UInt64 = 1 << 18
  /// The engine's ring, and some of hosts.
  private static let ringBytes: UInt64 = 64 << 20

  /// - Parameters:
  ///   - socketPath: nil for a private one.
  ///   - command: what is recorded, for the trace.
  ///   - options: nvmepf's own command line, if `command` is another.
  public init(
    _ configuration: EndpointConfiguration, keeping: Keeping = Keeping(), socketPath: String? = nil,
    output: Output = .none, command: [String] = [], options words: [String] = [],
    logLevel: Logger.Level = .notice
  ) throws {
    let logger = Journal.logger(logLevel)
    self.logger = logger
    let id = TraceID.random()
    self.id = id
    let tracePath: String? = if case .trace(let path) = output { path } else { nil }
    let isNeeded = if case .none = output { socketPath == nil } else { true }
    let directory =
      try isNeeded
      ? RecordingDirectory(creating: id, tracePath: tracePath, ringBytes: ServedEndpoint.ringBytes) : nil
    self.directory = directory
    let path = socketPath ?? directory!.file("socket")
    self.socketPath = path
    do {
      server = try Server(path: path) { logger.tell($0) }
      if case .none = output {
        trace = nil
        function = try EndpointFunction(configuration, isInterrupted: OwnProcess.isEndPending) { logger.tell($0) }
        tellOfDeniedWrites(configuration)
        return
      }
      let scale = TickScale.measure()
      ticksPerSecond = scale.ticksPerSecond
      let ring = try Ring(
        creating: directory!.file("engine-0.ring"), capacity: ServedEndpoint.ringSlots, source: .engine, stream: 0,
        traceID: id)
      var recording = EndpointRecording(ring: ring, ticksPerSecond: scale.ticksPerSecond)
      recording.whenFull = keeping.bytes == nil ? .wait : .drop
      recording.keepsPayload = keeping.payload
      recording.stateHashEvery = keeping.stateHashEvery
      // First, so that an endpoint that cannot be served keeps the previous trace.
      function = try EndpointFunction(configuration, recording: recording, isInterrupted: OwnProcess.isEndPending) {
        logger.tell($0)
      }
      if case .trace(let path) = output {
        var writing = TraceWriter.Options()
        writing.keepBytes = keeping.bytes
        let notes =
          [("subsystem", configuration.subsystem.nqn), ("serial", configuration.subsystem.serial)]
          + configuration.namespaces.map { ("namespace \($0.nsid)", "\($0.backend)") }
          + configuration.faults.faults.map { ("injected", "\($0)") }
          + (configuration.faults.isEmpty ? [] : [("inject-seed", "\(configuration.faults.seed)")])
        trace = try RecordedTrace(
          path, id: id, scale: scale, directory: directory!, command: command, options: words, notes: notes,
          options: writing)
      } else {
        trace = nil
        discarder = try ServedEndpoint.thread("nvmepf-discard") { RingConsumer.discard(ring) }
      }
      tellOfDeniedWrites(configuration)
    } catch {
      directory?.remove()
      throw error
    }
  }

  /// Serve a backend that is unexpectedly read-only, but report it.
  private func tellOfDeniedWrites(_ configuration: EndpointConfiguration) {
    let meant = Set(configuration.namespaces.filter(\.isReadOnly).map(\.nsid))
    for state in function.namespaceStates where state.isReadOnly && !meant.contains(state.nsid) {
      complain("namespace \(state.nsid) is read-only: this user may not write \(state.backend)")
    }
  }

  /// Serve clients one after the other, until `finish`.
  public func start() throws {
    let (server, function, logger) = (server, function, logger)
    do {
      control = try ControlServer(path: ControlServer.path(socket: socketPath), endpoint: function)
      serving = try ServedEndpoint.thread("nvmepf-serve") {
        while true {
          do throws(VFIOUserError) {
            guard try server.serve(function) else { return }
          } catch {
            logger.warning("\(error.description)")
          }
        }
      }
    } catch {
      try? finish()
      throw error
    }
  }

  private static func thread(_ name: String, _ body: @escaping @Sendable () -> Void) throws -> WorkerThread {
    do throws(SystemError) { return try WorkerThread(name: name, body) } catch {
      throw Failure(description: "cannot start a thread: \(error)")
    }
  }

  /// Environment variables for a recorded command.
  public var environment: [String: String] {
    var all = ["NVMEPF_SOCKET": socketPath]
    if trace != nil {
      all[HostRecording.directoryVariable] = folder
      all[HostRecording.traceVariable] = "\(id)"
    }
    return all
  }

  public var hostRecording: HostRecording? {
    trace.map { _ in HostRecording(directory: folder, traceID: id) }
  }

  /// Record the kernel too, in its own streams; `finish` ends that.
  public func record(_ probes: Probes, subsystem: String?) throws {
    let clock = KernelClock(ticksPerSecond: ticksPerSecond)
    probes.countCosts()
    kernelRecorder = try KernelRecorder(probes, directory: folder, traceID: id, clock: clock, subsystem: subsystem)
  }

  /// For files that are removed when the recording ends.
  public var folder: String { directory!.path }

  /// Stop serving, stop the engine, and close the trace.
  public func finish() throws {
    guard endServing() else { leave() }
    Journal.shared.flush()
    kernelRecorder?.stop()
    if let problem = kernelRecorder?.problem { complain(problem) }
    defer { directory?.remove() }
    discarder?.join()
    try trace?.finish(isWorthKeeping: (kernelRecorder?.events ?? 0) > 0)
  }

  /// Time limit for server and engine to end.
  private static let endMs = 3000

  /// - Returns: false if they do not end because storage or memory never answers.
  private func endServing() -> Bool {
    let ended = Signal()
    function.interruptPreparation()
    WorkerThread.runDetached(name: "nvmepf-end") { [control, server, serving, function] in
      control?.stop()
      server.stop()
      serving?.join()
      function.stop()
      ended.raise()
    }
    return ended.wait(milliseconds: ServedEndpoint.endMs)
  }

  /// End the process although its engine cannot end. The recorded events are in the file and its rings.
  private func leave() -> Never {
    complain(
      "the engine waits for storage or memory that does not answer; ending without it. "
        + "The kernel may keep the process until it answers")
    if let place = trace?.progress.place { complain("\(place) is not closed; run nvmepf repair \(place)") }
    for path in [socketPath, ControlServer.path(socket: socketPath)] { unlink(path) }
    _exit(1)
  }

  public func consumeTrouble() -> String? { trace?.consumeTrouble() }

  // MARK: What the user sees

  /// Commands in the recording so far; nil where none is kept.
  public var commands: UInt64? { trace?.progress.commands }

  /// Events of the kernel in the recording so far.
  public var kernelEvents: UInt64 { kernelRecorder?.events ?? 0 }

  /// After the end, reports how full the rings were at most.
  public func progressLine(isEnd: Bool) -> String {
    let seconds = Double(Clock.monotonicNs() - begin) / 1e9
    guard let progress = trace?.progress else { return "\(Quantity.decimal(seconds, 0)) s" }
    let ring = isEnd ? "ring up to \(progress.ringPeakPermille / 10)%" : "ring \(progress.ringFillPermille / 10)%"
    let perEvent = Double(progress.bytes) / Double(max(progress.events, 1))
    return "\(Quantity.decimal(seconds, 0)) s, \(Quantity.count(progress.commands)) commands, "
      + "\(Quantity.count(progress.events)) events, \(Quantity.bytes(progress.bytes)) "
      + "(\(Quantity.decimal(perEvent, 2)) B an event), \(ring) full"
      + (kernelRecorder.map { "; kernel: \(Quantity.count($0.events)) events\($0.shortcomings)" } ?? "")
  }
}
