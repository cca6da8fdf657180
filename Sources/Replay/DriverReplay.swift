import Endpoint
import NVMe
import Target
import Text
import Trace

/// Replays a recording of nvmet-pci-epf: the engine receives the registers, submission queue entries and lists that the
/// driver received, and its segments and completions are compared with the driver's. Backend results come from the
/// recording.
public struct DriverReplay: ~Copyable {
  private let recording: DriverRecording
  private var controller: Controller
  private var port = DriverPort()
  private var result = DriverReplayResult()
  /// Existing submission queues.
  private var queues: [UInt16: Queue] = [:]
  /// Create commands that the driver refused because the queue was not contiguous.
  private var refusedCreates: Set<RefusedCreate> = []
  /// Submission queues that the host has deleted.
  private var deletedQueues: Set<UInt16> = []
  /// The engine's controller matches the recorded state.
  private var isFromBegin: Bool
  /// Admin Queue Attributes as last written; enabling applies them.
  private var aqa: UInt32 = 0
  private var state = State.unknown
  /// The next of the recording's steps.
  private var next = 0
  private let id: UInt16

  /// How the engine's controller follows the driver's.
  private enum State {
    /// No enabling has been replayed.
    case unknown
    case disabled
    /// Enabled with this CC.
    case enabled(cc: UInt32)
    /// The engine failed where the driver continued; this has been reported.
    case ended
  }

  /// A submission queue as the driver sees it.
  private struct Queue {
    let depth: UInt32
    /// The entry that it fetches next.
    var next: UInt32 = 0
    /// A fetch of that entry failed: the driver may continue after it.
    var nextFailed = false
    /// `DriverCommand.doubts` of the previous command.
    var doubts: UInt32 = 0
  }

  private struct RefusedCreate: Hashable {
    let isCompletionQueue: Bool
    let qid: UInt16
  }

  /// A worker that has not finished within this time after its command's completion never will, nanoseconds.
  private static let workTimeoutNs: UInt64 = 1_000_000_000
  /// The target core advances the head and stamps its event in two steps: others may come in between.
  private static let headSlack: UInt64 = 4

  /// - Parameter controller: its identifier.
  public init(_ reader: TraceReader, controller id: UInt16) throws(TraceError) {
    var events = try MergedEvents(reader)
    var recording = DriverRecording(controller: id, bytesMax: DriverRecording.bytesMax - events.bytesMax)
    while let (record, stream) = try events.next() {
      if stream.source == .kernel { recording.ingest(record, stream: stream.stream) }
    }
    recording.finish()
    self.init(recording, controller: id)
  }

  private init(_ recording: DriverRecording, controller id: UInt16) {
    self.recording = recording
    self.id = id
    isFromBegin = !recording.wasRunning
    controller = Controller(
      DriverReplay.subsystem(recording, id), namespaces: DriverReplay.namespaces(recording))
  }

  /// The driver's controller, as far as its results reveal it.
  private static func subsystem(_ recording: DriverRecording, _ id: UInt16) -> Subsystem {
    var subsystem = Subsystem()
    subsystem.controllerID = id
    subsystem.maxTransferBytes = Subsystem.maxTransferLimit
    subsystem.ioQueuesMax = Subsystem.ioQueuesLimit
    subsystem.vectors = 2048
    subsystem.namespacesMax = Subsystem.namespacesLimit
    subsystem.queueEntriesMax = 65536
    for command in recording.commands where command.qid == 0 {
      let isQueueCount = command.sqe.opcode == AdminOpcode.setFeatures.rawValue && command.sqe.cdw10 & 0xff == 7
      if isQueueCount, let entry = command.completion?.entry, entry.status.isSuccess {
        subsystem.ioQueuesMax = max(1, min(UInt16(truncatingIfNeeded: entry.dw0) &+ 1, Subsystem.ioQueuesLimit))
      }
    }
    return subsystem
  }

