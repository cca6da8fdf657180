import Chance
import Target

/// What a seed determines: the controller, the behaviour of host and backend, and the faults.
struct Scenario {
  var ioQueues: UInt16 = 4
  var submissionEntries: [UInt32] = []
  var completionEntries: [UInt32] = []
  /// Maximum commands in flight per queue.
  var depth = 1
  /// By queue: the host waits for interrupts, else it polls.
  var usesInterrupts: [Bool] = []
  var fetchesBatches = false
  var burst: UInt8 = 3
  /// Commands describe their data with SGLs, else with PRPs.
  var usesSGLs = false
  /// One of this many commands on average has more than one block.
  var longEvery: UInt64 = 4
  /// Aggregation threshold (0's based) and time in 100 µs, as in Interrupt Coalescing.
  var threshold: UInt8 = 0
  var aggregation: UInt8 = 0
  /// Maximum time from a completion to the next command, and between two polls of a completion queue.
  var thinkNs: UInt64 = 0
  var reapNs: UInt64 = 0
  /// Requests that the backend performs in parallel: 0 completes each immediately, `.max` sets no limit.
  var parallelism = 0
  var serviceNs: ClosedRange<UInt64> = 0...0
  /// The backend can cancel a request that it has begun.
  var cancelsBegun = false
  /// Some commands are fused Compares and Writes.
  var fuses = false
  /// The host sometimes aborts commands.
  var aborts = false
  /// Keep Alive Timeout; 0 disables it.
  var keepAliveMs: UInt32 = 0
  var faults: Faults?

  /// Rates of faults: N injects one in N times on average, 0 none.
  struct Faults {
    var backendError: UInt64 = 0
    var backendLoses: UInt64 = 0
    var backendRepeats: UInt64 = 0
    var interruptLost: UInt64 = 0
    var interruptLate: UInt64 = 0
    var interruptRepeated: UInt64 = 0
    var dataUnreachable: UInt64 = 0
    var queueUnreachable: UInt64 = 0
    /// Mean submissions between two disturbances: resets, link loss, changes of namespaces and queues, invalid doorbell
    /// values.
    var disturbance: UInt64 = 0
  }

  /// An immediate backend without faults.
  init() {}

  init(seed: UInt64, hasFaults: Bool) {
    var random = SeededGenerator(seed: seed)
    func one(of count: UInt64) -> UInt64 { random.next() % count }
    ioQueues = UInt16(1 + one(of: 4))
    let queues = Int(ioQueues)
    submissionEntries = (0..<queues).map { _ in [2, 3, 8, 17, 33, 64][Int(one(of: 6))] }
    completionEntries = (0..<queues).map { _ in [2, 5, 16, 33, 64][Int(one(of: 5))] }
    depth = [1, 2, 8, 32][Int(one(of: 4))]
    usesInterrupts = (0..<queues).map { _ in one(of: 2) == 0 }
    fetchesBatches = one(of: 2) == 0
    burst = UInt8([0, 2, 3, 7][Int(one(of: 4))])
    threshold = UInt8(one(of: 8))
    aggregation = one(of: 2) == 0 ? 0 : UInt8(1 + one(of: 3))
    thinkNs = [0, 500, 20_000][Int(one(of: 3))]
    reapNs = [0, 0, 5_000, 100_000][Int(one(of: 4))]
    parallelism = [0, 1, 4, 64][Int(one(of: 4))]
    serviceNs = [0...2_000, 10_000...12_000, 500...400_000][Int(one(of: 3))]
    cancelsBegun = one(of: 2) == 0
    fuses = one(of: 3) == 0
    aborts = one(of: 4) == 0
    keepAliveMs = one(of: 3) == 0 ? 100 : 0
    usesSGLs = SeededGenerator.mix(seed &+ 3) % 3 == 0
    guard hasFaults else { return }
    func seldom(_ every: UInt64) -> UInt64 { one(of: 3) == 0 ? every : 0 }
    faults = Faults(
      backendError: seldom(50), backendLoses: seldom(2_000), backendRepeats: seldom(100), interruptLost: seldom(100),
      interruptLate: seldom(20), interruptRepeated: seldom(20), dataUnreachable: seldom(200),
      queueUnreachable: seldom(5_000), disturbance: one(of: 4) == 0 ? 0 : [50, 300, 1_000][Int(one(of: 3))])
  }

  var subsystem: Subsystem {
    var subsystem = Subsystem()
    subsystem.ioQueuesMax = UInt16(World.queuesMax - 1)
    subsystem.vectors = UInt16(World.queuesMax)
    subsystem.namespacesMax = 4
    subsystem.fetchesBatches = fetchesBatches
    subsystem.arbitrationBurst = burst
    subsystem.coalescingThreshold = UInt16(threshold) + 1
    subsystem.coalescingTime = aggregation
    return subsystem
  }
}
