import NVMe
import Trace

/// Whose commands are looked at.
public enum Subject: Hashable, Sendable {
  /// Our own endpoint's.
  case endpoint
  /// Those of a controller of the kernel's target.
  case controller(UInt16)
}

/// What the kernel's streams have told so far that is not a command's alone.
struct KernelView {
  /// Whose events a stream has.
  struct Origin {
    var isHost: Bool
    var controller: UInt16
    var cntlid: UInt16
    var nqn: String
  }

  /// By stream.
  var origins: [Int: Origin] = [:]
  /// Of the controller that is looked at.
  var nqn: String?
  /// What the host's driver has submitted and the target has not taken up: by queue and command identifier.
  var submits: [UInt32: UInt64] = [:]
  /// Commands whose completion is posted and not announced, by completion queue.
  var posted: [UInt16: [UInt32]] = [:]
  /// When the completion queue's work began that runs now.
  var completionWork: [UInt16: UInt64] = [:]

  static let submitsMax = 1 << 17
}

extension StageAnalyzer {
  mutating func takeKernel(_ record: Record, _ kind: EventKind, _ stream: Int, _ tail: UnsafeRawBufferPointer) {
    kernelEvents &+= 1
    guard case .controller(let controller) = subject else { return }
    if kind == .origin {
      let length = min(Int(record.bLow), tail.count)
      let origin = KernelView.Origin(
        isHost: record.flags & 1 != 0, controller: record.cid, cntlid: UInt16(truncatingIfNeeded: record.aLow),
        nqn: record.flags & EventFlag.bytes == 0 ? "" : String(decoding: tail[..<length], as: UTF8.self))
      kernel.origins[stream] = origin
      if !origin.isHost, origin.controller == controller, !origin.nqn.isEmpty { kernel.nqn = origin.nqn }
      return
    }
    // Whatever CPU lost events, any command in flight may miss some.
    if kind == .gap {
      takeGap(record, source: .kernel, stream: stream)
      loseCommands()
      return
    }
    guard let origin = kernel.origins[stream] else { return }
    if origin.isHost {
      guard origin.cntlid == controller, origin.nqn == kernel.nqn else { return }
      takeKernelHost(record, kind)
    } else if origin.controller == controller {
      takeKernelTarget(record, kind, tail)
    }
  }

  private mutating func loseCommands() {
    for index in 0..<UInt32(commands.indexEnd) where commands.isLive(index) { abandon(named: index) }
    kernel.submits = [:]
    kernel.posted = [:]
  }

  // MARK: The host's driver

  private mutating func takeKernelHost(_ record: Record, _ kind: EventKind) {
    let key = UInt32(record.qid) << 16 | UInt32(record.cid)
    switch kind {
    case .submit:
      if kernel.submits.count >= KernelView.submitsMax { kernel.submits = [:] }
      kernel.submits[key] = now
    case .completion:
      kernel.submits[key] = nil
      let index = commands.find(record.qid, record.cid)
      guard index != Command.none, commands[index].isFromHost else { return }
      end(index, at: now)
    default: break
    }
  }

  // MARK: The target

  private mutating func takeKernelTarget(_ record: Record, _ kind: EventKind, _ tail: UnsafeRawBufferPointer) {
    switch kind {
    case .fetch:
      guard record.flags & EventFlag.failed == 0 else { return }
      var command = Command(qid: record.qid, cid: record.cid)
      command.fetch.add(end: now, span: UInt64(record.bLow))
      if let opcode = tail.first { (command.opcode, command.opcodeIsKnown) = (opcode, true) }
      enter(&command, since: command.fetch.begin)
    case .work where record.flags == KernelWork.command.rawValue:
      if commands.find(record.qid, record.cid) == Command.none {
        // Fetched before the recording began.
        var command = Command(qid: record.qid, cid: record.cid)
        command.isWhole = false
        enter(&command, since: now)
        commands[commands.find(record.qid, record.cid)].isWhole = false
      }
      change(record) { command, now in
        command.hops.dispatch = UInt64(record.bLow)
        command.workBegin = now
      }
    case .request:
      if commands.find(record.qid, record.cid) == Command.none
        || commands[commands.find(record.qid, record.cid)].requested != 0
      {
        var command = Command(qid: record.qid, cid: record.cid)
        (command.opcode, command.opcodeIsKnown) = (record.flags, true)
        command.isRequestOnly = true
        enter(&command, since: now)
      }
      change(record) { command, now in
        command.requested = now
        (command.opcode, command.opcodeIsKnown) = (record.flags, true)
      }
    case .read: change(record) { command, now in command.map.add(end: now, span: UInt64(record.bHigh)) }
    case .segment: takeKernelSegment(record)
    case .executeBegin:
      change(record) { command, now in
        command.execute.begin = min(command.execute.begin, now)
        command.mapUntil(command.dataIn.isKnown ? command.dataIn.begin : now)
      }
    case .executeEnd: takeKernelExecuteEnd(record)
    case .completionQueued: change(record) { command, now in command.ready = now }
    case .work where record.flags == KernelWork.completionQueue.rawValue: kernel.completionWork[record.qid] = now
    case .completion: takeKernelCompletion(record)
    case .interrupt:
      if record.flags & EventFlag.failed == 0 { announce(record.qid, byInterrupt: true) }
    case .workEnd where record.flags == KernelWork.completionQueue.rawValue:
      // What no interrupt has announced by now, none will.
      announce(record.qid, byInterrupt: false)
      kernel.completionWork[record.qid] = nil
    case .dropped:
      let index = commands.find(record.qid, record.cid)
      if index != Command.none { abandon(named: index) }
    case .registerWrite: takeKernelRegister(record)
    case .link:
      if record.flags == 0 {
        resets &+= 1
        takeReset()
      }
    default: break
    }
  }

