import Glibc
import NVMe

/// What the simulated host and the port share: the host's memory, the doorbells, what both know of the queues, and the
/// first thing that went wrong. Copies share it; its owner frees it.
struct World: BitwiseCopyable {
  static let address: UInt64 = 1 << 32
  static let memoryBytes = 8 << 20
  static let queuesMax = 5

  let time = VirtualTime()
  let memory: UnsafeMutableRawPointer
  let doorbells: UnsafeMutablePointer<UInt32>
  /// By queue identifier.
  let queues: UnsafeMutablePointer<QueueFacts>
  /// Interrupts on their way, by vector.
  let interrupts: UnsafeMutablePointer<PendingInterrupts>
  /// The host keeps its `queues` true, so what the controller does with them can be judged.
  let judgesQueues: Bool
  private let state: UnsafeMutablePointer<State>

  private struct State {
    var hole: Range<UInt64>?
    var violation: String?
  }

  /// What a queue pair looks like from outside.
  struct QueueFacts: BitwiseCopyable {
    var submissionBase: UInt64 = 0
    /// Entries; 0 where the queue does not exist.
    var submissionEntries: UInt32 = 0
    var completionBase: UInt64 = 0
    var completionEntries: UInt32 = 0
    /// Entries that the host has announced, and that the engine has fetched, since the queue was created.
    var announced: UInt64 = 0
    var fetched: UInt64 = 0
    /// Entries that the engine has posted, and that the host has freed.
    var posted: UInt64 = 0
    var freed: UInt64 = 0
    /// How the host hears of completions: vector and IEN.
    var vector: UInt16 = 0
    var interruptsEnabled = false
    /// Of `posted`, entries that an interrupt has announced, and when the first that none has was posted.
    var signalled: UInt64 = 0
    var unsignalledSinceNs: UInt64 = 0
    /// Interrupts that a fault has kept from the host.
    var interruptsLost = 0
    /// Requests of the queue's commands that the backend has lost.
    var requestsLost: UInt32 = 0

    /// The next entry to be fetched.
    var head: UInt32 { submissionEntries == 0 ? 0 : UInt32(fetched % UInt64(submissionEntries)) }
  }

  /// Interrupts of one vector that are on their way. Of several the first matters, and the last, which finds nothing new.
  struct PendingInterrupts: BitwiseCopyable {
    /// When they arrive; `.max` for never.
    private(set) var firstNs = UInt64.max
    private var lastNs = UInt64.max

    mutating func add(_ ns: UInt64) {
      if firstNs != .max { lastNs = max(firstNs, ns, lastNs == .max ? 0 : lastNs) }
      firstNs = min(firstNs, ns)
    }

    /// - Returns: whether one has arrived.
    mutating func consume(_ nowNs: UInt64) -> Bool {
      guard firstNs <= nowNs else { return false }
      (firstNs, lastNs) = (lastNs <= nowNs ? .max : lastNs, .max)
      return true
    }
  }

  init(judgesQueues: Bool = true) {
    self.judgesQueues = judgesQueues
    memory = calloc(1, World.memoryBytes)!
    doorbells = .allocate(capacity: 2 * Doorbell.pairs)
    doorbells.initialize(repeating: 0, count: 2 * Doorbell.pairs)
    queues = .allocate(capacity: World.queuesMax)
    queues.initialize(repeating: QueueFacts(), count: World.queuesMax)
    interrupts = .allocate(capacity: World.queuesMax)
    interrupts.initialize(repeating: PendingInterrupts(), count: World.queuesMax)
    state = .allocate(capacity: 1)
    state.initialize(to: State())
  }

  func deallocate() {
    free(memory)
    doorbells.deallocate()
    queues.deallocate()
    interrupts.deallocate()
    state.deinitialize(count: 1)
    state.deallocate()
    time.deallocate()
  }

  /// What the host has lost of its memory, for the moment.
  var hole: Range<UInt64>? {
    get { state.pointee.hole }
    nonmutating set { state.pointee.hole = newValue }
  }

  /// What has happened that must not; the first counts.
  var violation: String? { state.pointee.violation }
  var isIntact: Bool { state.pointee.violation == nil }

  func dropInterrupts() { interrupts.update(repeating: PendingInterrupts(), count: World.queuesMax) }

  /// A queue pair comes into being, empty.
  func add(_ queue: SimulatedQueue) {
    (memory + queue.completionOffset).initializeMemory(as: UInt8.self, repeating: 0, count: 0x8000)
    queues[Int(queue.qid)] = QueueFacts(
      submissionBase: World.address + UInt64(queue.submissionOffset), submissionEntries: queue.submissionEntries,
      completionBase: World.address + UInt64(queue.completionOffset), completionEntries: queue.completionEntries,
      vector: queue.vector ?? 0, interruptsEnabled: queue.vector != nil || queue.qid == 0)
  }

  func fail(_ what: @autoclosure () -> String) {
    if isIntact { state.pointee.violation = what() }
  }

  /// Where `count` bytes at an address lie; nil where they are not the host's.
  @inline(__always)
  func place(_ address: UInt64, _ count: Int) -> UnsafeMutableRawPointer? {
    let offset = address &- World.address
    guard offset < UInt64(World.memoryBytes), UInt64(count) <= UInt64(World.memoryBytes) - offset else { return nil }
    if let hole, address < hole.upperBound, address + UInt64(count) > hole.lowerBound { return nil }
    return memory + Int(offset)
  }
}
