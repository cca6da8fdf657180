import Endpoint
import Events
import Faults
import NVMe
import Platform
import Recording
import Synchronization
import Target

/// A live port that injects faults between the engine and its surroundings.
///
/// The engine itself does everything right: what it receives is recorded as it received it, and what it sends is
/// recorded before a fault changes it. So a recording with faults replays like any other, and its `fault` events tell
/// what the host saw instead. docs/injection.md says that precisely for each fault.
///
/// Its calls stay out of line: they count references and allocate, which no function of the engine may do for each command.
struct FaultPort: LivePortHolder, ~Copyable {
  static var injects: Bool { true }

  var live: LivePort<MachineTime>
  var rules: FaultRules
  let counts: FaultCounts
  /// Takes the link down for so many nanoseconds, on another thread.
  private let loseLink: @Sendable (UInt64) -> Void
  /// Faults to record, oldest first.
  private var notes: [Event.Fault] = []
  /// By queue and command identifier: the commands in flight, if a rule asks for them.
  var commands: [UInt32: FaultCommand] = [:]
  private static let commandsMax = 1 << 14

  /// By completion queue.
  var queues = [HostCompletionQueue](repeating: HostCompletionQueue(), count: Doorbell.pairs)
  /// By completion queue: entries of the one that a fetched command creates.
  var newSizes = [UInt32](repeating: 0, count: Doorbell.pairs)
  /// Completions that wait in all queues.
  var heldCompletions = 0
  /// What `show` does with the completion that was prepared last.
  var action = FaultedCompletion.asItIs
  /// Stands for an entry that is not written.
  let nowhere = UnsafeMutableRawPointer.allocate(byteCount: CompletionEntry.size, alignment: 16)

  private var lateInterrupts: [(dueNs: UInt64, vector: UInt16, cqid: QueueID, rule: UInt32)] = []
  /// By submission queue: until when its tail doorbell is stuck, 0 for not, and the rule.
  private var stuck = [(untilNs: UInt64, rule: UInt32)](repeating: (0, 0), count: Doorbell.pairs)
  private var requests = HeldRequests()
  /// Until when the backend begins nothing, and the rule; 0 for not.
  var stall: (untilNs: UInt64, rule: UInt32) = (0, 0)

  init(
    _ live: consuming LivePort<MachineTime>, _ plan: FaultPlan, _ counts: FaultCounts,
    loseLink: @escaping @Sendable (UInt64) -> Void
  ) {
    self.live = live
    rules = FaultRules(plan.faults, seed: plan.seed)
    self.counts = counts
    self.loseLink = loseLink
  }

  deinit { nowhere.deallocate() }

  // MARK: Recording

  mutating func note(
    _ kind: Fault.Kind, _ rule: UInt32, _ qid: QueueID, _ cid: CommandID?, _ detail: UInt64, ended: Bool = false
  ) {
    if !ended { counts.add(kind) }
    notes.append(
      Event.Fault(
        fault: .init(rawValue: kind.rawValue), qid: qid.rawValue, cid: cid?.rawValue ?? 0, detail: detail, rule: rule,
        ended: ended ? 1 : 0))
  }

  @inline(never)
  mutating func nextFault() -> Event.Fault? { notes.isEmpty ? nil : notes.removeFirst() }

  /// When something that lasts so long ends.
  static func end(after ns: UInt64) -> UInt64 { ns == .max ? .max : Clock.monotonicNs() &+ ns }

  /// A new pass: write and raise what is due.
  @inline(never)
  mutating func beginPass() {
    guard heldCompletions > 0 || !lateInterrupts.isEmpty else { return }
    let now = Clock.monotonicNs()
    if heldCompletions > 0 {
      for number in queues.indices where !queues[number].held.isEmpty { writeHeld(number, nowNs: now) }
    }
    while let place = lateInterrupts.firstIndex(where: { $0.dueNs <= now }) {
      let late = lateInterrupts.remove(at: place)
      note(.lateInterrupt, late.rule, late.cqid, nil, 0, ended: true)
      live.interrupts.raise(late.vector)
    }
  }

  // MARK: Delays

  /// A command reaches a stage.
  private mutating func spend(_ stage: Fault.Stage, _ qid: QueueID, _ cid: CommandID?, _ command: FaultCommand? = nil) {
    guard let strike = rules.pass(.delay, qid, command, stage: stage) else { return }
    note(.delay, strike.rule, qid, cid, strike.fault.ns)
    let end = Clock.monotonicNs() &+ strike.fault.ns
    while true {
      let now = Clock.monotonicNs()
      if now >= end { return }
      if strike.fault.sleeps { Backoff.sleep(ns: end - now) }
    }
  }

  func command(_ qid: QueueID, _ cid: CommandID) -> FaultCommand? {
    rules.needsCommands ? commands[FaultPort.key(qid, cid)] : nil
  }

