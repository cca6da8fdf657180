import Glibc
import NVMe

/// What the simulated host and the port share: host memory, doorbells, the state of the queues, and the first violation
/// of a rule. Copies share it; its owner deallocates it.
struct World: BitwiseCopyable {
  static let address: UInt64 = 1 << 32
  static let memoryBytes = 8 << 20
  static let queuesMax = 5

  let time = VirtualTime()
  let memory: UnsafeMutableRawPointer
  let doorbells: UnsafeMutablePointer<UInt32>
  /// By queue identifier.
  let queues: UnsafeMutablePointer<QueueFacts>
  /// Pending interrupts by vector.
  let interrupts: UnsafeMutablePointer<PendingInterrupts>
  /// The host keeps `queues` up to date, so the port can check what the controller does with them.
  let judgesQueues: Bool
  private let state: UnsafeMutablePointer<State>

  private struct State {
    var hole: Range<UInt64>?
    var violation: String?
    var delay: Delay?
  }

  /// A queue pair as the host and the port see it.
  struct QueueFacts: BitwiseCopyable {
    var submissionBase: UInt64 = 0
    /// Entries; 0 if the queue does not exist.
    var submissionEntries: UInt32 = 0
    var completionBase: UInt64 = 0
    var completionEntries: UInt32 = 0
    /// Entries announced by the host and fetched by the engine since the queue was created.
    var announced: UInt64 = 0
    var fetched: UInt64 = 0
    /// Entries posted by the engine and released by the host.
    var posted: UInt64 = 0
    var freed: UInt64 = 0
    /// Interrupt vector and IEN.
    var vector: UInt16 = 0
    var interruptsEnabled = false
    /// Posted entries that an interrupt has announced, and when the first one after them was posted.
    var signalled: UInt64 = 0
    var unsignalledSinceNs: UInt64 = 0
    /// Interrupts that a fault has suppressed.
    var interruptsLost = 0
    /// Requests of this queue that the backend will never complete.
    var requestsLost: UInt32 = 0

    /// The next entry to fetch.
    var head: UInt32 { submissionEntries == 0 ? 0 : UInt32(fetched % UInt64(submissionEntries)) }
  }

  /// Pending interrupts of one vector. Only the first and the last are kept: the last one finds nothing new.
  struct PendingInterrupts: BitwiseCopyable {
    /// When they arrive; `.max` if none is pending.
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

  /// The part of host memory that is currently inaccessible.
  var hole: Range<UInt64>? {
    get { state.pointee.hole }
    nonmutating set { state.pointee.hole = newValue }
  }

  /// Extra time at one point.
  var delay: Delay? {
    get { state.pointee.delay }
    nonmutating set { state.pointee.delay = newValue }
  }

  /// Let the extra time of this point pass.
  @inline(__always)
  func pass(_ point: DelayPoint, _ qid: UInt16) {
    if state.pointee.delay?.point == point { time.advance(by: state.pointee.delay!.pass(qid)) }
  }

  /// The extra time of a point of the backend, where nobody waits for it to pass.
  @inline(__always)
  func extraNs(_ point: DelayPoint, _ qid: UInt16) -> UInt64 {
    state.pointee.delay?.point == point ? state.pointee.delay!.pass(qid) : 0
  }

  /// The first violation of a rule.
  var violation: String? { state.pointee.violation }
  var isIntact: Bool { state.pointee.violation == nil }

  func dropInterrupts() { interrupts.update(repeating: PendingInterrupts(), count: World.queuesMax) }

  /// Add an empty queue pair.
  func add(_ queue: SimulatedQueue) {
    (memory + queue.completionOffset).initializeMemory(as: UInt8.self, repeating: 0, count: 0x8000)
    queues[Int(queue.qid)] = QueueFacts(
      submissionBase: World.address + UInt64(queue.submissionOffset), submissionEntries: queue.submissionEntries,
      completionBase: World.address + UInt64(queue.completionOffset), completionEntries: queue.completionEntries,
      vector: queue.vector ?? 0, interruptsEnabled: queue.vector != nil || queue.qid == 0)
  }

  /// Keep the first violation.
  func fail(_ what: @autoclosure () -> String) {
    if isIntact { state.pointee.violation = what() }
  }

  /// Where `count` bytes at an address lie; nil if any of them is inaccessible.
  @inline(__always)
  func place(_ address: UInt64, _ count: Int) -> UnsafeMutableRawPointer? {
    let offset = address &- World.address
    guard offset < UInt64(World.memoryBytes), UInt64(count) <= UInt64(World.memoryBytes) - offset else { return nil }
    if let hole, address < hole.upperBound, address + UInt64(count) > hole.lowerBound { return nil }
    return memory + Int(offset)
  }
}
