/// A point of the simulated world where extra time can pass.
enum DelayPoint: UInt8, CaseIterable, Sendable {
  // The host.
  /// Before it writes a command into its submission queue.
  case submit
  /// Before it announces the commands that it has written.
  case announce
  /// In the write of a tail doorbell.
  case ring
  /// Before it looks at a completion that is there.
  case look
  /// In its work for a completion that it has seen.
  case handle
  /// In the write of a head doorbell.
  case free

  // The engine.
  /// Before it sees a new tail doorbell.
  case doorbell
  /// In the transfer of submission queue entries.
  case fetch
  /// Before it turns to a command.
  case begin
  /// In the read of a PRP list or SGL segment.
  case read
  /// Before a command's segments are known.
  case map
  /// In the check that a segment from the host is accessible, before any is transferred.
  case reach
  /// In the transfer of a segment.
  case transferFromHost, transferToHost
  /// When all data were transferred.
  case transferredFromHost, transferredToHost
  /// In the recorder's digest of the data.
  case digestFromHost, digestToHost
  /// In the submission of a request to its backend, or in its whole execution.
  case execute
  /// When the engine is done with a request.
  case release
  /// Before a completion queue entry is complete.
  case prepare
  /// Before a completion queue entry is visible.
  case show
  /// Before an interrupt is raised.
  case interrupt
  /// Before the engine acts on the aggregation timer.
  case timer

  // The backend.
  /// In the execution of a request that completes later.
  case serve
  /// Before the engine learns that a request is complete.
  case learn
}

/// Extra time at one point for I/O queues.
struct Delay: BitwiseCopyable {
  let point: DelayPoint
  /// Nanoseconds.
  let ns: UInt64
  /// Only every so many times that the point is passed.
  var every: UInt64 = 1
  /// Only for this queue.
  var qid: UInt16?
  /// How often the point was passed.
  private var passes: UInt64 = 0
  /// The time added so far, in nanoseconds.
  private(set) var addedNs: UInt64 = 0

  init(_ point: DelayPoint, ns: UInt64, every: UInt64 = 1, qid: UInt16? = nil) {
    (self.point, self.ns, self.every, self.qid) = (point, ns, every, qid)
  }

  /// The point is passed for a queue.
  /// - Returns: the time to add.
  mutating func pass(_ qid: UInt16) -> UInt64 {
    guard qid != 0, self.qid == nil || self.qid == qid else { return 0 }
    passes += 1
    guard passes % every == 0 else { return 0 }
    addedNs += ns
    return ns
  }
}
