import NVMe

/// A command in flight: what its events have told so far. Times are nanoseconds since the trace began.
struct Command {
  static let none = UInt32.max
  static let noTime = UInt64.max

  let qid: UInt16
  let cid: UInt16
  var opcode: UInt8 = 0
  var opcodeIsKnown = false
  /// The host's stream gave its begin, and has to give its end.
  var isFromHost = false
  /// The host saw the completion before the engine said that it posts it: the clocks disagree.
  var isSeenEarly = false
  /// False where its begin is not in the trace: it never counts as finished.
  var isWhole = true

  /// Of its submission queue and of the host's streams when it was fetched: where they have changed since, events of
  /// the command may be missing.
  var queueEpoch: UInt32 = 0
  var hostEpoch: UInt32 = 0
  var depthEra: UInt32 = 0
  /// How often the controller was reset, and how many gaps the trace had, when it was first heard of.
  var resetEpoch: UInt32 = 0
  var gaps: UInt64 = 0

  var begin: UInt64 = 0
  /// Host: handed to the queue.
  var submit = noTime
  /// The engine's poll saw the doorbell.
  var seen = noTime
  var pollSpan: UInt32 = 0

  var fetch = Stretch()
  var map = Stretch()
  var dataIn = Stretch()
  var execute = Stretch()
  var dataOut = Stretch()
  var posted: UInt64 = 0
  var announced: UInt64 = 0
  /// How long its completion queue had been full, ever, when the command was last heard of, and how much of the time
  /// after that it was.
  var fullBefore: UInt64 = 0
  var queueFull: UInt64 = 0
  var bytesFromHost: UInt64 = 0
  var bytesToHost: UInt64 = 0
  /// Its completion has a status that is no success.
  var hasFailed = false

  // Of commands of the kernel's target.
  var isFromKernel = false
  /// Of a transport that shows no more than when the target core took the command and gave it back.
  var isRequestOnly = false
  var workBegin: UInt64 = 0
  var requested: UInt64 = 0
  var ready: UInt64 = 0
  /// The completion queue that its completion was posted to.
  var cqid: UInt16 = 0
  var expectedBytes: UInt64 = 0
  var hops = Hops()

  init(qid: UInt16, cid: UInt16) {
    self.qid = qid
    self.cid = cid
  }

  var isAdmin: Bool { qid == 0 }

  /// It waits in the controller for something to happen, by design.
  var isEventRequest: Bool {
    isAdmin && opcodeIsKnown && opcode == AdminOpcode.asynchronousEventRequest.rawValue
  }

  /// The command's times, given that it ended at `end`.
  func times(end: UInt64) -> CommandTimes {
    let begin = min(begin, end)
    var tiling = Tiling(begin: begin, end: end)
    tiling.extend(.detect, to: isRequestOnly ? requested : fetch.begin)
    tiling.cover(.fetch, fetch)
    if let taken { tiling.extend(.dispatch, to: taken) }
    tiling.cover(.map, map)
    tiling.cover(.dataIn, dataIn)
    tiling.cover(.execute, execute)
    tiling.cover(.dataOut, dataOut)
    if !isRequestOnly { tiling.extend(.complete, to: posted) }
    tiling.extend(.interrupt, to: announced)
    tiling.extend(.reap, to: end)

    let detect = tiling.stages[.detect]
    let turn = seen == Command.noTime || seen >= fetch.begin ? 0 : min(detect, fetch.begin - seen)
    return CommandTimes(
      qid: QueueID(qid), cid: CommandID(cid), opcode: opcodeIsKnown ? opcode : nil, begin: begin, end: end,
      stages: tiling.stages, unexplained: tiling.unexplained, turn: turn,
      queueFull: min(queueFull, tiling.stages[.complete]),
      hostSubmit: submit == Command.noTime ? nil : begin - min(submit, begin),
      undetectedMax: isFromHost || isFromKernel ? nil : UInt64(pollSpan), bytesFromHost: bytesFromHost,
      bytesToHost: bytesToHost,
      hasFailed: hasFailed, hops: isFromKernel && !isRequestOnly ? hops : nil)
  }

  /// When a worker took it: the first that is known of what workers do.
  private var taken: UInt64? {
    if workBegin != 0 { return workBegin }
    if map.isKnown { return map.begin }
    let first = min(dataIn.begin, execute.begin)
    return first == .max ? nil : first
  }
}
