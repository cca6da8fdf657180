import NVMe
import Target

/// The NVMe controller: registers, queues, arbitration, command fetch, data pointers, completions and interrupts.
///
/// A deterministic state machine: it holds no clock, takes no lock and accesses no memory but its own. The same inputs
/// through its port lead to the same outputs in the same order, whatever drives it.
public struct Controller: ~Copyable {
  /// Maximum commands between fetch and posting.
  static let commandsMax = 1024
  /// The slot of a shutdown's flush; outside the pool.
  static let shutdownSlot = Int32(commandsMax)
  /// Slots of requests: 0 up to here.
  public static let slots = commandsMax + 1
  /// The completion that stands for all abandoned requests.
  public static let abandonedSlot = Int32(slots)
  /// Commands reserved for the admin queue: its event requests, and some others.
  static let adminShare: UInt32 = 16
  /// Commands fetched in one turn of a queue if Arbitration Burst sets no limit.
  static let batchMax = 64
  /// Maximum segments of one command's data.
  static let segmentsMax = 1024
  /// Maximum segments of all commands in flight.
  static let segmentsInFlightMax = batchMax * segmentsMax
  /// The memory page size; CC.MPS must be 0.
  public static let pageBytes: UInt64 = 4096

  public internal(set) var target: Target

  var cc = ControllerConfiguration(rawValue: 0)
  /// The host's write to CC, until CC is polled.
  var pendingConfiguration: ControllerConfiguration?
  /// CSTS (Base 2.1, 3.1.4.6).
  public internal(set) var csts = ControllerStatus(rawValue: 0)
  var intms: UInt32 = 0
  var aqa: UInt32 = 0
  var asq: UInt64 = 0
  var acq: UInt64 = 0

  /// By queue identifier.
  let submissionQueues: UnsafeMutablePointer<SubmissionQueue>
  let completionQueues: UnsafeMutablePointer<CompletionQueue>
  var liveSubmission: QueueList
  var liveCompletion: QueueList

  /// By slot.
  let commands: UnsafeMutablePointer<Command>
  var slots = SlotMap(capacity: Controller.commandsMax)
  /// Commands reserved for each I/O submission queue; depends on the number of queues.
  private var share: UInt32 = 0
  /// Free slots reserved for the queues that hold less than their share.
  private(set) var reserved = 0
  /// Commands fetched in the current turn; the admin queue's command follows those of an I/O queue.
  let batch: UnsafeMutablePointer<Int32>
  /// Buffer for a batch of entries.
  let entries: UnsafeMutablePointer<SubmissionEntry>
  /// Asynchronous Event Requests that wait for an event, oldest first.
  var eventRequests: [Int32] = []

  /// By slot: requests at backends.
  let executions: UnsafeMutablePointer<Execution>
  /// Requests at backends.
  public internal(set) var executing = 0
  /// A reset has abandoned requests at backends; counts as one request until none of them can take effect.
  var isSettling = false
  var segmentsInFlight = 0
  /// The Set Features that waits for earlier writes, or none; there are no other admin commands meanwhile.
  var heldSetFeatures = Command.none
  /// Number of these writes.
  var awaitedWrites: UInt32 = 0
  /// The fused operation in progress; there are no other I/O commands meanwhile.
  var fusion = Fusion()
  /// Segments of the command being mapped.
  let segments: UnsafeMutablePointer<Segment>
  /// By slot: the segments of reads at backends; allocated when the slot first needs them.
  private let heldSegments: UnsafeMutablePointer<UnsafeMutablePointer<Segment>?>
  /// Buffer for a page of a PRP list or an SGL segment.
  let list: UnsafeMutableRawBufferPointer
  /// Identify data or a log page for the host, or a command's data for the engine.
  let scratch: UnsafeMutableRawBufferPointer
  /// Zeros for the part of a log page beyond its end.
  let zeros: UnsafeMutableRawBufferPointer
  /// The ranges parsed from `scratch`.
  let ranges: UnsafeMutablePointer<LogicalBlockRange>
  let queuesMax: Int

  /// Commands fetched in one turn of a queue; set from the features.
  var burst = 0
  /// Copies from the target for every command: namespaces by identifier, the largest transfer, the write cache.
  let namespaces: UnsafePointer<Namespace>
  let maxTransferBytes: UInt64
  var hasWriteCache = true
  /// Number of armed timers.
  public internal(set) var timers = 0
  var keepAliveIsArmed = false
  /// Commands arrived since the keep alive timer was armed.
  var sawTraffic = false