  /// Commands reveal only the block size of each namespace. Its backend knows where it ends.
  private static func namespaces(_ recording: DriverRecording) -> [Namespace] {
    var shifts: [UInt32: UInt8] = [:]
    for command in recording.commands where command.qid != 0 {
      guard let opcode = IOOpcode(rawValue: command.sqe.opcode), opcode == .read || opcode == .write,
        let bytes = command.executed?.bytes, bytes > 0, shifts.count < 64
      else { continue }
      let shift = (UInt32(bytes) / (command.sqe.cdw12 & 0xffff + 1)).trailingZeroBitCount
      if (9...16).contains(shift) { shifts[command.sqe.nsid] = shifts[command.sqe.nsid] ?? UInt8(shift) }
    }
    if shifts.isEmpty { shifts[1] = 9 }
    return shifts.map { Namespace(nsid: $0.key, blocks: 1 << 40, blockShift: $0.value) }
      .filter(\.isValid).sorted { $0.nsid < $1.nsid }
  }

  public consuming func run() -> DriverReplayResult {
    result.events = recording.events
    result.endsAtGap = recording.endsAtGap
    result.afterEnd = recording.afterEnd
    for fault in recording.faults {
      result.add(DriverDifference(timeNs: fault.time, command: fault.subject, what: fault.what, kind: .new))
    }
    advance(upTo: .max)
    return result
  }

  /// Give the engine what the driver received up to this time, nanoseconds since the trace began. A command is performed
  /// when it was fetched, with what the driver did for it later.
  public mutating func advance(upTo ns: UInt64) {
    while next < recording.steps.count, time(of: recording.steps[next]) <= ns {
      switch recording.steps[next] {
      case .registerWrite(let offset, let width, let value, _): write(value, to: offset, width)
      case .linkDown: linkDown()
      case .command(let index): replay(recording.commands[index])
      }
      next += 1
    }
  }

  private func time(of step: DriverStep) -> UInt64 {
    switch step {
    case .registerWrite(_, _, _, let ns), .linkDown(let ns): ns
    case .command(let index): recording.commands[index].time
    }
  }

  /// Begin again.
  public mutating func rewind() {
    controller = Controller(DriverReplay.subsystem(recording, id), namespaces: DriverReplay.namespaces(recording))
    port = DriverPort()
    result = DriverReplayResult()
    (queues, refusedCreates, deletedQueues) = ([:], [], [])
    isFromBegin = !recording.wasRunning
    (aqa, state, next) = (0, .unknown, 0)
  }

  /// What the engine holds now.
  public var engineState: EngineState { controller.state }
  /// Whether the engine's controller follows the driver's: it does not while one that was enabled before the recording
  /// began still runs.
  public var isFollowing: Bool { isFromBegin }
  /// When events were lost or, otherwise, the limit of a replay was reached: nothing later is replayed.
  public var stop: (ns: UInt64, isLoss: Bool)? { recording.stopNs.map { ($0, recording.endsAtGap) } }
  /// What was compared so far.
  public var soFar: DriverReplayResult { result }

  private mutating func linkDown() {
    controller.reset(.linkDown, &port)
    forgetQueues()
    aqa = 0
    if case .unknown = state { return }
    state = .disabled
  }

  private mutating func write(_ value: UInt64, to offset: UInt64, _ width: Int) {
    guard width == 4 || width == 8, offset < 0x1000 else { return }
    let isConfiguration = offset == Register.cc
    let enables = value & 1 != 0
    if isConfiguration, !enables { isFromBegin = true }
    // The engine cannot reproduce the history of a controller that ran before the recording began.
    guard isFromBegin || !isConfiguration else { return }
    if offset == Register.aqa { aqa = UInt32(truncatingIfNeeded: value) }
    controller.writeRegister(offset: offset, width: width, value: value, &port)
    guard isConfiguration else { return }
    switch state {
    case .unknown where enables, .disabled where enables:
      forgetQueues()
      queues[0] = Queue(depth: (aqa & 0xfff) + 1)
      port.depths[0] = (aqa >> 16 & 0xfff) + 1
      state = .enabled(cc: UInt32(truncatingIfNeeded: value))
    case _ where !enables:
      forgetQueues()
      state = .disabled
    default: break
    }
  }

  private mutating func forgetQueues() {
    queues = [:]
    deletedQueues = []
    refusedCreates = []
    port.forgetQueues()
    port.depths = [:]
  }

  private mutating func replay(_ command: DriverCommand) {
    guard isComparable(command), var queue = queues[command.qid] else { return }
    result.commands += 1
    defer { queues[command.qid] = queues[command.qid] == nil ? nil : queue }
    guard checkPlace(of: command, in: &queue) else { return }
    port.present(command, depth: queue.depth)
    controller.poll(&port)
    guard port.outcome.fetched else {
      return differ(command, "the driver fetched it, the engine, which has no such queue, did not")
    }
    compare(command, queue.depth)
    noteQueues(command)
  }

