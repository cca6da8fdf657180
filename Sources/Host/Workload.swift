import Chance
import NVMe

/// The built-in workload: reads and writes of one size at random or consecutive positions.
public struct Workload: Sendable {
  /// Order and direction of the commands, as fio names them.
  public enum Pattern: String, CaseIterable, Sendable {
    case read, write, randread, randwrite, randrw

    var isRandom: Bool { self != .read && self != .write }
  }

  /// When the workload ends.
  public enum Length: Sendable {
    case commands(UInt64)
    case seconds(Double)
  }

  public var pattern: Pattern
  /// A multiple of the block size, at most the largest transfer.
  public var blockBytes: Int
  /// Commands in flight per queue pair.
  public var depth: Int
  public var length: Length
  /// The same seed gives the same positions in the same order.
  public var seed: UInt64
  /// What the host does wrong, to try a controller or a debugger; nil for nothing.
  public var misbehaviour: Misbehaviour?
  /// After a time limit, abort commands and then reset the controller, as drivers do, instead of giving up.
  public var recovers = false

  /// What a host can do wrong, once it has submitted some commands.
  public enum Misbehaviour: String, CaseIterable, Sendable {
    /// It consumes completions and never frees their entries.
    case neverDrain = "never-drain"
    /// It sometimes gives a command the identifier of one in flight.
    case reuseCID = "reuse-cid"
    /// It resets the controller once while commands are in flight. This is allowed.
    case resetInFlight = "reset-in-flight"
  }

  public init(pattern: Pattern, blockBytes: Int, depth: Int, length: Length, seed: UInt64 = 1) {
    self.pattern = pattern
    self.blockBytes = blockBytes
    self.depth = depth
    self.length = length
    self.seed = seed
  }

  /// The result of one queue pair.
  public struct Result: Sendable {
    public var commands: UInt64 = 0
    /// Commands that completed with an error.
    public var errors: UInt64 = 0
    /// Status of the first command that failed.
    public var firstError = Status.success
    public var ns: UInt64 = 0
    /// Completions that named no outstanding command.
    public var unexpected: UInt64 = 0
    /// Commands that exceeded the time limit, Abort commands, resets, and commands given up by these.
    public var timeouts: UInt64 = 0
    public var aborts: UInt64 = 0
    public var resets: UInt64 = 0
    public var lost: UInt64 = 0

    public init() {}
  }

  /// Run on one queue pair, created for it and deleted afterwards.
  /// - Parameter sleeps: wait for interrupts if polling does not pay (`HostController.needsSleep`).
  /// - Throws: if the workload does not fit the namespace, the device disconnects, or a command never completes.
  public func run(on controller: HostController, sleeps: Bool = false) throws(HostError) -> Result {
    try check(controller)
    let buffer = try controller.share(depth * blockBytes)
    var run = Run(self, controller.namespace, buffer)
    let begin = HostController.nowNs()
    repeat {
      let queue = try controller.makeQueuePair(depth: depth, sleeps: sleeps)
      try drive(&run, on: controller, queue, since: begin)
    } while run.isToContinue
    return run.finished(since: begin)
  }

  /// Run on an existing queue pair, and delete it.
  public func run(
    on controller: HostController, _ queue: consuming QueuePair, _ buffer: SharedMemory
  ) throws(HostError) -> Result {
    try check(controller)
    var run = Run(self, controller.namespace, buffer)
    let begin = HostController.nowNs()
    try drive(&run, on: controller, queue, since: begin)
    return run.finished(since: begin)
  }

  /// Run on this queue pair to the end of the workload, or until a reset deletes it.
  private func drive(
    _ run: inout Run, on controller: HostController, _ queue: consuming QueuePair, since begin: UInt64
  ) throws(HostError) {
    let end: UInt64
    switch length {
    case .seconds(let seconds): end = begin + UInt64(seconds * 1e9)
    case .commands: end = .max
    }
    run.isToContinue = false
    while queue.outstanding > 0 || run.mayGoOn {
      run.fill(&queue)
      queue.ring()
      if run.misbehaves, misbehave(&run, &queue) { return try reset(&run, controller, queue) }
      let isIdle = !run.reap(&queue)
      // The clock is read rarely, so the end is slightly late.
      run.passes += 1
      guard run.passes & 0x3f == 0 else { continue }
      let now = HostController.nowNs()
      if now >= end || controller.stop.isStopped { run.mayGoOn = false }
      guard isIdle, queue.outstanding > 0 else { continue }
      do throws(HostError) { try queue.wait(now: now, on: controller) } catch {
        guard recovers, error.kind == .late, !controller.stop.isStopped else { throw error }
        guard try abortLate(&run, &queue, controller, now) else { return try reset(&run, controller, queue) }
      }
    }
    run.result.unexpected += queue.unexpected
    try controller.delete(queue)
  }