  /// - Parameter namespaces: with distinct identifiers.
  public init(_ subsystem: Subsystem, namespaces: [Namespace] = []) {
    target = Target(subsystem)
    self.namespaces = target.namespaces.places
    maxTransferBytes = UInt64(subsystem.maxTransferBytes)
    for namespace in namespaces { target.attach(namespace) }
    target.settleNamespaces()
    queuesMax = Int(subsystem.ioQueuesMax) + 1
    submissionQueues = .allocate(capacity: queuesMax)
    submissionQueues.initialize(repeating: SubmissionQueue(), count: queuesMax)
    completionQueues = .allocate(capacity: queuesMax)
    completionQueues.initialize(repeating: CompletionQueue(), count: queuesMax)
    liveSubmission = QueueList(capacity: queuesMax)
    liveCompletion = QueueList(capacity: queuesMax)
    commands = .allocate(capacity: Controller.slots)
    commands.initialize(repeating: Command(), count: Controller.slots)
    batch = .allocate(capacity: Controller.batchMax + 1)
    batch.initialize(repeating: Command.none, count: Controller.batchMax + 1)
    entries = .allocate(capacity: Controller.batchMax)
    entries.initialize(repeating: SubmissionEntry(), count: Controller.batchMax)
    executions = .allocate(capacity: Controller.slots)
    segments = .allocate(capacity: Controller.segmentsMax)
    segments.initialize(repeating: Segment(address: PCIAddress(0), length: 0), count: Controller.segmentsMax)
    heldSegments = .allocate(capacity: Controller.slots)
    heldSegments.initialize(repeating: nil, count: Controller.slots)
    list = .allocate(byteCount: Int(Controller.pageBytes), alignment: 64)
    list.initializeMemory(as: UInt8.self, repeating: 0)
    scratch = .allocate(byteCount: Int(Controller.pageBytes), alignment: 64)
    scratch.initializeMemory(as: UInt8.self, repeating: 0)
    zeros = .allocate(byteCount: Int(Controller.pageBytes), alignment: 64)
    zeros.initializeMemory(as: UInt8.self, repeating: 0)
    ranges = .allocate(capacity: 256)
    ranges.initialize(repeating: LogicalBlockRange(slba: 0, blocks: 0), count: 256)
    eventRequests.reserveCapacity(AsynchronousEvents.requestsMax)
    burst = min(target.features.burst, Controller.batchMax)
    hasWriteCache = target.hasWriteCache
  }

  deinit {
    submissionQueues.deallocate()
    completionQueues.deallocate()
    commands.deallocate()
    batch.deallocate()
    entries.deallocate()
    executions.deallocate()
    segments.deallocate()
    for slot in 0..<Controller.slots { heldSegments[slot]?.deallocate() }
    heldSegments.deallocate()
    list.deallocate()
    scratch.deallocate()
    zeros.deallocate()
    ranges.deallocate()
  }

  /// One pass: handle timers and completed requests, then for every queue read doorbells, fetch, execute, complete.
  /// - Returns: whether there was anything to do.
  @discardableResult
  public mutating func poll<P: Port & ~Copyable>(_ port: inout P) -> Bool {
    defer { assert(brokenBounds() == nil, "the engine's state is wrong") }
    var worked = timers > 0 && handleTimers(&port)
    if executing > 0, handleCompletions(&port) { worked = true }
    guard csts.ready, !csts.fatal else { return worked }
    // A command may delete queues, so every turn reads the lists again.
    var turn = 0
    while turn < liveCompletion.count {
      if pollHead(of: liveCompletion[turn], &port) { worked = true }
      turn += 1
    }
    turn = 0
    while turn < liveSubmission.count {
      if serve(liveSubmission[turn], &port) { worked = true }
      turn += 1
    }
    return worked
  }

  /// The controller has failed and does nothing until it is reset (Base 2.1, 9.5).
  mutating func fail() { csts.fatal = true }