  static func key(_ qid: QueueID, _ cid: CommandID) -> UInt32 { UInt32(qid.rawValue) << 16 | UInt32(cid.rawValue) }
}

extension FaultPort {
  // MARK: From outside

  @inline(never)
  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64) { noteAdminQueue(offset, width, value) }

  @inline(never)
  mutating func willReset(_ reason: ResetReason) { lateInterrupts.removeAll() }

  @inline(never)
  mutating func willChange(_ namespace: Namespace, isAttached: Bool) {
    if !isAttached { requests.orphan(nsid: namespace.nsid) }
  }

  // MARK: Doorbells

  @inline(never)
  mutating func doorbell(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    if doorbell.isCompletionHead { return completionHead(doorbell, last: seen) }
    let place = Int(doorbell.qid.rawValue)
    if stuck[place].untilNs != 0 {
      guard Clock.monotonicNs() >= stuck[place].untilNs else { return seen }
      note(.stuckDoorbell, stuck[place].rule, doorbell.qid, nil, 0, ended: true)
      stuck[place] = (0, 0)
      return live.doorbell(doorbell, last: seen)
    }
    let value = live.doorbell(doorbell, last: seen)
    guard value != seen else { return value }
    if let strike = rules.pass(.stuckDoorbell, doorbell.qid, nil) {
      note(.stuckDoorbell, strike.rule, doorbell.qid, nil, strike.fault.ns)
      stuck[place] = (FaultPort.end(after: strike.fault.ns), strike.rule)
      return seen
    }
    spend(.detect, doorbell.qid, nil)
    return value
  }

  @inline(never)
  mutating func clear(_ doorbell: Doorbell) {
    live.clear(doorbell)
    if doorbell.isCompletionHead {
      renew(doorbell.qid)
      lateInterrupts.removeAll { $0.cqid == doorbell.qid }
    } else {
      stuck[Int(doorbell.qid.rawValue)] = (0, 0)
    }
  }

  // MARK: Commands

  @inline(never)
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    spend(.fetch, qid, nil)
    if let strike = rules.pass(.controllerFatal, qid, nil) {
      note(.controllerFatal, strike.rule, qid, nil, 0)
      live.unreached = Unreached(what: "fault injected into", qid: qid, address: address, isInjected: true)
      return false
    }
    guard live.fetch(address, qid: qid, slot: slot, count: count, into: entries) else { return false }
    for place in 0..<count { remember(entries[place], qid) }
    return true
  }

  private mutating func remember(_ sqe: SubmissionEntry, _ qid: QueueID) {
    if qid == .admin, sqe.opcode == AdminOpcode.createIOCompletionQueue.rawValue {
      let created = Int(sqe.cdw10 & 0xffff)
      if newSizes.indices.contains(created) { newSizes[created] = sqe.cdw10 >> 16 + 1 }
    }
    guard rules.needsCommands else { return }
    // Commands of deleted queues stay; a host cannot make many of them.
    if commands.count >= FaultPort.commandsMax { commands.removeAll() }
    commands[FaultPort.key(qid, sqe.cid)] = FaultCommand(sqe)
  }

  @inline(never)
  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    if rules.has(.prpOffByOne), qid != .admin, let command = command(qid, cid), command.usesPRPLists,
      let strike = rules.pass(.prpOffByOne, qid, command)
    {
      note(.prpOffByOne, strike.rule, qid, cid, address.rawValue)
      return live.read(PCIAddress(address.rawValue &+ 8), into: bytes, qid: qid, cid: cid)
    }
    return live.read(address, into: bytes, qid: qid, cid: cid)
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    live.write(address, bytes, qid: qid, cid: cid)
  }

  @inline(never)
  mutating func begins(qid: QueueID, cid: CommandID) {
    let command = command(qid, cid)
    spend(.dispatch, qid, cid, command)
    guard let strike = rules.pass(.linkLoss, qid, command) else { return }
    note(.linkLoss, strike.rule, qid, cid, strike.fault.ns)
    loseLink(strike.fault.ns)
  }

  @inline(never)
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    spend(.map, qid, cid, command(qid, cid))
  }

  // MARK: Data

  /// Without data there is nothing to transfer, and no such stage.
  @inline(never)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    guard live.payload(of: request) != nil else {
      return live.transfer(direction, request, offset: offset, segment)
    }
    let command = FaultCommand(request)
    spend(direction == .fromHost ? .dataIn : .dataOut, request.qid, request.cid, command)
    if let strike = rules.pass(.failTransfer, request.qid, command) {
      note(.failTransfer, strike.rule, request.qid, request.cid, 0)
      return false
    }
    var transferred = segment
    if let strike = rules.pass(.shortTransfer, request.qid, command) {
      transferred.length /= 2
      note(.shortTransfer, strike.rule, request.qid, request.cid, UInt64(transferred.length))
    }
    return live.transfer(direction, request, offset: offset, transferred)
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    live.reaches(direction, request, segment)
  }

  mutating func payload(of request: IORequest) -> UnsafeRawBufferPointer? { live.payload(of: request) }

  // MARK: Backends

  @inline(never)
  mutating func execute(_ request: IORequest) -> Status? {
    let command = FaultCommand(request)
    spend(.execute, request.qid, request.cid, command)
    if let strike = rules.pass(.error, request.qid, command) {
      note(.error, strike.rule, request.qid, request.cid, UInt64(strike.fault.status))
      return Status(rawValue: strike.fault.status)
    }
    if let strike = rules.pass(.stall, request.qid, command) {
      note(.stall, strike.rule, request.qid, request.cid, strike.fault.ns)
      stall = (FaultPort.end(after: strike.fault.ns), strike.rule)
    } else if let strike = rules.pass(.slowRequest, request.qid, command) {
      note(.slowRequest, strike.rule, request.qid, request.cid, strike.fault.ns)
      requests.add(
        request, dueNs: FaultPort.end(after: strike.fault.ns), kind: Fault.Kind.slowRequest.rawValue, rule: strike.rule)
      return nil
    }
    if isStalled {
      requests.add(request, dueNs: stall.untilNs, kind: Fault.Kind.stall.rawValue, rule: stall.rule)
      return nil
    }
    return live.execute(request)
  }

  private var isStalled: Bool { stall.untilNs != 0 && Clock.monotonicNs() < stall.untilNs }

  @inline(never)
  mutating func completion() -> (slot: Int32, status: Status)? {
    if let next = live.completion() { return next }
    while !requests.isEmpty {
      guard let next = requests.submitNext(nowNs: Clock.monotonicNs(), { live.execute($0) }) else { return nil }
      if let kind = Fault.Kind(rawValue: next.kind) {
        note(kind, next.rule, next.request.qid, next.request.cid, 0, ended: true)
      }
      if let status = next.status { return (next.request.slot, status) }
    }
    return nil
  }

  @inline(never)
  mutating func cancel(_ request: IORequest) -> Bool { requests.remove(slot: request.slot) || live.cancel(request) }

  mutating func release(_ request: IORequest) { live.release(request) }

  /// A reset also ends a stall.
  @inline(never)
  mutating func abandonRequests() {
    requests.removeAll()
    stall = (0, 0)
    live.abandonRequests()
  }

  // MARK: Time

  mutating func clockMs() -> UInt64 { live.clockMs() }
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) { live.arm(timer, afterUs: afterUs) }
  mutating func disarm(_ timer: EngineTimer) { live.disarm(timer) }
  mutating func expired() -> EngineTimer? { live.expired() }

  // MARK: Completion

  @inline(never)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    guard let place = prepare(cqe, at: address, cqid: cqid) else { return false }
    show(cqe, at: place)
    return true
  }

  @inline(never)
  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer? {
    let command =
      rules.needsCommands ? commands.removeValue(forKey: FaultPort.key(cqe.sqid, cqe.cid)) : nil
    spend(.complete, cqid, cqe.cid, command)
    guard rules.changesCompletions, queues[Int(cqid.rawValue)].isKnown else {
      action = .asItIs
      return live.prepare(cqe, at: address, cqid: cqid)
    }
    return prepareChanged(cqe, at: address, cqid, command)
  }

  @inline(never)
  mutating func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) { showChanged(cqe, at: place) }

  @inline(never)
  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    spend(.interrupt, cqid, nil)
    let place = Int(cqid.rawValue)
    queues[place].vector = vector
    if rules.changesCompletions, queues[place].isKnown {
      // An interrupt whose entries all are missing has nothing to announce.
      if queues[place].unannounced == 0 { return }
      queues[place].unannounced = 0
    }
    if let strike = rules.pass(.dropInterrupt, cqid, nil, entries: entries) {
      return note(.dropInterrupt, strike.rule, cqid, nil, UInt64(vector))
    }
    if let strike = rules.pass(.lateInterrupt, cqid, nil, entries: entries) {
      note(.lateInterrupt, strike.rule, cqid, nil, strike.fault.ns)
      lateInterrupts.append((FaultPort.end(after: strike.fault.ns), vector, cqid, strike.rule))
      return
    }
    live.interrupt(vector: vector, cqid: cqid, entries: entries)
    guard let strike = rules.pass(.duplicateInterrupt, cqid, nil, entries: entries) else { return }
    note(.duplicateInterrupt, strike.rule, cqid, nil, UInt64(vector))
    live.interrupt(vector: vector, cqid: cqid, entries: entries)
  }
}
