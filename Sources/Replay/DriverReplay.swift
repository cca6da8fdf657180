import Endpoint
import NVMe
import Target
import Trace

/// A difference between what nvmet-pci-epf did with a command and what the engine does with the same bytes.
public struct DriverDifference: Sendable {
  /// Why it is one.
  public enum Class: Equatable, Sendable {
    /// The engine departs from the driver here on purpose, as the text says.
    case knownDeparture(String)
    /// A finding about one of the two.
    case new
  }

  public let timeNs: UInt64
  /// Which command: queue, identifier, opcode, place.
  public let command: String
  /// What the driver did, and what the engine did.
  public let what: String
  public let kind: Class
}

/// What a replay of the kernel's driver through the engine found.
public struct DriverReplayResult: Sendable {
  public var commands: UInt64 = 0
  public var events: UInt64 = 0
  public var differences: [DriverDifference] = []
  /// Commands that were in flight when the controller or the link went down, or when the recording ended.
  public var interrupted: UInt64 = 0
  /// Commands that cannot be replayed: their queues were created before the recording began.
  public var before: UInt64 = 0
  /// Segments and bytes that were compared.
  public var segments: UInt64 = 0
  public var bytes: UInt64 = 0
  public var endsAtGap = false
  /// Commands that were not compared because a probe was not run while they were under way.
  public var doubtful: UInt64 = 0

  public var newDifferences: Int { differences.count { $0.kind == .new } }

  public init() {}
}

/// Replays a recording of nvmet-pci-epf: the engine gets the registers, submission queue entries and lists that the
/// driver got, and its segments and completions are compared with the driver's. What a backend answers is taken from the
/// recording.
public struct DriverReplay: ~Copyable {
  private let recording: DriverRecording
  private var controller: Controller
  private var port = DriverPort()
  private var result = DriverReplayResult()
  /// Entries, by submission queue that there is.
  private var depths: [UInt16: UInt32] = [:]

  private static let differencesMax = 1000
  /// A worker that has not come back so long after its command's completion will not, nanoseconds.
  private static let workerPatience: UInt64 = 1_000_000_000

  /// - Parameter controller: its identifier.
  public init(_ reader: TraceReader, controller id: UInt16) throws(TraceError) {
    var recording = DriverRecording(controller: id)
    var events = try MergedEvents(reader)
    while let (record, stream) = try events.next() {
      if stream.source == .kernel { recording.take(record, stream: stream.stream) }
    }
    self.recording = recording
    controller = Controller(
      DriverReplay.subsystem(recording, id), namespaces: DriverReplay.namespaces(recording))
  }

  /// What the driver's controller was, as far as its answers tell.
  private static func subsystem(_ recording: DriverRecording, _ id: UInt16) -> Subsystem {
    var subsystem = Subsystem()
    subsystem.controllerID = id
    subsystem.maxTransferBytes = Subsystem.maxTransferLimit
    subsystem.ioQueuesMax = Subsystem.ioQueuesLimit
    subsystem.vectors = 2048
    subsystem.queueEntriesMax = 65536
    for command in recording.commands where command.qid == 0 {
      let isQueueCount = command.sqe.opcode == AdminOpcode.setFeatures.rawValue && command.sqe.cdw10 & 0xff == 7
      if isQueueCount, let entry = command.completion?.entry, entry.status.isSuccess {
        subsystem.ioQueuesMax = max(1, min(UInt16(truncatingIfNeeded: entry.dw0) &+ 1, Subsystem.ioQueuesLimit))
      }
    }
    return subsystem
  }

