import Chance
import Endpoint
import Glibc
import HeapModule
import NVMe
import Recording
import Target

/// The engine's port to a world generated from a seed: memory, doorbells, backends and timers in virtual time. It
/// checks the rules for a controller and reports violations to the world.
struct SimulatedPort: RecordablePort, ~Copyable {
  /// Maximum bytes of one command's data: the default of `Subsystem`.
  private static let transferMax = 512 << 10
  static let blocks: UInt64 = 4096
  static let blockShift: UInt8 = 9

  let world: World
  var scenario: Scenario
  private var random: SeededGenerator

  /// The blocks of the first namespace; the others store nothing.
  private let storage: UnsafeMutableRawPointer
  /// By slot: buffer for a command's data.
  private let buffers: UnsafeMutableRawPointer
  private static let bufferBytes = Controller.slots * SimulatedPort.transferMax
  /// By slot: requests at the backend.
  private let requests: UnsafeMutablePointer<Pending>
  /// By slot: ranges of requests at the backend, if they have any.
  private var ranges: [Int32: [LogicalBlockRange]] = [:]
  private var due = Heap<Due>()
  private var dues: UInt64 = 0
  /// When each of the backend's parallel servers is idle again.
  private var servers: [UInt64]
  private var timers: [(timer: EngineTimer, dueNs: UInt64)] = []
  private var repeated: (slot: Int32, status: Status)?
  private var isSettling = false
  /// By `place`: the status that a fault requires of a command.
  private let expected: UnsafeMutablePointer<Status?>
  private static let places = World.queuesMax * 256
  /// A flush of all namespaces has completed since this was last cleared.
  var hasFlushedAll = false
  /// A queue was inaccessible, so the controller may fail.
  var hasLostQueue = false
  private var fusions = FusionWatch()
  private var watchesFusions: Bool { scenario.fuses && world.judgesQueues }

  private struct Pending: BitwiseCopyable {
    var request: IORequest
    /// Number of the request; 0 if there is none.
    var number: UInt64
    var beginNs: UInt64
    var isLost = false
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
    buffers = SimulatedPort.mapBuffers()
    requests = .allocate(capacity: Controller.slots)
    let none = IORequest(opcode: .flush, nsid: 0, qid: .admin, cid: CommandID(0), slba: 0, blocks: 0, blockShift: 9)
    requests.initialize(repeating: Pending(request: none, number: 0, beginNs: 0), count: Controller.slots)
    servers = scenario.parallelism == .max ? [] : [UInt64](repeating: 0, count: scenario.parallelism)
    expected = .allocate(capacity: SimulatedPort.places)
    expected.initialize(repeating: nil, count: SimulatedPort.places)
  }