  /// Copy from the features what every command needs.
  mutating func applyFeatures() {
    burst = min(target.features.burst, Controller.batchMax)
    hasWriteCache = target.hasWriteCache
    for place in 0..<liveCompletion.count {
      let qid = liveCompletion[place]
      let queue = completionQueues + Int(qid.rawValue)
      // Coalescing applies to I/O queues (Base 2.1, 5.1.25.1.4).
      queue.pointee.threshold = qid == .admin ? 1 : target.features.threshold(vector: queue.pointee.vector)
      queue.pointee.aggregationUs = qid == .admin ? 0 : target.features.aggregationUs(vector: queue.pointee.vector)
    }
  }

  // MARK: Namespaces

  /// Attach a namespace; its identifier was free.
  public mutating func attach<P: Port & ~Copyable>(_ namespace: Namespace, _ port: inout P) {
    port.willChange(namespace, isAttached: true)
    target.attach(namespace)
    noteNamespaceChange(&port)
  }

  /// Detach a namespace; its commands in flight complete.
  public mutating func detach<P: Port & ~Copyable>(_ nsid: UInt32, _ port: inout P) {
    guard let namespace = target.namespace(nsid) else { return }
    port.willChange(namespace, isAttached: false)
    if !Mutant.staleNamespace.isPlanted { target.detach(nsid) }
    noteNamespaceChange(&port)
  }

  private mutating func noteNamespaceChange<P: Port & ~Copyable>(_ port: inout P) {
    // A host that has not enabled the controller will read the list itself.
    guard csts.ready, !csts.fatal else { return target.settleNamespaces() }
    report(.namespaceAttributeChanged, &port)
  }

  // MARK: Commands

  /// The segments held for a slot's command: `segmentsMax` of them.
  func held(_ slot: Int) -> UnsafeMutablePointer<Segment> {
    if let made = heldSegments[slot] { return made }
    let made = UnsafeMutablePointer<Segment>.allocate(capacity: Controller.segmentsMax)
    heldSegments[slot] = made
    return made
  }

  /// Allocate a slot for a command of a queue.
  @inline(__always)
  mutating func allocateSlot(_ queue: UnsafeMutablePointer<SubmissionQueue>, _ qid: QueueID) -> Int32 {
    if queue.pointee.held < share(of: qid) { reserved -= 1 }
    queue.pointee.held += 1
    return slots.allocate()
  }

  @inline(__always)
  mutating func releaseCommand(_ index: Int32) {
    let qid = commands[Int(index)].qid
    let queue = submissionQueues + Int(qid.rawValue)
    commands[Int(index)].state = .free
    if Mutant.slotLeak.isPlanted, commands[Int(index)].sqe.opcode == IOOpcode.compare.rawValue { return }
    slots.release(index)
    queue.pointee.held -= 1
    if queue.pointee.exists, queue.pointee.held < share(of: qid) { reserved += 1 }
  }

  @inline(__always)
  private func share(of qid: QueueID) -> UInt32 { qid == .admin ? max(share, Controller.adminShare) : share }

  /// Slots that a queue may allocate now: its own share, and slots that no share needs.
  @inline(__always)
  func room(_ qid: QueueID, held: UInt32) -> Int {
    let own = share(of: qid)
    return slots.freeCount - reserved + (held < own ? Int(own - held) : 0)
  }

  /// Share the pool among the existing queues: half of it, in equal parts.
  mutating func shareSlots() {
    share = UInt32(min(Controller.batchMax, Controller.commandsMax / 2 / max(liveSubmission.count, 1)))
    reserved = slotsToReserve
  }

  /// Slots that queues below their share may still need.
  var slotsToReserve: Int {
    var count = 0
    for place in 0..<liveSubmission.count {
      let qid = liveSubmission[place]
      let held = submissionQueues[Int(qid.rawValue)].held
      count += Int(share(of: qid) - min(held, share(of: qid)))
    }
    return count
  }

  /// Forget every command.
  mutating func dropCommands<P: Port & ~Copyable>(_ port: inout P) {
    if Mutant.resetKeepsCommand.isPlanted, executing > 0 { return }
    isSettling = executing > 0
    if isSettling { port.abandonRequests() }
    executing = isSettling ? 1 : 0
    segmentsInFlight = 0
    (heldSetFeatures, awaitedWrites) = (Command.none, 0)
    fusion = Fusion()
    for slot in 0..<Controller.slots { commands[slot].state = .free }
    slots.releaseAll()
    eventRequests.removeAll(keepingCapacity: true)
  }
}