  /// Whether the engine can execute the command. Otherwise it is counted, and reported if that departs from the driver.
  private mutating func isComparable(_ command: DriverCommand) -> Bool {
    switch state {
    case .unknown:
      result.before += 1
      return false
    case .enabled(let cc) where !controller.csts.ready || controller.csts.fatal:
      reportEnd(command, cc)
      state = .ended
    case .enabled where queues[command.qid] != nil: return true
    case .enabled where command.doubts == 0 && !command.isDoubtful && !deletedQueues.contains(command.qid):
      differ(command, "the driver fetched it from a queue that no command has created")
    case .disabled where command.completion == nil:
      result.commands += 1
      result.interrupted += 1
      return false
    case .enabled, .disabled, .ended: break
    }
    result.refused += 1
    return false
  }

  /// The driver continues after the engine's controller has failed.
  private mutating func reportEnd(_ command: DriverCommand, _ cc: UInt32) {
    let configuration = ControllerConfiguration(rawValue: cc)
    let what =
      controller.csts.ready
      ? "the engine declares itself failed (CSTS.CFS), the driver continues with \(command.text)"
      : "the driver accepts CC \(cc.hex) (IOSQES \(configuration.iosqes), IOCQES \(configuration.iocqes), CSS "
        + "\(configuration.css), MPS \(configuration.mps), AMS \(configuration.ams)) and AQA \(aqa.hex), the engine "
        + "refuses them (CSTS.CFS)"
    result.add(
      DriverDifference(
        timeNs: command.time, command: "the controller",
        what: "\(what); no command is compared until the host enables the controller again", kind: .new))
  }

  /// Check that it is the next entry.
  /// - Returns: whether the host has written a command there.
  private mutating func checkPlace(of command: DriverCommand, in queue: inout Queue) -> Bool {
    guard command.slot < queue.depth else {
      differ(
        command, "the driver fetched entry \(command.slot) of a queue of \(queue.depth)",
        known: "a doorbell value beyond the queue makes the driver fetch outside it")
      return false
    }
    let isAfterDoubt = command.isDoubtful || command.doubts != queue.doubts
    queue.doubts = command.doubts
    if command.slot != queue.next, !isAfterDoubt, !queue.nextFailed {
      differ(command, "the driver fetched entry \(command.slot) of its queue, though entry \(queue.next) came next")
    }
    queue.nextFailed = command.fetchFailed
    guard !command.fetchFailed else {
      queue.next = command.slot
      differ(
        command,
        "the driver failed to fetch it and dropped it silently; the engine declares itself failed (CSTS.CFS)",
        known: "a failed command fetch is dropped silently")
      return false
    }
    queue.next = command.slot + 1 == queue.depth ? 0 : command.slot + 1
    return true
  }

  /// Queues are created and deleted with the driver's.
  private mutating func noteQueues(_ command: DriverCommand) {
    guard let opcode = command.adminOpcode, let status = command.completion?.entry.status else { return }
    let qid = command.queueInQuestion
    let entries = (command.sqe.cdw10 >> 16) + 1
    switch opcode {
    case .createIOSubmissionQueue, .createIOCompletionQueue:
      let isCompletionQueue = opcode == .createIOCompletionQueue
      if !status.isSuccess {
        let refused = RefusedCreate(isCompletionQueue: isCompletionQueue, qid: qid)
        if !command.isContiguous { refusedCreates.insert(refused) }
      } else if isCompletionQueue {
        port.depths[qid] = entries
      } else if qid != 0 {
        queues[qid] = Queue(depth: entries, doubts: command.doubts)
        deletedQueues.remove(qid)
      }
    case .deleteIOSubmissionQueue where status.isSuccess && qid != 0:
      queues[qid] = nil
      deletedQueues.insert(qid)
    default: break
    }
  }

  // MARK: Comparing