  /// Of every namespace only what its commands tell: the size of a block. What lies beyond its end, its backend knows.
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
    for step in recording.steps {
      switch step {
      case .registerWrite(let offset, let width, let value):
        guard width == 4 || width == 8, offset < 0x1000 else { continue }
        if offset == 0x24 {
          depths = [0: UInt32(truncatingIfNeeded: value & 0xfff) + 1]
          port.forgetQueues()
          port.depths = [0: UInt32(truncatingIfNeeded: value >> 16 & 0xfff) + 1]
        }
        controller.writeRegister(offset: offset, width: width, value: value, &port)
        if offset == 0x14, value & 1 == 0 { depths = [:] }
      case .linkDown:
        controller.reset(.linkDown, &port)
        port.forgetQueues()
        depths = [:]
      case .command(let index): replay(recording.commands[index])
      }
    }
    return result
  }

  private mutating func replay(_ command: DriverCommand) {
    guard let depth = depths[command.qid], controller.csts.ready, !controller.csts.fatal else {
      result.before += 1
      return
    }
    result.commands += 1
    port.present(command, tail: command.slot + 1 >= depth ? 0 : command.slot + 1)
    controller.poll(&port)
    compare(command)
    noteQueues(command)
  }

  /// Queues come and go as the driver's do.
  private mutating func noteQueues(_ command: DriverCommand) {
    guard command.qid == 0, let opcode = AdminOpcode(rawValue: command.sqe.opcode),
      command.completion?.entry.status.isSuccess ?? false
    else { return }
    let qid = UInt16(truncatingIfNeeded: command.sqe.cdw10)
    let entries = (command.sqe.cdw10 >> 16) + 1
    switch opcode {
    case .createIOSubmissionQueue: depths[qid] = entries
    case .createIOCompletionQueue: port.depths[qid] = entries
    case .deleteIOSubmissionQueue: depths[qid] = nil
    default: break
    }
  }

  // MARK: Comparing

  private mutating func compare(_ command: DriverCommand) {
    let deed = port.deed
    guard !command.fetchFailed else {
      return differ(
        command,
        "the driver could not fetch it and dropped it in silence; the engine declares itself failed (CSTS.CFS)",
        known: "a failed command fetch is dropped silently")
    }
    guard deed.fetched else {
      return differ(command, "the driver fetched entry \(command.slot) of its queue, the engine is at another")
    }
    if command.isDoubtful {
      result.doubtful += 1
      return
    }
    if command.extraCompletions > 0 {
      differ(command, "the driver completed it \(command.extraCompletions + 1) times")
    }
    if command.wasInterrupted || (command.completion == nil && !command.isEventRequest) {
      result.interrupted += 1
      if !command.wasInterrupted, command.wasDropped {
        differ(command, "the driver gave it up without a completion while its queue and the link were there")
      }
      return
    }
    if command.completion != nil, command.work.began, !command.work.ended,
      recording.end - command.completedAt > DriverReplay.workerPatience
    {
      differ(
        command,
        "the driver completed it, but its worker never came back: it holds up the deletion of the queue, and with it "
          + "every disable and reset of the controller")
    }
    compareLists(command, deed)
    let agrees = compareCompletion(command, deed)
    // After an error what has been moved is nobody's business, except that it is never more than asked for.
    if agrees { compareSegments(command, deed) }
  }

  private mutating func compareLists(_ command: DriverCommand, _ deed: DriverPort.Deed) {
    let driver = command.lists.map { ($0.address, $0.bytes.count) }
    guard command.lists.allSatisfy(\.isWhole) else { return }
    if driver.count != deed.lists.count || zip(driver, deed.lists).contains(where: { $0 != ($1.address, $1.length) }) {
      differ(
        command,
        "the driver read lists \(DriverReplay.text(driver)), the engine \(DriverReplay.text(deed.lists.map { ($0.address, $0.length) }))",
        known: command.sqe.psdt != 0 ? "an SGL segment's length is trusted by the driver" : nil)
    }
  }

  /// - Returns: both completed it, and with the same status.
  private mutating func compareCompletion(_ command: DriverCommand, _ deed: DriverPort.Deed) -> Bool {
    guard let driver = command.completion else { return false }
    let (entry, status) = (driver.entry, driver.entry.status)
    if entry.cid.rawValue != command.cid || entry.sqid.rawValue != command.qid || (command.qid == 0 && driver.cqid != 0)
    {
      differ(
        command,
        "the driver's completion queue entry is for command \(hex(entry.cid.rawValue)) of queue \(entry.sqid.rawValue)")
    }
    guard let own = deed.completion else {
      if !command.isEventRequest {
        differ(command, "the driver completed it with status \(hex(status.rawValue)), the engine did not")
      }
      return false
    }
    guard own.entry.status.code == status.code else {
      differ(
        command,
        "the driver completed it with status \(hex(status.rawValue)), the engine with \(hex(own.entry.status.rawValue))",
        known: departure(command, status))
      return false
    }
    if status.isSuccess, own.entry.dw0 != entry.dw0, !command.hasOwnResult {
      differ(
        command, "the driver's result is \(hex(entry.dw0)), the engine's \(hex(own.entry.dw0))",
        known: command.setsFeature
          ? "the kernel's target answers Set Features with the value; it is not asked for" : nil)
    }
    return true
  }

  private mutating func compareSegments(_ command: DriverCommand, _ deed: DriverPort.Deed) {
    let driver = DriverReplay.joined(command.segments)
    let own = DriverReplay.joined(deed.segments)
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

  /// Where the engine answers with another status on purpose.
  private func departure(_ command: DriverCommand, _ status: Status) -> String? {
    if command.sqe.psdt != 0 { return "an SGL segment's length is trusted by the driver" }
    if status.code == Status.invalidNamespaceOrFormat.code, (1...Subsystem.namespacesMax).contains(command.sqe.nsid) {
      return "the kernel's target answers Invalid Namespace for an identifier that is merely not in use"
    }
    if command.qid == 0, let opcode = AdminOpcode(rawValue: command.sqe.opcode) {
      switch opcode {
      case .createIOSubmissionQueue, .createIOCompletionQueue:
        return "a rejected Create I/O CQ/SQ leaves the queue marked live in the driver"
      default: break
      }
    }
    return nil
  }

  private mutating func differ(_ command: DriverCommand, _ what: String, known: String? = nil) {
    guard result.differences.count < DriverReplay.differencesMax else { return }
    result.differences.append(
      DriverDifference(
        timeNs: command.time, command: command.text, what: what, kind: known.map { .knownDeparture($0) } ?? .new))
  }

  /// Pieces that follow one another, as one: where they are cut is up to each.
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

  private static func text(_ segments: [DriverSegment]) -> String {
    segments.isEmpty
      ? "nothing"
      : segments.prefix(4).map { "\($0.length) B \($0.fromHost ? "from" : "to") \(hex($0.address))" }.joined(
        separator: ", ")
        + (segments.count > 4 ? " and \(segments.count - 4) more" : "")
  }

  private static func text(_ lists: [(UInt64, Int)]) -> String {
    lists.isEmpty ? "none" : lists.prefix(4).map { "\($0.1) B at \(hex($0.0))" }.joined(separator: ", ")
  }
}

private func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

extension DriverCommand {
  /// It waits in the controller for something to happen, by design.
  var isEventRequest: Bool { qid == 0 && sqe.opcode == AdminOpcode.asynchronousEventRequest.rawValue }

  var setsFeature: Bool { qid == 0 && sqe.opcode == AdminOpcode.setFeatures.rawValue }

  /// Its result is the controller's own, which the recording does not know beforehand.
  var hasOwnResult: Bool {
    guard qid == 0, let opcode = AdminOpcode(rawValue: sqe.opcode) else { return false }
    return opcode == .getFeatures || opcode == .abort || isEventRequest
  }

  var text: String {
    let name =
      qid == 0
      ? AdminOpcode(rawValue: sqe.opcode).map { "\($0)" } : IOOpcode(rawValue: sqe.opcode).map(\.name)
    var text = "queue \(qid) command \(hex(cid)) \(name ?? "opcode \(hex(sqe.opcode))")"
    if qid != 0 { text += " slba \(sqe.slba) blocks \(sqe.cdw12 & 0xffff + 1)" }
    return text
  }
}
