import Chance
import Target

/// What a seed makes of a run: the controller, the host's habits, the backend, and what goes wrong.
struct Scenario {
  var ioQueues: UInt16 = 4
  var submissionEntries: [UInt32] = []
  var completionEntries: [UInt32] = []
  /// Commands that the host has under way in each queue at most.
  var depth = 1
  /// Of each queue: the host waits for interrupts, else it looks.
  var usesInterrupts: [Bool] = []
  var fetchesBatches = false
  var burst: UInt8 = 3
  /// Completion queue entries before an interrupt, and how long fewer wait, in units of 100 µs; 0 for at once.
  var threshold: UInt8 = 0
  var aggregation: UInt8 = 0
  /// From a completion to the next command, and between two looks at a completion queue, nanoseconds at most.
  var thinkNs: UInt64 = 0
  var reapNs: UInt64 = 0
  /// Requests that the backend works on at a time: 0 does each at once, `.max` all that there are.
  var parallelism = 0
  var serviceNs: ClosedRange<UInt64> = 0...0
  /// The backend takes back what it has begun.
  var cancelsBegun = false
  /// Some commands are fused Compares and Writes.
  var fuses = false
  /// The host aborts commands now and then.
  var aborts = false
  /// Keep Alive Timeout; 0 for none.
  var keepAliveMs: UInt32 = 0
  var faults: Faults?

  /// How often something goes wrong: once in so many times; 0 for never.
  struct Faults {
    var backendError: UInt64 = 0
    var backendLoses: UInt64 = 0
    var backendRepeats: UInt64 = 0
    var interruptLost: UInt64 = 0
    var interruptLate: UInt64 = 0
    var interruptRepeated: UInt64 = 0
    var dataUnreachable: UInt64 = 0
    var queueUnreachable: UInt64 = 0
    /// Submissions between two disturbances: resets, link, namespaces, queues, doorbells without sense.
    var disturbance: UInt64 = 0
  }

  /// A backend that does each request at once, and nothing goes wrong.
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
