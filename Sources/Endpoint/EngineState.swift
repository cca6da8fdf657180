import NVMe
import Target

/// A copy of what the engine holds at one moment, also in the middle of a pass, for people and tools that examine it.
/// Unlike a checkpoint it cannot be resumed.
public struct EngineState: Equatable, Sendable {
  public internal(set) var registers = Registers()
  /// The existing queues, in the order of their identifiers.
  public internal(set) var submissionQueues: [Submission] = []
  public internal(set) var completionQueues: [Completion] = []
  /// The commands between fetch and posting, in the order of their slots.
  public internal(set) var commands: [InFlight] = []
  public internal(set) var namespaces: [Namespace] = []
  /// The Keep Alive Timer's timeout in milliseconds; nil if it is not running.
  public internal(set) var keepAliveMs: UInt32?
  /// A reset has abandoned requests at backends, some of which may still take effect.
  public internal(set) var isSettling = false

  /// The controller's properties (Base 2.1, 3.1.4).
  public struct Registers: Equatable, Sendable {
    public internal(set) var cap: UInt64 = 0
    public internal(set) var vs: UInt32 = 0
    public internal(set) var intms: UInt32 = 0
    public internal(set) var cc: UInt32 = 0
    public internal(set) var csts: UInt32 = 0
    public internal(set) var aqa: UInt32 = 0
    public internal(set) var asq: UInt64 = 0
    public internal(set) var acq: UInt64 = 0
    /// The host's write to CC that the engine has not polled yet.
    public internal(set) var pendingCC: UInt32?

    /// CSTS.RDY and CSTS.CFS.
    public var isReady: Bool { csts & 1 != 0 }
    public var isFatal: Bool { csts & 2 != 0 }
  }

  /// A submission queue.
  public struct Submission: Equatable, Sendable {
    public let qid: UInt16
    public let cqid: UInt16
    public let base: UInt64
    /// Number of entries.
    public let size: UInt32
    /// The next entry to fetch.
    public let head: UInt32
    /// One past the newest entry that the host has announced.
    public let tail: UInt32
    /// The doorbell as last read; differs from `tail` only if the host wrote an invalid value.
    public let doorbell: UInt32
    /// Commands between fetch and posting, and those of them at backends.
    public let held: UInt32
    public let executing: UInt32
    public let isBeingDeleted: Bool

    /// Entries that the host has announced and the engine has not fetched.
    public var announced: UInt32 { tail >= head ? tail - head : tail + size - head }
  }

  /// A completion queue.
  public struct Completion: Equatable, Sendable {
    public let cqid: UInt16
    public let base: UInt64
    /// Number of entries.
    public let size: UInt32
    /// The oldest entry that the host has not freed.
    public let head: UInt32
    /// The next entry to post.
    public let tail: UInt32
    public let doorbell: UInt32
    /// The phase tag of the next entry.
    public let phase: Bool
    public let isFull: Bool
    /// A completion waits for room.
    public let isBlocked: Bool
    /// Commands that wait to be posted.
    public internal(set) var waiting = 0
    /// Entries posted since the last interrupt.
    public let unannounced: UInt32
    public let interruptsEnabled: Bool
    public let vector: UInt16
    /// The vector is masked (INTMS).
    public let isMasked: Bool
    /// Entries after which an interrupt is raised immediately.
    public let threshold: UInt32
    /// How long fewer entries may wait, in microseconds, and whether that time is running.
    public let aggregationUs: UInt32
    public let isAggregating: Bool

    /// Entries that the host has not freed.
    public var outstanding: UInt32 { tail >= head ? tail - head : tail + size - head }
  }

  /// A command between fetch and posting.
  public struct InFlight: Equatable, Sendable {
    public let slot: Int32
    public let qid: UInt16
    public let sqe: SubmissionEntry
    public internal(set) var awaits: Awaited
    public let status: Status

    public var cid: UInt16 { sqe.cid.rawValue }
  }

  /// What a command waits for.
  public enum Awaited: Equatable, Sendable {
    /// The engine fetched it in this pass and has not finished with it.
    case engine
    /// Its backend.
    case backend
    /// The Set Features waits for this number of earlier writes.
    case writes(UInt32)
    /// The deletion of a queue waits for this number of its commands.
    case commands(UInt32, of: UInt16)
    /// An Asynchronous Event Request waits for an event.
    case event
    /// The first command of a fused operation waits for the second.
    case secondOfPair
    /// A command of a fused operation, or one fetched after it, waits for this number of requests.
    case fusedOperation(UInt32)
    /// It is done; its entry waits for room in this completion queue.
    case room(in: UInt16)
    /// It is done; its entry is about to be posted to this completion queue.
    case posting(to: UInt16)
  }

  /// The command with this name, if it is in flight.
  public func command(_ qid: UInt16, _ cid: UInt16) -> InFlight? {
    commands.first { $0.qid == qid && $0.cid == cid }
  }

