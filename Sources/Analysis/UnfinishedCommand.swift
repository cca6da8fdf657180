import Events

/// A command that had not completed when the trace ended.
public struct UnfinishedCommand: Equatable, Sendable {
  /// What has to happen next.
  public enum Owed: String, Sendable {
    /// The host has written the doorbell; the controller has not fetched the entry.
    case fetch
    /// Fetched; the controller has not turned to it, or parses its data pointer.
    case dispatch
    /// Data from the host is transferred, or the backend is about to be called.
    case data
    /// The backend executes it.
    case backend
    /// Executed; data to the host and the completion are due.
    case completion
    /// Done; its completion queue is full, and the host must free entries.
    case queueRoom = "room-in-completion-queue"
    /// Posted; the host must take the completion and write its head doorbell.
    case reap
    /// The controller has stopped (CSTS.CFS); the host must reset it.
    case reset
  }

  public let qid: UInt16
  public let cid: UInt16
  /// Nil if the trace does not contain it.
  public let opcode: UInt8?
  /// From its beginning to the end of the trace, in nanoseconds.
  public let ageNs: UInt64
  /// The first stage without an end in the trace.
  public let stage: Stage
  public let owed: Owed
  /// The completion queue of its submission queue, if the trace shows it.
  public internal(set) var cqid: UInt16?
  /// Its last event: kind, number from 1 in the order of `dump`, and time until the end of the trace.
  public let last: EventKind
  public let lastEvent: UInt64
  public let lastAgoNs: UInt64

  /// A report lists this many, oldest first.
  public static let namedMax = 10

  /// - Parameters:
  ///   - isFull: its completion queue is full.
  ///   - isStopped: the controller has stopped.
  init(_ command: TrackedCommand, isFull: Bool, isStopped: Bool, now: UInt64) {
    (qid, cid, opcode, ageNs) = (command.qid, command.cid, command.opcode, now - min(command.begin, now))
    (last, lastEvent, lastAgoNs) = (command.last, command.lastEvent, now - min(command.lastTime, now))
    let (stage, owed): (Stage, Owed) =
      if command.posted != 0 {
        (.reap, .reap)
      } else if command.execute.isKnown || command.ready != 0 {
        (.complete, isFull ? .queueRoom : .completion)
      } else if command.execute.begin != .max {
        (.execute, .backend)
      } else if command.map.isKnown {
        (.dataIn, .data)
      } else {
        (.dispatch, .dispatch)
      }
    self.stage = stage
    self.owed = isStopped && owed != .reap ? .reset : owed
  }

  /// A command that the host submitted and the controller has not fetched.
  init(_ submit: TrackedSubmissionQueue.Submit, qid: UInt16, isStopped: Bool, now: UInt64) {
    (self.qid, cid, opcode, ageNs) = (qid, submit.cid, submit.opcode, now - min(submit.doorbell, now))
    (stage, owed) = (.detect, isStopped ? .reset : .fetch)
    (last, lastEvent, lastAgoNs) = (.submit, submit.event, now - min(submit.time, now))
  }
}

extension [UnfinishedCommand] {
  /// Keep the oldest, oldest first.
  mutating func keep(_ command: UnfinishedCommand) {
    let place = firstIndex { $0.ageNs < command.ageNs } ?? endIndex
    guard place < UnfinishedCommand.namedMax else { return }
    insert(command, at: place)
    if count > UnfinishedCommand.namedMax { removeLast() }
  }
}
