import NVMe
import Target

/// A fused Compare and Write (Base 2.1, 3.4.2), from when both are fetched until both are done.
///
/// No command runs between them: they start when the commands in flight in their namespace are done, and meanwhile no
/// I/O command is fetched.
struct Fusion: BitwiseCopyable {
  enum Phase: UInt8, BitwiseCopyable {
    /// There is none.
    case none
    /// Neither has started: earlier commands are still in flight.
    case waiting
    /// The backend compares.
    case comparing
    /// The backend writes.
    case writing
  }

  var phase = Phase.none
  /// The slots of the two commands.
  var compare = Command.none
  var write = Command.none
  var qid = QueueID.admin
  /// Number of commands that the pair waits for.
  var awaited: UInt32 = 0
  /// Commands of `batch` that were fetched together with the pair and follow it.
  var next = 0
  var end = 0

  var isActive: Bool { phase != .none }
}

extension Controller {
  /// Execute commands that were fetched from a queue and include fused ones.
  /// - Parameter begin: position of the first in `batch`; `end` is one past the last.
  @inline(never)
  mutating func executeFused<P: Port & ~Copyable>(_ qid: QueueID, from begin: Int, to end: Int, _ port: inout P) {
    let queue = submissionQueues + Int(qid.rawValue)
    for turn in begin..<end {
      guard !fusion.isActive else {
        (fusion.next, fusion.end) = (turn, end)
        return
      }
      executeOrPair(batch[turn], from: queue, &port)
      if csts.fatal { return }
    }
    // One doorbell write must announce both (Base 2.1, 3.4.2), and a queue about to be deleted delivers no more
    // commands.
    if queue.pointee.head == queue.pointee.tail || queue.pointee.isBeingDeleted { giveUpFirst(of: queue, &port) }
  }

  /// The next command of a queue, which must match its fused predecessor.
  private mutating func executeOrPair<P: Port & ~Copyable>(
    _ index: Int32, from queue: UnsafeMutablePointer<SubmissionQueue>, _ port: inout P
  ) {
    let fuse = commands[Int(index)].sqe.fuse
    if fuse == 2, queue.pointee.first != Command.none {
      let first = queue.pointee.first
      queue.pointee.first = Command.none
      return pair(first, index, &port)
    }
    giveUpFirst(of: queue, &port)
    switch fuse {
    case 0: execute(index, &port)
    case 1:
      commands[Int(index)].state = .held
      queue.pointee.first = index
    case 2: refuse(index, .missingFusedCommand, &port)
    default: refuse(index, .invalidField, &port)
    }
  }

  /// The second command of a fused operation does not follow the first.
  mutating func giveUpFirst<P: Port & ~Copyable>(of queue: UnsafeMutablePointer<SubmissionQueue>, _ port: inout P) {
    guard queue.pointee.first != Command.none else { return }
    refuse(queue.pointee.first, .missingFusedCommand, &port)
    queue.pointee.first = Command.none
  }

  /// Complete a command without executing it.
  mutating func refuse<P: Port & ~Copyable>(_ index: Int32, _ status: Status, _ port: inout P) {
    let command = commands[Int(index)]
    port.begins(qid: command.qid, cid: command.sqe.cid)
    port.mapped(qid: command.qid, cid: command.sqe.cid, segments: 0, length: 0)
    finish(index, status)
  }

  /// Both commands are fetched: only a Compare and a Write of the same blocks can be fused (NVM Command Set 1.1,
  /// 2.1.3).
  private mutating func pair<P: Port & ~Copyable>(_ compare: Int32, _ write: Int32, _ port: inout P) {
    let (first, second) = (commands[Int(compare)].sqe, commands[Int(write)].sqe)
    guard first.opcode == IOOpcode.compare.rawValue, second.opcode == IOOpcode.write.rawValue,
      first.nsid == second.nsid, first.slba == second.slba, (first.cdw12 ^ second.cdw12) & 0xffff == 0
    else {
      refuse(compare, .invalidField, &port)
      return refuse(write, .invalidField, &port)
    }
    let qid = commands[Int(compare)].qid
    if let status = fault(of: first, qid) {
      refuse(compare, status, &port)
      return refuse(write, .failedFusedCommand, &port)
    }
    if let status = fault(of: second, qid) {
      refuse(compare, .failedFusedCommand, &port)
      return refuse(write, status, &port)
    }
    commands[Int(write)].state = .held
    commands[Int(compare)].state = .held
    fusion = Fusion(phase: .waiting, compare: compare, write: write, qid: qid)
    for slot in 0..<Controller.commandsMax where commands[slot].state == .executing {
      let request = executions[slot].request
      guard request.nsid == first.nsid, request.opcode != .flush else { continue }
      executions[slot].awaitedBy.insert(.fusion)
      fusion.awaited += 1
    }
    advanceFusion(&port)
  }

