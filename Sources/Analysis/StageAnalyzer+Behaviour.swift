import Events
import NVMe
import Trace

/// What the events say about host, failures and commands without an end.
extension StageAnalyzer {
  /// The current event is the command's last so far.
  @inline(__always)
  mutating func follow(_ index: UInt32, _ kind: EventKind) { commands[index].follow(kind, events, now) }

  /// A new command has the identifier of this one, which is in flight unless events of it are lost.
  mutating func replace(_ old: UInt32) {
    let command = commands[old]
    guard !command.isFromKernel, isCurrent(command), command.resetEpoch == resetEpoch, command.gaps == gaps else {
      return abandon(named: old)
    }
    host.reused(qid: command.qid, cid: command.cid)
    commands.unname(old)
    if !command.isAdmin { reused &+= 1 }
    onLoss?(command.facts(last: events))
    leave(old)
  }

  // MARK: Failures

  /// Whether host memory was accessible.
  @inline(__always)
  mutating func noteFailure(_ access: some MemoryAccess) {
    guard access.hasFailed else { return }
    host.failed(.unreachableMemory, qid: access.qid, cid: access.cid, at: access.address, isFatal: false)
  }

  /// The status of a completion that the engine posts; the command is `TrackedCommand.none` if it is unknown.
  @inline(__always)
  mutating func noteStatus(_ entry: Event.Completion, _ index: UInt32) {
    guard !Status(rawValue: entry.status).isSuccess else { return }
    let opcode = index == TrackedCommand.none ? nil : commands[index].opcode
    addFailure(qid: entry.sqid, cid: entry.cid, opcode, entry.status)
  }

  /// The status of a completion of the kernel's target.
  mutating func noteStatus(_ status: UInt16, _ index: UInt32) {
    guard !Status(rawValue: status).isSuccess else { return }
    addFailure(qid: commands[index].qid, cid: commands[index].cid, commands[index].opcode, status)
  }

  private mutating func addFailure(qid: UInt16, cid: UInt16, _ opcode: UInt8?, _ status: UInt16) {
    failures.add(
      CommandFailure(
        isAdmin: qid == 0, opcode: opcode, status: status, count: 1, firstEvent: events, firstNs: now, firstQID: qid,
        firstCID: cid))
  }

  /// The flush of a shutdown, which no host named, stops the controller if it fails.
  @inline(__always)
  mutating func suspectFlush(_ end: Event.ExecuteEnd) {
    if end.status != 0, end.qid == 0, end.cid == .max { host.suspect(.flush) }
  }

  // MARK: Unfinished commands

  /// The oldest commands in flight now, oldest first. Event requests wait by design.
  var oldestUnfinished: [UnfinishedCommand] {
    var oldest: [UnfinishedCommand] = []
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) {
      let command = commands[index]
      guard isCurrent(command), command.resetEpoch == resetEpoch, !command.isEventRequest else { continue }
      let cqid = command.isFromKernel ? nil : submissionQueues.find(command.qid).map { submissionQueues[$0].cqid }
      var unfinished = UnfinishedCommand(
        command, isFull: cqid.map(host.isFull) ?? false, isStopped: isStopped, now: now)
      unfinished.cqid = cqid
      oldest.keep(unfinished)
    }
    for index in 0..<submissionQueues.count where submissionQueues[index].hostEpoch == hostEpoch {
      let queue = submissionQueues[index]
      for position in queue.submits.positions(upTo: queue.rung).prefix(UnfinishedCommand.namedMax) {
        oldest.keep(UnfinishedCommand(queue.submits[position], qid: queue.qid, isStopped: isStopped, now: now))
      }
    }
    return oldest
  }
}

/// An event of a transfer to or from host memory.
protocol MemoryAccess: CommandEvent {
  var address: UInt64 { get }
  var hasFailed: Bool { get }
}

extension Event.Read: MemoryAccess { var hasFailed: Bool { flags.contains(.failed) } }
extension Event.Write: MemoryAccess { var hasFailed: Bool { flags.contains(.failed) } }
extension Event.Segment: MemoryAccess { var hasFailed: Bool { flags.contains(.failed) } }

extension Drop {
  init(_ reason: Event.Reset.Choice) {
    self =
      switch reason {
      case .function: .functionReset
      case .hostGone: .disconnect
      case .linkDown: .linkDown
      default: .deviceReset
      }
  }
}
