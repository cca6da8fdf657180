import Events
import KernelTimeline
import NVMe

/// A command in flight, as its events describe it so far. Times are nanoseconds since the trace began.
struct TrackedCommand {
  static let none = UInt32.max
  static let noTime = UInt64.max

  let qid: UInt16
  let cid: UInt16
  /// Nil if no event contains it.
  var opcode: UInt8?
  /// The host's stream contains its beginning, and must contain its end.
  var isFromHost = false
  /// The host saw the completion before the engine posted it: the clocks disagree.
  var isSeenEarly = false
  /// False if its beginning is not in the trace: it never counts as finished.
  var isWhole = true

  /// Generations of its submission queue and of the host's streams at its fetch; if they have changed, events of the
  /// command may be lost.
  var queueEpoch: UInt32 = 0
  var hostEpoch: UInt32 = 0
  var depthGeneration: UInt32 = 0
  /// Number of controller resets, and of gaps in the trace, at its first event.
  var resetEpoch: UInt32 = 0
  var gaps: UInt64 = 0

  var begin: UInt64 = 0
  /// Its last event: kind, number from 1 among all events, time.
  var last = EventKind.fetch
  var lastEvent: UInt64 = 0
  var lastTime: UInt64 = 0
  /// Host: submitted to the queue.
  var submit = noTime
  /// The host saw the completion queue entry.
  var sight: HostSight?
  /// The engine's poll saw the doorbell.
  var seen = noTime
  var pollSpan: UInt32 = 0

  var fetch = Stretch()
  var map = Stretch()
  var dataIn = Stretch()
  var execute = Stretch()
  var dataOut = Stretch()
  /// The recorder's digests of the data from and to the host.
  var digestIn = Stretch()
  var digestOut = Stretch()
  /// How much of these stages the engine's thread spent on the recording, while it was the command's turn.
  var recorded: (complete: UInt64, interrupt: UInt64) = (0, 0)
  var waits = Waits()
  var posted: UInt64 = 0
  var announced: UInt64 = 0
  /// Total time that its completion queue had been full at the command's last event, and how much of the time since it
  /// was full.
  var fullBefore: UInt64 = 0
  var queueFull: UInt64 = 0
  var bytesFromHost: UInt64 = 0
  var bytesToHost: UInt64 = 0
  /// What its entry asks for.
  var request = CommandRequest()
  /// Status field of its completion; nil before it.
  var status: Status?
  var events = CommandEvents()

  // For commands of the kernel's target.
  var isFromKernel = false
  /// The transport shows only when the target core accepted the command and completed it.
  var isRequestOnly = false
  var workBegin: UInt64 = 0
  var requested: UInt64 = 0
  var ready: UInt64 = 0
  /// The completion queue of its completion.
  var cqid: UInt16 = 0
  var expectedBytes: UInt64 = 0
  var handoffs = Handoffs()

  init(qid: UInt16, cid: UInt16) {
    self.qid = qid
    self.cid = cid
  }

  var isAdmin: Bool { qid == 0 }
  /// Our engine has fetched it and posted no completion.
  var isExecuting: Bool { status == nil && !isFromKernel }
  var hasFailed: Bool { status.map { !$0.isSuccess } ?? false }

  /// - Parameter last: number of the event that ended it.
  func facts(last: UInt64) -> CommandFacts {
    var events = events
    events.last = last
    return CommandFacts(qid: qid, cid: cid, opcode: opcode, request: request, status: status, events: events)
  }

  /// Its last event so far.
  @inline(__always)
  mutating func follow(_ kind: EventKind, _ number: UInt64, _ now: UInt64) {
    (last, lastEvent, lastTime) = (kind, number, now)
  }

  /// By design it waits in the controller for an event.
  var isEventRequest: Bool { isAdmin && opcode == AdminOpcode.asynchronousEventRequest.rawValue }

  /// The command's times if it ended at `end`, by the event with this number.
  func times(end: UInt64, lastEvent: UInt64) -> CommandTimes {
    let begin = min(begin, end)
    var tiling = Tiling(begin: begin, end: end)
    tiling.extend(.detect, to: isRequestOnly ? requested : fetch.begin)
    tiling.cover(.fetch, fetch)
    if let started { tiling.extend(.dispatch, to: started) }
    tiling.cover(.map, map)
    tiling.cover(.dataIn, dataIn)
    tiling.cover(.recording, digestIn)
    tiling.cover(.execute, execute)
    tiling.cover(.dataOut, dataOut)
    tiling.cover(.recording, digestOut)
    if !isRequestOnly { tiling.extend(.complete, to: posted) }
    tiling.extend(.interrupt, to: announced)
    tiling.extend(.reap, to: end)
    tiling.move(recorded.complete, from: .complete, to: .recording)
    tiling.move(recorded.interrupt, from: .interrupt, to: .recording)

    let reap = tiling.stages[.reap]
    let host = isFromKernel ? nil : sight?.waits(from: end - reap, to: end)
    let detect = tiling.stages[.detect]
    let turn = seen == TrackedCommand.noTime || seen >= fetch.begin ? 0 : min(detect, fetch.begin - seen)
    return CommandTimes(
      qid: QueueID(qid), cid: CommandID(cid), opcode: opcode, begin: begin, end: end,
      stages: tiling.stages, unexplained: tiling.unexplained, waiting: waiting(in: tiling.stages, host),
      behind: waits.behind,
      behindHost: host ?? HostWaits(),
      turn: turn,
      queueFull: min(queueFull, tiling.stages[.complete]),
      handling: sight.map { min(reap, end - min($0.time, end)) },
      hostSubmit: submit == TrackedCommand.noTime ? nil : begin - min(submit, begin),
      undetectedMax: isFromHost || isFromKernel ? nil : UInt64(pollSpan), bytesFromHost: bytesFromHost,
      bytesToHost: bytesToHost,
      facts: facts(last: lastEvent), handoffs: isFromKernel && !isRequestOnly ? handoffs : nil)
  }

  /// The end of its last known stage before its completion.
  var served: UInt64 {
    max(fetch.end, map.end, dataIn.end, execute.end, max(dataOut.end, digestIn.end, digestOut.end))
  }

  /// Which part of each stage it waited for a thread of the engine, of the host, or of the kernel's driver.
  private func waiting(in stages: StageTimes, _ host: HostWaits?) -> StageTimes {
    var waiting = StageTimes()
    if isFromKernel {
      waiting[.dispatch] = min(handoffs.dispatch, stages[.dispatch])
      waiting[.complete] = min(handoffs.completion, stages[.complete])
      for stage in [Stage.detect, .fetch, .map, .dataIn, .dataOut] {
        waiting[stage] = min(waits.stages[stage], stages[stage])
      }
    } else {
      for stage in [Stage.detect, .dispatch, .complete, .interrupt] {
        waiting[stage] = min(waits.stages[stage], stages[stage])
      }
      waiting[.reap] = host?.sum ?? 0
    }
    return waiting
  }

  /// When a worker started it: the first known action of a worker.
  private var started: UInt64? {
    if workBegin != 0 { return workBegin }
    if map.isKnown { return map.begin }
    let first = min(dataIn.begin, execute.begin)
    return first == .max ? nil : first
  }
}