  private func fault(of sqe: SubmissionEntry, _ qid: QueueID) -> Status? {
    do throws(Status) { _ = try target.request(sqe, qid: qid) } catch { return error }
    return nil
  }

  /// Advance the pair as far as possible without waiting.
  private mutating func advanceFusion<P: Port & ~Copyable>(_ port: inout P) {
    if fusion.phase == .waiting {
      guard fusion.awaited == 0 else { return }
      fusion.phase = .comparing
      if begin(fusion.compare, &port) { return }
    }
    if fusion.phase == .comparing {
      if commands[Int(fusion.compare)].status.isSuccess || Mutant.fusedWriteDone.isPlanted {
        fusion.phase = .writing
        if begin(fusion.write, &port) { return }
      } else {
        refuse(fusion.write, .failedFusedCommand, &port)
      }
    }
    fusion.phase = .none
  }

  /// Execute one of the two. Its namespace may have changed since it was checked.
  /// - Returns: whether its backend has it; otherwise it is done.
  private mutating func begin<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) -> Bool {
    let command = commands[Int(index)]
    port.begins(qid: command.qid, cid: command.sqe.cid)
    do throws(Status) {
      var request = try target.request(command.sqe, qid: command.qid)
      request.slot = index
      executeSeldom(request, command.sqe, &port)
    } catch {
      refuse(index, error, &port)
    }
    guard commands[Int(index)].state == .executing else { return false }
    executions[Int(index)].awaitedBy.insert(.fusion)
    return true
  }

  /// A command is done that the pair waited for, or that is one of the two.
  mutating func continueFusion<P: Port & ~Copyable>(_ port: inout P) {
    if fusion.phase == .waiting { fusion.awaited -= 1 }
    guard fusion.isActive else { return }
    advanceFusion(&port)
    if !fusion.isActive { endFusion(&port) }
  }

  /// Execute the commands held after the pair.
  private mutating func endFusion<P: Port & ~Copyable>(_ port: inout P) {
    let (qid, next, end) = (fusion.qid, fusion.next, fusion.end)
    fusion = Fusion()
    executeFused(qid, from: next, to: end, &port)
    deleteIfDone(qid, &port)
  }

  // MARK: Abort

  /// Abort a command that waits for its turn, or for the other command of its fused operation.
  /// - Returns: whether it was aborted, without any effect.
  mutating func abortUnbegun<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) -> Bool {
    let queue = submissionQueues + Int(commands[Int(index)].qid.rawValue)
    if queue.pointee.first == index {
      queue.pointee.first = Command.none
    } else if let place = (fusion.next..<fusion.end).first(where: { batch[$0] == index }) {
      for later in place + 1..<fusion.end { batch[later - 1] = batch[later] }
      fusion.end -= 1
    } else if fusion.phase == .waiting, index == fusion.compare || index == fusion.write {
      return abortPair(index, &port)
    } else {
      return false
    }
    refuse(index, .abortRequested, &port)
    return true
  }

  private mutating func abortPair<P: Port & ~Copyable>(_ index: Int32, _ port: inout P) -> Bool {
    for slot in 0..<Controller.commandsMax where commands[slot].state == .executing {
      executions[slot].awaitedBy.remove(.fusion)
    }
    refuse(fusion.compare, index == fusion.compare ? .abortRequested : .failedFusedCommand, &port)
    refuse(fusion.write, index == fusion.write ? .abortRequested : .failedFusedCommand, &port)
    endFusion(&port)
    return true
  }
}
