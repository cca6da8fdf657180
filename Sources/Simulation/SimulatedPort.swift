import Chance
import Endpoint
import Glibc
import HeapModule
import NVMe
import Recording
import Target

/// The engine's port to a world that a seed has made: memory, doorbells, backends and timers in virtual time. It knows
/// what a controller may do and tells the world of what it must not.
struct SimulatedPort: RecordablePort, ~Copyable {
  /// Bytes of one command's data at most.
  static let transferMax = 32 << 10
  static let blocks: UInt64 = 4096
  static let blockShift: UInt8 = 9

  let world: World
  private let scenario: Scenario
  private var random: SeededGenerator

  /// By namespace identifier; the blocks of the first are kept, of others nothing is.
  private let storage: UnsafeMutableRawPointer
  /// By slot: room for a command's data.
  private let buffers: UnsafeMutableRawPointer
  /// By slot: what the backend is at.
  private let requests: UnsafeMutablePointer<Pending>
  private var due = Heap<Due>()
  private var dues: UInt64 = 0
  /// When each of the backend's servers is free again.
  private var servers: [UInt64]
  private var timers: [(timer: EngineTimer, dueNs: UInt64)] = []
  private var repeated: (slot: Int32, status: Status)?
  private var isSettling = false
  /// By queue and command identifier, what a fault has done to a command: the status that it must have.
  var expected: [UInt32: Status] = [:]
  /// A flush of all that the engine asked for since it was last looked at.
  var hasFlushedAll = false
  /// Requests that the backend has lost.
  var lostRequests = 0

  private struct Pending: BitwiseCopyable {
    var request: IORequest
    /// Which request of the slot it is; 0 for none.
    var number: UInt64
    var beginNs: UInt64
  }

  private struct Due: Comparable {
    let ns: UInt64
    let number: UInt64
    let slot: Int32
    static func < (a: Due, b: Due) -> Bool { (a.ns, a.number) < (b.ns, b.number) }
  }

  init(_ world: World, _ scenario: Scenario, seed: UInt64) {
    self.world = world
    self.scenario = scenario
    random = SeededGenerator(seed: seed)
    storage = calloc(Int(SimulatedPort.blocks), 1 << Int(SimulatedPort.blockShift))!
    buffers = calloc(Controller.slots, SimulatedPort.transferMax)!
    requests = .allocate(capacity: Controller.slots)
    let none = IORequest(opcode: .flush, nsid: 0, qid: .admin, cid: CommandID(0), slba: 0, blocks: 0, blockShift: 9)
    requests.initialize(repeating: Pending(request: none, number: 0, beginNs: 0), count: Controller.slots)
    servers = [UInt64](repeating: 0, count: scenario.parallelism)
  }

  deinit {
    free(storage)
    free(buffers)
    requests.deallocate()
  }

  static func name(_ qid: QueueID, _ cid: CommandID) -> UInt32 { UInt32(qid.rawValue) << 16 | UInt32(cid.rawValue) }

  /// When something happens next by itself; nil where nothing does.
  var nextNs: UInt64? {
    var next = due.min?.ns
    for armed in timers { next = min(next ?? .max, armed.dueNs) }
    return next
  }

  @inline(__always)
  private mutating func happens(_ every: UInt64?) -> Bool {
    guard let every, every > 0 else { return false }
    return random.oneIn(every)
  }

  // MARK: From outside

  func registerWritten(offset: UInt64, width: Int, value: UInt64) {}
  func registerRead(offset: UInt64, width: Int, value: UInt64) {}
  func willReset(_ reason: ResetReason) {}
  func willChange(_ namespace: Namespace, isAttached: Bool) {}

  // MARK: Host memory