  public func submissionQueue(_ qid: UInt16) -> Submission? { submissionQueues.first { $0.qid == qid } }
  public func completionQueue(_ cqid: UInt16) -> Completion? { completionQueues.first { $0.cqid == cqid } }
}

extension Controller {
  /// A copy of the state now.
  public var state: EngineState {
    var state = EngineState()
    state.registers = registers
    for place in 0..<liveSubmission.count { state.submissionQueues.append(submission(liveSubmission[place])) }
    for place in 0..<liveCompletion.count { state.completionQueues.append(completion(liveCompletion[place])) }
    var slot: Int32 = 0
    while state.commands.count < Controller.commandsMax - slots.freeCount, slot < Controller.commandsMax {
      if commands[Int(slot)].state != .free { state.commands.append(inFlight(slot)) }
      slot += 1
    }
    var nsid: UInt32 = 1
    while state.namespaces.count < target.namespaces.count, let namespace = target.namespaces.first(from: nsid) {
      state.namespaces.append(namespace)
      nsid = namespace.nsid + 1
    }
    state.keepAliveMs = keepAliveIsArmed ? target.features.keepAliveTimer : nil
    state.isSettling = isSettling
    return state
  }

  /// The registers now.
  public var registers: EngineState.Registers {
    EngineState.Registers(
      cap: capabilities.rawValue, vs: Target.version, intms: intms, cc: cc.rawValue, csts: csts.rawValue, aqa: aqa,
      asq: asq, acq: acq, pendingCC: pendingConfiguration?.rawValue)
  }

  /// A submission queue now; nil if it does not exist.
  public func submissionQueue(_ qid: UInt16) -> EngineState.Submission? {
    guard Int(qid) < queuesMax, submissionQueues[Int(qid)].exists else { return nil }
    return submission(QueueID(qid))
  }

  /// A completion queue now; nil if it does not exist.
  public func completionQueue(_ cqid: UInt16) -> EngineState.Completion? {
    guard Int(cqid) < queuesMax, completionQueues[Int(cqid)].exists else { return nil }
    return completion(QueueID(cqid))
  }

  private func submission(_ qid: QueueID) -> EngineState.Submission {
    let queue = submissionQueues[Int(qid.rawValue)]
    return EngineState.Submission(
      qid: qid.rawValue, cqid: queue.cqid.rawValue, base: queue.base, size: queue.size, head: queue.head,
      tail: queue.tail, doorbell: queue.doorbell, held: queue.held, executing: queue.executing,
      isBeingDeleted: queue.isBeingDeleted)
  }

  private func completion(_ cqid: QueueID) -> EngineState.Completion {
    let queue = completionQueues[Int(cqid.rawValue)]
    var waiting = 0
    var next = queue.firstWaiting
    while next != Command.none { (waiting, next) = (waiting + 1, commands[Int(next)].next) }
    return EngineState.Completion(
      cqid: cqid.rawValue, base: queue.base, size: queue.size, head: queue.head, tail: queue.tail,
      doorbell: queue.doorbell, phase: queue.phase, isFull: queue.isFull, isBlocked: queue.isBlocked,
      waiting: waiting, unannounced: queue.unannounced, interruptsEnabled: queue.interruptsEnabled,
      vector: queue.vector, isMasked: queue.vector < 32 && intms & 1 << UInt32(queue.vector) != 0,
      threshold: queue.threshold, aggregationUs: queue.aggregationUs, isAggregating: queue.isAggregating)
  }

  private func inFlight(_ slot: Int32) -> EngineState.InFlight {
    let command = commands[Int(slot)]
    return EngineState.InFlight(
      slot: slot, qid: command.qid.rawValue, sqe: command.sqe, awaits: awaited(by: slot, command),
      status: command.status)
  }

  private func awaited(by slot: Int32, _ command: Command) -> EngineState.Awaited {
    let queue = submissionQueues[Int(command.qid.rawValue)]
    switch command.state {
    case .executing: return .backend
    case .finished:
      let completion = completionQueues[Int(queue.cqid.rawValue)]
      return completion.isBlocked ? .room(in: queue.cqid.rawValue) : .posting(to: queue.cqid.rawValue)
    case .held:
      if slot == heldSetFeatures { return .writes(awaitedWrites) }
      if eventRequests.contains(slot) { return .event }
      if slot == queue.first { return .secondOfPair }
      for place in 0..<liveSubmission.count {
        let qid = liveSubmission[place].rawValue
        if submissionQueues[Int(qid)].deletion == slot {
          return .commands(submissionQueues[Int(qid)].executing, of: qid)
        }
      }
      return .fusedOperation(fusion.awaited)
    case .fetched:
      return fusion.isActive && command.qid == fusion.qid ? .fusedOperation(fusion.awaited) : .engine
    case .free: return .engine
    }
  }
}