  private mutating func compare(_ command: DriverCommand, _ depth: UInt32) {
    guard !command.isDoubtful, !command.isCut, command.lists.allSatisfy(\.isWhole) else {
      result.doubtful += 1
      return
    }
    if command.extraCompletions > 0 {
      differ(command, "the driver completed it \(command.extraCompletions + 1) times")
    }
    guard !command.wasInterrupted, let completion = command.completion else {
      if !command.isEventRequest || command.wasInterrupted { result.interrupted += 1 }
      if !command.wasInterrupted, command.wasDropped {
        differ(command, "the driver abandoned it without a completion although its queue and the link existed")
      }
      return
    }
    if command.work.began, !command.work.ended, recording.end - completion.time > DriverReplay.workTimeoutNs {
      differ(
        command,
        "the driver completed it, but its worker never finished: this blocks the deletion of the queue, and "
          + "every disable and reset of the controller")
    }
    checkEntry(command, completion, depth)
    let outcome = port.outcome
    guard let own = outcome.completion else {
      if !command.isEventRequest {
        differ(
          command, "the driver completed it with status \(completion.entry.status.rawValue.hex), the engine did not")
      }
      return
    }
    result.compared += 1
    compareLists(command, outcome, own.entry.status)
    let agrees = compareCompletion(command, completion, own)
    // After an error, the transferred data is undefined, but it must not exceed the request.
    if agrees { compareSegments(command, outcome) }
  }

  /// Requirements for every completion queue entry.
  private mutating func checkEntry(_ command: DriverCommand, _ completion: DriverCompletion, _ depth: UInt32) {
    let entry = completion.entry
    if entry.cid.rawValue != command.cid || entry.sqid.rawValue != command.qid {
      differ(
        command,
        "the driver's completion queue entry is for command \(entry.cid.rawValue.hex) of queue \(entry.sqid.rawValue)")
    }
    if entry.dw1 != 0 {
      differ(command, "the driver's completion queue entry has \(entry.dw1.hex) in Dword 1, which is reserved")
    }
    let sqhd = UInt32(entry.sqhd)
    let age = UInt64((completion.head % depth + depth - min(sqhd, depth)) % depth)
    if sqhd >= depth || (command.doubts == 0 && age > completion.lagMax + DriverReplay.headSlack) {
      differ(
        command,
        "the driver's completion queue entry has \(sqhd) for the head of the submission queue, of whose \(depth) entries "
          + "it had fetched those before \(completion.head % depth)")
    }
    if let ordinal = completion.ordinal, let size = port.depths[completion.cqid],
      entry.phase != (ordinal / UInt64(size) % 2 == 0)
    {
      differ(
        command,
        "the driver's completion queue entry has the phase tag of "
          + "\(entry.phase ? "an odd" : "an even") pass through its queue, and is entry \(ordinal) of \(size)")
    }
  }

  private mutating func compareLists(_ command: DriverCommand, _ outcome: DriverPort.Outcome, _ status: Status) {
    let read = command.lists.map {
      DriverSegment(fromHost: true, address: $0.address, length: UInt64($0.bytes.count))
    }
    let (driver, engine) = (DriverReplay.joined(read), DriverReplay.joined(outcome.lists))
    guard driver != engine else { return }
    let (theirs, own) = (DriverReplay.text(driver, areLists: true), DriverReplay.text(engine, areLists: true))
    differ(
      command, "the driver read lists \(theirs), the engine \(own)",
      known: trustsSegmentLength(command, status) ? DriverReplay.trustedLength : nil)
  }

  /// - Returns: whether both completed it with the same status.
  private mutating func compareCompletion(
    _ command: DriverCommand, _ completion: DriverCompletion, _ own: (cqid: UInt16, entry: CompletionEntry)
  ) -> Bool {
    let (entry, status, ownStatus) = (completion.entry, completion.entry.status, own.entry.status)
    if completion.cqid != own.cqid {
      differ(command, "the driver posted it to completion queue \(completion.cqid), the engine to \(own.cqid)")
    }
    guard ownStatus.code == status.code else {
      differ(
        command,
        "the driver completed it with status \(status.rawValue.hex), the engine with \(ownStatus.rawValue.hex)",
        known: departure(command, status, ownStatus))
      return false
    }
    if status.rawValue != ownStatus.rawValue {
      let isAdvice = !status.isSuccess && (status.rawValue ^ ownStatus.rawValue) & ~DriverReplay.advice == 0
      differ(
        command,
        "the driver's status is \(status.rawValue.hex), the engine's \(ownStatus.rawValue.hex): the same code, but not "
          + "Do Not Retry, More and Command Retry Delay",
        known: isAdvice
          ? "the kernel's target points to its error log with More, and judges itself whether to try again may help"
          : nil)
    }
    if own.entry.dw0 != entry.dw0, !command.hasOwnResult {
      differ(
        command, "the driver's result is \(entry.dw0.hex), the engine's \(own.entry.dw0.hex)",
        known: status.isSuccess && command.echoesFeature(entry.dw0)
          ? "the kernel's target answers Set Features with the value, which is not required" : nil)
    }
    return true
  }