  /// Memory that costs nothing until it is used. Not in `init`: Swift 6.3 releases uninitialised properties if a
  /// condition in the initialiser reads a property of a noncopyable type.
  private static func mapBuffers() -> UnsafeMutableRawPointer {
    let flags = Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE)
    let base = mmap(nil, bufferBytes, PROT_READ | PROT_WRITE, flags, -1, 0)
    // Like a failed allocation: the simulation cannot continue.
    guard let base, base != MAP_FAILED else { fatalError("no address space for the commands' data") }
    return base
  }

  deinit {
    free(storage)
    munmap(buffers, SimulatedPort.bufferBytes)
    requests.deallocate()
    expected.deallocate()
  }

  /// The place of a command, from its queue and the low byte of its identifier.
  private static func place(_ qid: QueueID, _ cid: CommandID) -> Int {
    Int(qid.rawValue) << 8 | Int(cid.rawValue & 0xff)
  }

  /// The status that a fault requires of a command, removed.
  mutating func consumeExpected(_ qid: QueueID, _ cid: CommandID) -> Status? {
    let place = SimulatedPort.place(qid, cid)
    defer { expected[place] = nil }
    return expected[place]
  }

  private func expect(_ status: Status, _ qid: QueueID, _ cid: CommandID) {
    expected[SimulatedPort.place(qid, cid)] = status
  }

  /// The controller was reset: forget all commands.
  mutating func forgetCommands() {
    expected.update(repeating: nil, count: SimulatedPort.places)
    fusions = FusionWatch()
    hasLostQueue = false
  }

  /// When the next request or timer is due; nil if none is. Excludes the Keep Alive Timer, which an active host
  /// restarts.
  var nextNs: UInt64? {
    mutating get {
      forgetCancelled()
      var next = due.min?.ns
      for armed in timers where armed.timer != .keepAlive { next = min(next ?? .max, armed.dueNs) }
      return next
    }
  }

  /// Remove cancelled requests, since an engine without requests does not poll for completions.
  private mutating func forgetCancelled() {
    while let next = due.min, requests[Int(next.slot)].number != next.number { due.removeMin() }
  }

  /// When the Keep Alive Timer expires; nil if it is not armed.
  var keepAliveNs: UInt64? { timers.first { $0.timer == .keepAlive }?.dueNs }

  @inline(__always)
  private mutating func happens(_ every: UInt64?) -> Bool {
    guard let every, every > 0 else { return false }
    return random.oneIn(every)
  }

  @inline(__always)
  private func pass(_ point: DelayPoint, _ qid: QueueID) { world.pass(point, qid.rawValue) }

  // MARK: Host memory

  @inline(__always)
  func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32 {
    let value = world.doorbells[doorbell.index]
    if value != last, !doorbell.isCompletionHead { pass(.doorbell, doorbell.qid) }
    return value
  }
  func clear(_ doorbell: Doorbell) { world.doorbells[doorbell.index] = 0 }

  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    pass(.fetch, qid)
    let queue = world.queues + Int(qid.rawValue)
    if world.judgesQueues { judgeFetch(address, qid, slot, count) }
    guard !happens(scenario.faults?.queueUnreachable),
      let place = world.place(address.rawValue, count * SubmissionEntry.size)
    else {
      hasLostQueue = true
      return false
    }
    UnsafeMutableRawPointer(entries).copyMemory(from: place, byteCount: count * SubmissionEntry.size)
    queue.pointee.fetched += UInt64(count)
    if watchesFusions { for index in 0..<count { fusions.fetched(entries[index], qid) } }
    return true
  }

  private func judgeFetch(_ address: PCIAddress, _ qid: QueueID, _ slot: UInt32, _ count: Int) {
    let queue = world.queues[Int(qid.rawValue)]
    if slot != queue.head || address.rawValue != queue.submissionBase + UInt64(slot) * 64 {
      world.fail("entry \(slot) of submission queue \(qid.rawValue) is fetched instead of entry \(queue.head)")
    }
    if queue.fetched + UInt64(count) > queue.announced {
      world.fail("an entry of submission queue \(qid.rawValue) is fetched before the host announced it")
    }
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    pass(.read, qid)
    guard let place = world.place(address.rawValue, bytes.count) else {
      expect(.dataTransferError, qid, cid)
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

  func begins(qid: QueueID, cid: CommandID) { pass(.begin, qid) }

  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    pass(.map, qid)
    if watchesFusions, segments == 0 { fusions.refused(qid, cid) }
  }

  private func buffer(_ slot: Int32) -> UnsafeMutableRawPointer { buffers + Int(slot) * SimulatedPort.transferMax }

  @inline(__always)
  func payload(of request: IORequest) -> UnsafeRawBufferPointer? {
    guard request.movesData else { return nil }
    return UnsafeRawBufferPointer(start: buffer(request.slot), count: Int(request.byteCount))
  }

  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    pass(direction == .fromHost ? .transferFromHost : .transferToHost, request.qid)
    guard !happens(scenario.faults?.dataUnreachable),
      let place = world.place(segment.address.rawValue, Int(segment.length))
    else {
      expect(.dataTransferError, request.qid, request.cid)
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
    pass(.reach, request.qid)
    if world.place(segment.address.rawValue, Int(segment.length)) != nil { return true }
    expect(.dataTransferError, request.qid, request.cid)
    return false
  }

  func transferred(_ direction: Direction, _ request: IORequest) {
    pass(direction == .fromHost ? .transferredFromHost : .transferredToHost, request.qid)
  }

  // MARK: Backends

  mutating func execute(_ request: IORequest) -> Status? {
    pass(.execute, request.qid)
    if watchesFusions, let wrong = fusions.begin(request) { world.fail(wrong) }
    guard scenario.parallelism > 0 else {
      let status = perform(request)
      if watchesFusions { fusions.end(request, status) }
      return status
    }
    let (begin, end) = serve(request.qid)
    dues += 1
    requests[Int(request.slot)] = Pending(request: request, number: dues, beginNs: begin)
    // The slot may still have the ranges of a cancelled request.
    if !request.ranges.isEmpty || !ranges.isEmpty {
      ranges[request.slot] = request.ranges.isEmpty ? nil : Array(request.ranges)
      requests[Int(request.slot)].request.ranges = UnsafeBufferPointer(start: nil, count: 0)
    }
    if happens(scenario.faults?.backendLoses), request.nsid != .max, request.qid != .admin {
      requests[Int(request.slot)].isLost = true
      world.queues[Int(request.qid.rawValue)].requestsLost += 1
      return nil
    }
    due.insert(Due(ns: end, number: dues, slot: request.slot))
    return nil
  }

  /// When a request that is submitted now begins and ends.
  private mutating func serve(_ qid: QueueID) -> (begin: UInt64, end: UInt64) {
    let span = scenario.serviceNs.upperBound - scenario.serviceNs.lowerBound
    let drawn = scenario.serviceNs.lowerBound + (span == 0 ? 0 : random.next() % span)
    let serviceNs = drawn + world.extraNs(.serve, qid.rawValue)
    guard !servers.isEmpty else { return (world.time.ns, world.time.ns + serviceNs) }
    var server = 0
    for other in servers.indices where servers[other] < servers[server] { server = other }
    let begin = max(servers[server], world.time.ns)
    servers[server] = begin + serviceNs
    return (begin, servers[server])
  }

  /// Perform a request.
  private mutating func perform(_ request: IORequest) -> Status {
    if request.opcode == .flush, request.nsid == .max { hasFlushedAll = true }
    if request.qid != .admin, happens(scenario.faults?.backendError) {
      let status: Status = request.opcode == .read ? .unrecoveredReadError : .writeFault
      // An abandoned request no longer belongs to a command.
      if !isSettling { expect(status, request.qid, request.cid) }
      return status
    }
    guard request.nsid == 1 else { return .success }
    let blocks = storage + Int(request.byteOffset)
    let shift = Int(SimulatedPort.blockShift)
    switch request.opcode {
    case .read: buffer(request.slot).copyMemory(from: blocks, byteCount: Int(request.byteCount))
    case .write: blocks.copyMemory(from: buffer(request.slot), byteCount: Int(request.byteCount))
    case .writeZeroes: memset(blocks, 0, Int(request.byteCount))
    case .compare:
      if memcmp(blocks, buffer(request.slot), Int(request.byteCount)) != 0 { return .compareFailure }
    case .datasetManagement:
      for range in request.ranges { memset(storage + Int(range.slba) << shift, 0, Int(range.blocks) << shift) }
    case .copy:
      var target = blocks
      for range in request.ranges {
        memmove(target, storage + Int(range.slba) << shift, Int(range.blocks) << shift)
        target += Int(range.blocks) << shift
      }
    default: break
    }
    return .success
  }

  /// Perform a request that was submitted earlier.
  private mutating func performDeferred(_ slot: Int32) -> Status {
    var request = requests[Int(slot)].request
    guard let ranges = ranges.isEmpty ? nil : ranges.removeValue(forKey: slot) else { return perform(request) }
    return ranges.withUnsafeBufferPointer {
      request.ranges = $0
      return perform(request)
    }
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
      let status = performDeferred(next.slot)
      // An abandoned request takes effect and has no completion.
      if isSettling { continue }
      if watchesFusions { fusions.end(pending.request, status) }
      pass(.learn, pending.request.qid)
      let done = (next.slot, status)
      if happens(scenario.faults?.backendRepeats) { repeated = done }
      return done
    }
    forgetCancelled()
    guard isSettling, due.isEmpty else { return nil }
    isSettling = false
    return (Controller.abandonedSlot, .success)
  }

  mutating func cancel(_ request: IORequest) -> Bool {
    let pending = requests[Int(request.slot)]
    guard pending.number != 0, scenario.cancelsBegun || pending.beginNs > world.time.ns else { return false }
    requests[Int(request.slot)].number = 0
    if pending.isLost { world.queues[Int(request.qid.rawValue)].requestsLost -= 1 }
    expect(.abortRequested, request.qid, request.cid)
    if watchesFusions { fusions.end(request, .abortRequested) }
    return true
  }

  mutating func release(_ request: IORequest) {
    pass(.release, request.qid)
    if watchesFusions { fusions.refused(request.qid, request.cid) }
  }

  mutating func abandonRequests() {
    isSettling = true
    repeated = nil
    fusions = FusionWatch()
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
    let timer = timers.remove(at: index).timer
    if case .aggregation(let cqid) = timer { pass(.timer, cqid) }
    return timer
  }

  // MARK: Completion

  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    guard let place = prepare(cqe, at: address, cqid: cqid) else { return false }
    show(cqe, at: place)
    return true
  }

  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer? {
    pass(.prepare, cqid)
    guard !happens(scenario.faults?.queueUnreachable), let place = world.place(address.rawValue, CompletionEntry.size)
    else {
      hasLostQueue = true
      return nil
    }
    if world.judgesQueues { judgePosting(cqe, address, cqid) }
    let queue = world.queues + Int(cqid.rawValue)
    if queue.pointee.posted == queue.pointee.signalled { queue.pointee.unsignalledSinceNs = world.time.ns }
    queue.pointee.posted += 1
    return place
  }

  private func judgePosting(_ cqe: CompletionEntry, _ address: PCIAddress, _ cqid: QueueID) {
    let queue = world.queues[Int(cqid.rawValue)]
    let entries = UInt64(queue.completionEntries)
    if queue.posted - queue.freed >= entries - 1 {
      world.fail("completion queue \(cqid.rawValue) of \(entries) entries is overrun")
    }
    if address.rawValue != queue.completionBase + queue.posted % entries * 16 {
      world.fail("a completion is not posted to the next entry of queue \(cqid.rawValue)")
    }
    if cqe.phase != (queue.posted / entries % 2 == 0) {
      world.fail("entry \(queue.posted % entries) of completion queue \(cqid.rawValue) has the wrong phase tag")
    }
    let submission = world.queues[Int(cqe.sqid.rawValue)]
    if submission.submissionEntries > 0, UInt32(cqe.sqhd) != submission.head {
      world.fail("SQHD \(cqe.sqhd) of submission queue \(cqe.sqid.rawValue) should be \(submission.head)")
    }
  }

  func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) {
    pass(.show, cqe.sqid)
    place.storeBytes(of: cqe, as: CompletionEntry.self)
  }

  /// Maximum time from a timer's expiry to its interrupt: the current pass ends first, and reading the clock takes
  /// time.
  private static let interruptSlackNs: UInt64 = 100_000

  private func judgeInterrupt(_ vector: UInt16, _ cqid: QueueID, _ entries: UInt32) {
    let queue = world.queues[Int(cqid.rawValue)]
    let what = { "an interrupt of completion queue \(cqid.rawValue)" }
    if !queue.interruptsEnabled { world.fail("\(what()), which was created with IEN 0, is raised") }
    if vector != queue.vector { world.fail("\(what()), of vector \(queue.vector), is raised with vector \(vector)") }
    let unsignalled = min(queue.posted - queue.signalled, UInt64(queue.completionEntries))
    if UInt64(entries) != unsignalled { world.fail("\(what()) announces \(entries) entries, \(unsignalled) are new") }
    // Coalescing is for I/O queues (Base 2.1, 5.1.25.1.4).
    let threshold = cqid == .admin ? 1 : UInt32(scenario.threshold) + 1
    let aggregationNs = cqid == .admin ? 0 : UInt64(scenario.aggregation) * 100_000
    let waitedNs = world.time.ns - queue.unsignalledSinceNs
    if entries > threshold || waitedNs > aggregationNs + SimulatedPort.interruptSlackNs {
      world.fail("\(what()) is late: after \(entries) entries and \(waitedNs) ns")
    }
    if entries < threshold, waitedNs < aggregationNs {
      world.fail("\(what()) is early: after \(entries) entries and \(waitedNs) ns")
    }
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    if world.judgesQueues { judgeInterrupt(vector, cqid, entries) }
    pass(.interrupt, cqid)
    world.queues[Int(cqid.rawValue)].signalled = world.queues[Int(cqid.rawValue)].posted
    guard Int(vector) < World.queuesMax else { return }
    if happens(scenario.faults?.interruptLost) {
      world.queues[Int(cqid.rawValue)].interruptsLost += 1
      return
    }
    let isLate = happens(scenario.faults?.interruptLate)
    let line = world.interrupts + Int(vector)
    line.pointee.add(world.time.ns + (isLate ? random.next() % 200_000 : 0))
    if happens(scenario.faults?.interruptRepeated) {
      line.pointee.add(world.time.ns + random.next() % 50_000)
    }
  }
}
