import Chance
import Events
import Platform
import Recording
import Replay
import Trace

/// A run of the engine in a world generated from a seed: recorded, replayed and checked.
public struct Simulation: Sendable {
  public var seed: UInt64
  public var commands: UInt64
  /// Inject faults.
  public var hasFaults = true
  /// Record the data of commands, not only their digests.
  public var keepsPayload = false
  /// Slots of the engine's events between two hashes of its state; nil: by the size of the state.
  public var stateHashEvery: UInt64?

  public init(seed: UInt64, commands: UInt64) {
    self.seed = seed
    self.commands = commands
  }

  /// The progress of a run.
  public enum Progress: Sendable {
    /// Commands completed.
    case simulating(UInt64)
    case replaying
  }

  /// The result of a run.
  public struct Result: Sendable {
    /// Commands completed.
    public var commands: UInt64 = 0
    /// Resets of the controller, of any kind.
    public var resets: UInt64 = 0
    /// Virtual time in nanoseconds.
    public var ns: UInt64 = 0
    /// Real time, in nanoseconds: to run and record the world, with its checks, until the trace is written.
    public var simulationNs: UInt64 = 0
    /// Real time of the replay, in nanoseconds.
    public var replayNs: UInt64 = 0
    /// The first violation of a rule, or the divergence; nil if there was none.
    public var failure: String?
    /// The result of the replay; empty after a failure of the run.
    public var replay = ReplayResult()
  }

  /// Run, record at `path`, and replay the recording.
  /// - Parameter goesOn: called at intervals; the first false ends the run early, which is not a failure.
  public func run(path: String, goesOn: @escaping (Progress) -> Bool = { _ in true }) throws(TraceError) -> Result {
    let begin = Clock.monotonicNs()
    var result = try record(path: path, goesOn)
    result.simulationNs = Clock.monotonicNs() - begin
    guard result.failure == nil else { return result }
    result.replay = try replay(path: path, goesOn)
    result.replayNs = Clock.monotonicNs() - begin - result.simulationNs
    if result.replay.divergence != nil {
      // The whole trace tells more of it than a half.
      let whole = try ReplayResult(replaying: TraceReader(path: path))
      result.replay.divergence = whole.divergence ?? result.replay.divergence
      result.failure = result.replay.divergence.map { "the recording does not replay: \($0)" }
    }
    return result
  }

  private static let ringSlots: UInt64 = 1 << 16

  private func record(path: String, _ goesOn: @escaping (Progress) -> Bool) throws(TraceError) -> Result {
    let world = World()
    defer { world.deallocate() }
    let id = TraceID(high: SeededGenerator.mix(seed), low: SeededGenerator.mix(~seed))
    let directory = try RecordingDirectory.scratch()
    defer { directory.remove() }
    let rings = try [Source.engine, .host].map { (source) throws(TraceError) in
      try Ring(
        creating: directory.file("\(source)-0.ring"), capacity: Simulation.ringSlots, source: source, stream: 0,
        traceID: id)
    }
    let time = world.time
    var options = TraceWriter.Options()
    options.clocks = { ClockSnapshot(ticks: time.ns, monotonic: time.monotonicNs(), realtime: time.realtimeNs()) }
    options.cutsWithEngine = true
    let writer = try TraceWriter(
      path: path, id: id, scale: .identity, metadata: [("simulation", "seed \(seed), \(commands) commands")],
      options: options)
    for ring in rings { writer.add(ring) }
    let chunkIsDue: EventDescriptor
    do throws(SystemError) { chunkIsDue = try EventDescriptor() } catch {
      throw TraceError(.system(error.code), "cannot start the recorder: \(error)")
    }
    let thread = try RecorderThread(writer, wake: chunkIsDue)
    // Waiting for the writer takes no virtual time.
    func recorder(_ ring: Ring) -> RingRecorder<VirtualTime> {
      RingRecorder(
        RingProducer(ring, whenFull: .waitSilently), time: time, keepsPayload: keepsPayload,
        ticksPerSecond: 1_000_000_000, stateHashEvery: stateHashEvery)
    }
    var simulator = Simulator(
      Scenario(seed: seed, hasFaults: hasFaults), seed: seed, world: world, recorder: recorder(rings[0]),
      host: recorder(rings[1]),
      goesOn: {
        chunkIsDue.raise()
        return goesOn(.simulating($0))
      })
    simulator.run(commands: commands)
    simulator.finish()
    for ring in rings { ring.finish() }
    let summary = thread.stop()
    if let error = summary.error { throw error }
    return Result(commands: simulator.completed, resets: simulator.resets, ns: time.ns, failure: world.violation)
  }

  // MARK: Replay

  /// Replay the recording, its first half on another thread; it ends with the checkpoint where the second half begins.
  private func replay(path: String, _ goesOn: @escaping (Progress) -> Bool) throws(TraceError) -> ReplayResult {
    let reader = try TraceReader(path: path)
    guard let (id, chunks) = reader.streams.first(where: { $0.id.source == .engine }) else {
      throw TraceError(.damaged, "\(path) contains no engine stream")
    }
    let middle = chunks.count / 2
    guard middle > 0 else { return try Simulation.replay(reader, id.stream, chunks, goesOn) }
    let first = Half()
    let thread: WorkerThread
    do throws(SystemError) {
      thread = try WorkerThread(name: "nvmepf-replay", handlesSignals: false) {
        do throws(TraceError) {
          first.result = .success(
            try Simulation.replay(reader, id.stream, Array(chunks[...middle]), endsAtCheckpoint: true) { _ in true })
        } catch {
          first.result = .failure(error)
        }
      }
    } catch { throw TraceError(.system(error.code), "cannot start the replay: \(error)") }
    let second = Swift.Result { () throws(TraceError) in
      try Simulation.replay(reader, id.stream, Array(chunks[middle...]), goesOn)
    }
    thread.join()
    var both = try first.result!.get()
    guard both.divergence == nil else { return both }
    let rest = try second.get()
    both.commands += rest.commands
    // Both halves include the checkpoint between them.
    both.events += rest.events - 1
    both.divergence = rest.divergence
    return both
  }

  /// The result of the other thread, valid after it has ended.
  private final class Half: @unchecked Sendable {
    var result: Swift.Result<ReplayResult, TraceError>?
  }

  /// - Parameter endsAtCheckpoint: replay only the checkpoint at the beginning of the last chunk.
  private static func replay(
    _ reader: TraceReader, _ stream: UInt16, _ chunks: [Int], endsAtCheckpoint: Bool = false,
    _ goesOn: @escaping (Progress) -> Bool
  ) throws(TraceError) -> ReplayResult {
    let source = try reader.source(of: chunks)
    var count = 0
    var replayer = try Replayer(stream: stream, isClosed: reader.isClosed) { () throws(TraceError) in
      guard count == 0 || goesOn(.replaying), var chunk = try source() else { return nil }
      // The chunks of the other half are not a gap.
      if count == 0, chunk.first?.event == .gap, let next = try source() { chunk = next }
      count += 1
      guard endsAtCheckpoint, count == chunks.count, !chunk.isEmpty else { return chunk }
      return UnsafeBufferPointer(rebasing: chunk[..<(1 + Int(chunk[0].tail))])
    }
    return try replayer.run()
  }
}