  private mutating func compareSegments(_ command: DriverCommand, _ outcome: DriverPort.Outcome) {
    let driver = DriverReplay.joined(command.segments)
    let own = DriverReplay.joined(outcome.segments)
    result.segments += UInt64(command.segments.count)
    result.bytes += command.segments.reduce(0) { $0 + $1.length }
    let moved = command.segments.reduce(0) { $0 + ($1.failed ? 0 : $1.length) }
    if let expected = command.executed?.bytes, driver.count > 0, moved != UInt64(expected),
      !command.segments.contains(where: \.failed),
      command.completion?.entry.status.isSuccess ?? false
    {
      differ(command, "the driver moved \(moved) of the \(expected) bytes that the command transfers")
    }
    if driver != own {
      differ(command, "the driver moved \(DriverReplay.text(driver)), the engine \(DriverReplay.text(own))")
    }
  }

  /// More and Do Not Retry.
  private static let advice: UInt16 = 3 << 13
  private static let trustedLength = "the driver trusts the length of an SGL segment"

  /// The engine refused a segment for its length, which the driver trusts.
  private func trustsSegmentLength(_ command: DriverCommand, _ own: Status) -> Bool {
    let refusals = [Status.invalidSGLSegmentDescriptor.code, Status.invalidNumberOfSGLDescriptors.code]
    return refusals.contains(own.code) && command.hasSGLSegmentOfBadLength
  }

  /// Statuses that the engine returns differently on purpose.
  private func departure(_ command: DriverCommand, _ status: Status, _ own: Status) -> String? {
    if trustsSegmentLength(command, own) { return DriverReplay.trustedLength }
    if command.qid != 0, status.code == Status.invalidQueueIdentifier.code {
      return "the driver aborts commands in flight in a deleted queue, the engine completes them"
    }
    if status.code == Status.invalidNamespaceOrFormat.code, own.code == Status.invalidField.code,
      (1...Subsystem.namespacesLimit).contains(command.sqe.nsid)
    {
      return "the kernel's target answers Invalid Namespace for an identifier that is valid but inactive"
    }
    if command.adminOpcode == .createIOSubmissionQueue || command.adminOpcode == .createIOCompletionQueue {
      if !status.isSuccess, !own.isSuccess, !command.isContiguous {
        return "a queue that is not contiguous is refused for its size by the driver, for the field by the engine"
      }
      let refused = RefusedCreate(
        isCompletionQueue: command.adminOpcode == .createIOCompletionQueue, qid: command.queueInQuestion)
      if status.code == Status.invalidQueueIdentifier.code, refusedCreates.contains(refused) {
        return "a rejected Create I/O CQ/SQ leaves the queue marked live in the driver"
      }
    }
    return nil
  }

  private mutating func differ(_ command: DriverCommand, _ what: String, known: String? = nil) {
    result.add(
      DriverDifference(
        timeNs: command.time, command: command.text, what: what, kind: known.map { .knownDeparture($0) } ?? .new))
  }

  /// Consecutive pieces joined: both sides may cut them differently.
  private static func joined(_ segments: [DriverSegment]) -> [DriverSegment] {
    var joined: [DriverSegment] = []
    for segment in segments where segment.length > 0 {
      if let last = joined.last, last.fromHost == segment.fromHost, last.address &+ last.length == segment.address {
        joined[joined.count - 1].length += segment.length
        joined[joined.count - 1].failed = last.failed || segment.failed
      } else {
        joined.append(segment)
      }
    }
    for index in joined.indices { joined[index].failed = false }
    return joined
  }

  private static func text(_ pieces: [DriverSegment], areLists: Bool = false) -> String {
    guard !pieces.isEmpty else { return areLists ? "none" : "nothing" }
    let named = pieces.prefix(4).map {
      "\($0.length) B \(areLists ? "at" : $0.fromHost ? "from" : "to") \($0.address.hex)"
    }
    return named.joined(separator: ", ") + (pieces.count > 4 ? " and \(pieces.count - 4) more" : "")
  }
}