  private func check(_ controller: HostController) throws(HostError) {
    let namespace = controller.namespace
    let granule = 1 << Int(namespace.blockShift)
    guard blockBytes > 0, blockBytes % granule == 0, blockBytes <= controller.maxTransferBytes,
      UInt64(blockBytes) <= namespace.bytes
    else {
      throw HostError(
        "a block of \(blockBytes) bytes is invalid: it must be a multiple of \(granule), at most \(controller.maxTransferBytes)"
      )
    }
  }
}

/// The state of a running workload.
struct Run: ~Copyable {
  private let workload: Workload
  private let limit: UInt64
  private let nsid: UInt32
  private let lbaStep: UInt64
  private let nlb: UInt32
  /// Possible first positions of a command, in blocks of the workload.
  private let places: UInt64
  private let buffer: UnsafeMutableRawPointer

  private var random: SeededGenerator
  private var place: UInt64 = 0
  private var nextBuffer = 0
  private(set) var submitted: UInt64 = 0
  var result = Workload.Result()
  var passes: UInt64 = 0
  var mayGoOn = true
  /// A reset has deleted the queue pair; the workload continues on another.
  var isToContinue = false
  /// Submissions after which the host misbehaves next; `.max` for never.
  private var misbehavesAt: UInt64

  init(_ workload: Workload, _ namespace: HostController.HostNamespace, _ memory: SharedMemory) {
    self.workload = workload
    if case .commands(let count) = workload.length { limit = count } else { limit = .max }
    nsid = namespace.nsid
    lbaStep = UInt64(workload.blockBytes) >> namespace.blockShift
    nlb = UInt32(lbaStep) - 1
    places = namespace.bytes / UInt64(workload.blockBytes)
    buffer = memory.base
    random = SeededGenerator(seed: workload.seed)
    misbehavesAt = workload.misbehaviour == nil ? .max : min(1000, limit / 2)
  }

  func finished(since begin: UInt64) -> Workload.Result {
    var result = result
    result.ns = HostController.nowNs() - begin
    return result
  }

  /// Whether it is time for the host to misbehave.
  @inline(__always)
  var misbehaves: Bool { submitted >= misbehavesAt }

  /// It has misbehaved.
  mutating func misbehaveNext(after commands: UInt64) {
    misbehavesAt = commands == .max ? .max : submitted + commands
  }

  /// Submit one more command, with the identifier of one in flight.
  mutating func submitReused(_ queue: inout QueuePair) {
    let (sqe, target) = nextCommand()
    if queue.submitAgain(sqe, buffer: target, length: workload.blockBytes) { submitted += 1 }
    queue.ring()
  }

  /// Submit up to the depth.
  @inline(__always)
  mutating func fill(_ queue: inout QueuePair) {
    while mayGoOn, queue.outstanding < workload.depth {
      guard submitted < limit else {
        mayGoOn = false
        return
      }
      submitOne(&queue)
    }
  }

  @inline(__always)
  private mutating func submitOne(_ queue: inout QueuePair) {
    let (sqe, target) = nextCommand()
    precondition(queue.submit(sqe, buffer: target, length: workload.blockBytes), "the queue is as deep as the workload")
    submitted += 1
  }

  @inline(__always)
  private mutating func nextCommand() -> (SubmissionEntry, UnsafeMutableRawPointer) {
    var sqe = SubmissionEntry(opcode: opcode().rawValue, cid: CommandID(0), nsid: nsid)
    sqe.slba = nextPlace() * lbaStep
    sqe.cdw12 = nlb
    let target = buffer + nextBuffer * workload.blockBytes
    nextBuffer = nextBuffer + 1 == workload.depth ? 0 : nextBuffer + 1
    return (sqe, target)
  }

  @inline(__always)
  private mutating func opcode() -> IOOpcode {
    switch workload.pattern {
    case .read, .randread: .read
    case .write, .randwrite: .write
    case .randrw: random.next() & 1 == 0 ? .read : .write
    }
  }

  @inline(__always)
  private mutating func nextPlace() -> UInt64 {
    if workload.pattern.isRandom { return random.next().multipliedFullWidth(by: places).high }
    defer { place = place + 1 == places ? 0 : place + 1 }
    return place
  }

  /// - Returns: whether any command had completed.
  @inline(__always)
  mutating func reap(_ queue: inout QueuePair) -> Bool {
    var failed: UInt64 = 0
    var status = Status.success
    let count = queue.reap { cqe, _ in
      if cqe.status.isSuccess { return }
      if failed == 0 { status = cqe.status }
      failed += 1
    }
    if result.errors == 0 { result.firstError = status }
    result.errors += failed
    result.commands += UInt64(count)
    return count > 0
  }
}
