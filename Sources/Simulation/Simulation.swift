import Chance
import Events
import Glibc
import Recording
import Replay
import Trace

/// A run of the engine in a world that a seed has made: recorded, replayed, and checked.
public struct Simulation: Sendable {
  public var seed: UInt64
  public var commands: UInt64
  public var hasFaults = true
  public var keepsPayload = false

  public init(seed: UInt64, commands: UInt64) {
    self.seed = seed
    self.commands = commands
  }

  public struct Result: Sendable {
    public var commands: UInt64 = 0
    public var resets: UInt64 = 0
    /// Of virtual time.
    public var ns: UInt64 = 0
    /// What happened that must not; nil where nothing did.
    public var failure: String?
    public var replay = ReplayResult()
  }

  /// Run it, record it at `path`, and replay the recording.
  public func run(path: String) throws(TraceError) -> Result {
    var result = try record(path: path)
    guard result.failure == nil else { return result }
    let reader = try TraceReader(path: path)
    guard let (id, chunks) = reader.streams.first(where: { $0.id.source == .engine }) else {
      throw TraceError(.damaged, "\(path) holds no engine's events")
    }
    var replayer = try Replayer(stream: id.stream, isClosed: reader.isClosed, chunks: reader.source(of: chunks))
    result.replay = try replayer.run()
    if let divergence = result.replay.divergence { result.failure = "the recording does not replay: \(divergence)" }
    return result
  }

  private static let ringSlots: UInt64 = 1 << 16

  private func record(path: String) throws(TraceError) -> Result {
    let world = World()
    let id = TraceID(high: SeededGenerator.mix(seed), low: SeededGenerator.mix(~seed))
    let ring = try Ring(
      creating: "/dev/shm/nvmepf-simulation-\(TraceID.random()).ring", capacity: Simulation.ringSlots, source: .engine,
      stream: 0, traceID: id)
    // It is used by name no more, and leaves nothing where the run is killed.
    ring.removeFile()
    let time = world.time
    var options = TraceWriter.Options()
    options.clocks = { ClockSnapshot(ticks: time.ns, monotonic: time.monotonicNs(), realtime: time.realtimeNs()) }
    let writer = try TraceWriter(
      path: path, id: id, scale: .identity, metadata: [("simulation", "seed \(seed), \(commands) commands")],
      options: options)
    writer.add(ring)
    let recorder = RingRecorder(
      RingProducer(ring, whenFull: .wait), time: time, keepsPayload: keepsPayload, ticksPerSecond: 1_000_000_000)
    var simulator = Simulator(
      Scenario(seed: seed, hasFaults: hasFaults), seed: seed, world: world, recorder: recorder,
      onCheckpoint: { writer.drain() })
    simulator.run(commands: commands)
    simulator.finish()
    ring.finish()
    let summary = writer.finish()
    if let error = summary.error { throw error }
    return Result(
      commands: simulator.completed, resets: simulator.resets, ns: time.ns, failure: world.violation)
  }
}