  /// A command comes into sight: it began with the host's submission where that is known, else at `time`.
  private mutating func enter(_ command: inout Command, since time: UInt64) {
    command.begin = time
    command.isFromKernel = true
    command.hostEpoch = hostEpoch
    if let submit = kernel.submits.removeValue(forKey: UInt32(command.qid) << 16 | UInt32(command.cid)) {
      command.isFromHost = true
      if submit > time { inversions &+= 1 }
      command.begin = min(submit, time)
    }
    _ = begin(command)
  }

  private mutating func change(_ record: Record, _ change: (inout Command, UInt64) -> Void) {
    let index = commands.find(record.qid, record.cid)
    guard index != Command.none else { return }
    change(&commands[index], now)
  }

  private mutating func takeKernelSegment(_ record: Record) {
    let bytes = record.flags & EventFlag.failed == 0 ? UInt64(record.bLow) : 0
    change(record) { command, now in
      if record.flags & EventFlag.fromHost != 0 {
        command.dataIn.add(end: now, span: UInt64(record.bHigh))
        command.mapUntil(command.dataIn.begin)
        command.bytesFromHost &+= bytes
      } else {
        if !command.dataOut.isKnown, command.execute.end != 0 {
          let begin = now - min(UInt64(record.bHigh), now)
          command.hops.wakeUp = begin - min(command.execute.end, begin)
        }
        command.dataOut.add(end: now, span: UInt64(record.bHigh))
        command.bytesToHost &+= bytes
      }
    }
  }

  private mutating func takeKernelExecuteEnd(_ record: Record) {
    let index = commands.find(record.qid, record.cid)
    guard index != Command.none else { return }
    if commands[index].execute.begin == .max {
      // No probe told when it was handed over: after all that must come first.
      let known = max(commands[index].requested, commands[index].map.end, commands[index].dataIn.end)
      commands[index].execute.begin = min(known == 0 ? now : known, now)
    }
    commands[index].execute.end = now
    commands[index].expectedBytes = UInt64(record.aHigh)
    commands[index].hasFailed = record.aLow != 0
    guard commands[index].isRequestOnly else { return }
    if commands[index].opcode & 3 == 1 { commands[index].bytesFromHost = UInt64(record.aHigh) }
    if commands[index].opcode & 3 == 2 { commands[index].bytesToHost = UInt64(record.aHigh) }
    if !commands[index].isFromHost { end(index, at: now) }
  }

  private mutating func takeKernelCompletion(_ record: Record) {
    let sqid = UInt16(truncatingIfNeeded: record.bLow >> 16)
    let index = commands.find(sqid, record.cid)
    guard index != Command.none else { return }
    commands[index].posted = now
    commands[index].hasFailed = !Status(rawValue: UInt16(record.bHigh >> 17)).isSuccess
    if let began = kernel.completionWork[record.qid], commands[index].ready != 0 {
      commands[index].hops.completion = began - min(commands[index].ready, began)
    }
    kernel.posted[record.qid, default: []].append(index)
  }

  /// The completions posted so far are the host's: by an interrupt, or without one.
  private mutating func announce(_ cqid: UInt16, byInterrupt: Bool) {
    guard let indices = kernel.posted.removeValue(forKey: cqid) else { return }
    for index in indices where commands.isLive(index) && commands[index].posted != 0 {
      if byInterrupt { commands[index].announced = now }
      if !commands[index].isFromHost { end(index, at: byInterrupt ? now : commands[index].posted) }
    }
  }

  private mutating func end(_ index: UInt32, at time: UInt64) {
    if !commands[index].hasAllOfKernel { commands[index].isWhole = false }
    commands.unname(index)
    finish(index, at: time)
  }

  private mutating func takeKernelRegister(_ record: Record) {
    guard record.a == Register.cc else { return }
    let enable = record.bLow & 1 != 0
    if let isEnabled, isEnabled != enable {
      if !enable { resets &+= 1 }
      takeReset()
    }
    isEnabled = enable
  }
}

/// Whose work item it is, as `work` events tell.
enum KernelWork: UInt8 {
  case command = 0
  case completionQueue = 1
}

/// How long a command of the kernel's target waited for a thread to run.
public struct Hops: Sendable {
  /// From the queueing of its work item until it runs.
  public var dispatch: UInt64 = 0
  /// From the end of its execution until its data is on the way.
  public var wakeUp: UInt64 = 0
  /// From ready until the completion queue's work runs.
  public var completion: UInt64 = 0
}

extension Command {
  /// Every event that a command of its kind must have had is there. A probe that was not run may cost any of them.
  var hasAllOfKernel: Bool {
    guard requested != 0 || hasFailed, execute.end != 0 || hasFailed else { return false }
    if isRequestOnly || hasFailed { return true }
    return fetch.isKnown && workBegin != 0 && posted != 0 && bytesFromHost + bytesToHost == expectedBytes
  }

  /// The data pointer has been parsed by `time`, since the target core took the command.
  mutating func mapUntil(_ time: UInt64) {
    let since = workBegin != 0 ? workBegin : requested
    guard requested != 0, time >= since else { return }
    map.begin = min(map.begin, since)
    map.end = max(map.end, time)
  }
}