  @inline(__always)
  func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32 { world.doorbells[doorbell.index] }
  func clear(_ doorbell: Doorbell) { world.doorbells[doorbell.index] = 0 }

  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    let queue = world.queues + Int(qid.rawValue)
    if slot != queue.pointee.head || address.rawValue != queue.pointee.submissionBase + UInt64(slot) * 64 {
      world.fail("entry \(slot) of submission queue \(qid.rawValue) is fetched, entry \(queue.pointee.head) is next")
    }
    if queue.pointee.fetched + UInt64(count) > queue.pointee.announced {
      world.fail("an entry of submission queue \(qid.rawValue) is fetched that the host has not announced")
    }
    if happens(scenario.faults?.queueUnreachable) { return false }
    guard let place = world.place(address.rawValue, count * SubmissionEntry.size) else { return false }
    UnsafeMutableRawPointer(entries).copyMemory(from: place, byteCount: count * SubmissionEntry.size)
    queue.pointee.fetched += UInt64(count)
    return true
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    guard let place = world.place(address.rawValue, bytes.count) else {
      expected[SimulatedPort.name(qid, cid)] = .dataTransferError
      return false
    }
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: place, count: bytes.count))
    return true
  }

  func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    guard let place = world.place(address.rawValue, bytes.count) else { return false }
    place.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    return true
  }

  func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {}

  private func buffer(_ slot: Int32) -> UnsafeMutableRawPointer { buffers + Int(slot) * SimulatedPort.transferMax }

  func payload(of request: IORequest) -> UnsafeRawBufferPointer? {
    guard request.movesData else { return nil }
    return UnsafeRawBufferPointer(start: buffer(request.slot), count: Int(request.byteCount))
  }

  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let name = SimulatedPort.name(request.qid, request.cid)
    if happens(scenario.faults?.dataUnreachable) {
      expected[name] = .dataTransferError
      return false
    }
    guard let place = world.place(segment.address.rawValue, Int(segment.length)) else {
      expected[name] = .dataTransferError
      return false
    }
    let data = buffer(request.slot) + Int(offset)
    switch direction {
    case .toHost: place.copyMemory(from: data, byteCount: Int(segment.length))
    case .fromHost: data.copyMemory(from: place, byteCount: Int(segment.length))
    }
    return true
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    if world.place(segment.address.rawValue, Int(segment.length)) != nil { return true }
    expected[SimulatedPort.name(request.qid, request.cid)] = .dataTransferError
    return false
  }

  func transferred(_ direction: Direction, _ request: IORequest) {}

  // MARK: Backends

  mutating func execute(_ request: IORequest) -> Status? {
    if request.opcode == .flush, request.nsid == .max { hasFlushedAll = true }
    guard scenario.parallelism > 0 else { return perform(request) }
    let server = servers.indices.min { servers[$0] < servers[$1] }!
    let begin = max(servers[server], world.time.ns)
    let span = scenario.serviceNs.upperBound - scenario.serviceNs.lowerBound
    servers[server] = begin + scenario.serviceNs.lowerBound + (span == 0 ? 0 : random.next() % span)
    dues += 1
    requests[Int(request.slot)] = Pending(request: request, number: dues, beginNs: begin)
    requests[Int(request.slot)].request.ranges = UnsafeBufferPointer(start: nil, count: 0)
    if happens(scenario.faults?.backendLoses), request.nsid != .max, request.qid != .admin {
      lostRequests += 1
      return nil
    }
    due.insert(Due(ns: servers[server], number: dues, slot: request.slot))
    return nil
  }

  /// Do what the request asks.
  private mutating func perform(_ request: IORequest) -> Status {
    if request.qid != .admin, happens(scenario.faults?.backendError) {
      let status: Status = request.opcode == .read ? .unrecoveredReadError : .writeFault
      expected[SimulatedPort.name(request.qid, request.cid)] = status
      return status
    }
    guard request.nsid == 1 else { return .success }
    let blocks = storage + Int(request.byteOffset)
    switch request.opcode {
    case .read: buffer(request.slot).copyMemory(from: blocks, byteCount: Int(request.byteCount))
    case .write: blocks.copyMemory(from: buffer(request.slot), byteCount: Int(request.byteCount))
    case .writeZeroes: memset(blocks, 0, Int(request.byteCount))
    case .compare:
      if memcmp(blocks, buffer(request.slot), Int(request.byteCount)) != 0 { return .compareFailure }
    default: break
    }
    return .success
  }

  mutating func completion() -> (slot: Int32, status: Status)? {
    if let again = repeated {
      repeated = nil
      return again
    }
    while let next = due.min, next.ns <= world.time.ns {
      due.removeMin()
      let pending = requests[Int(next.slot)]
      guard pending.number == next.number else { continue }
      requests[Int(next.slot)].number = 0
      let status = perform(pending.request)
      // What was abandoned still happens, and nobody hears of it.
      if isSettling { continue }
      let done = (next.slot, status)
      if happens(scenario.faults?.backendRepeats) { repeated = done }
      return done
    }
    guard isSettling, due.isEmpty else { return nil }
    isSettling = false
    return (Controller.abandonedSlot, .success)
  }

  mutating func cancel(_ request: IORequest) -> Bool {
    let pending = requests[Int(request.slot)]
    guard pending.number != 0, pending.beginNs > world.time.ns else { return false }
    requests[Int(request.slot)].number = 0
    expected[SimulatedPort.name(request.qid, request.cid)] = .abortRequested
    return true
  }

  func release(_ request: IORequest) {}

  mutating func abandonRequests() {
    isSettling = true
    repeated = nil
    lostRequests = 0
  }

  // MARK: Time

  func clockMs() -> UInt64 { world.time.realtimeNs() / 1_000_000 }

  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) {
    disarm(timer)
    timers.append((timer, world.time.ns + afterUs * 1000))
  }

  mutating func disarm(_ timer: EngineTimer) { timers.removeAll { $0.timer == timer } }

  mutating func expired() -> EngineTimer? {
    guard let index = timers.firstIndex(where: { $0.dueNs <= world.time.ns }) else { return nil }
    return timers.remove(at: index).timer
  }

  // MARK: Completion

  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    guard let place = prepare(cqe, at: address, cqid: cqid) else { return false }
    show(cqe, at: place)
    return true
  }

  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer? {
    if happens(scenario.faults?.queueUnreachable) { return nil }
    guard let place = world.place(address.rawValue, CompletionEntry.size) else { return nil }
    let queue = world.queues + Int(cqid.rawValue)
    let entries = UInt64(queue.pointee.completionEntries)
    if queue.pointee.posted - queue.pointee.freed >= entries - 1 {
      world.fail("completion queue \(cqid.rawValue) of \(entries) entries is overrun")
    }
    if address.rawValue != queue.pointee.completionBase + queue.pointee.posted % entries * 16 {
      world.fail("a completion is not posted to the next entry of queue \(cqid.rawValue)")
    }
    if cqe.phase != (queue.pointee.posted / entries % 2 == 0) {
      world.fail("entry \(queue.pointee.posted % entries) of completion queue \(cqid.rawValue) has the wrong phase tag")
    }
    let submission = world.queues[Int(cqe.sqid.rawValue)]
    if submission.submissionEntries > 0, UInt32(cqe.sqhd) != submission.head {
      world.fail("SQHD \(cqe.sqhd) of submission queue \(cqe.sqid.rawValue), of which entry \(submission.head) is next")
    }
    queue.pointee.posted += 1
    return place
  }

  func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) {
    place.storeBytes(of: cqe, as: CompletionEntry.self)
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    if happens(scenario.faults?.interruptLost) {
      world.queues[Int(cqid.rawValue)].interruptsLost += 1
      return
    }
    let isLate = happens(scenario.faults?.interruptLate)
    world.interrupts.append((world.time.ns + (isLate ? random.next() % 200_000 : 0), vector))
    if happens(scenario.faults?.interruptRepeated) {
      world.interrupts.append((world.time.ns + random.next() % 50_000, vector))
    }
  }

  func completionQueueFull(_ cqid: QueueID) {}
}
