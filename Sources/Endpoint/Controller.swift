import NVMe
import Target

/// The NVMe controller: registers, queues, arbitration, command fetch, data pointers, completions and interrupts.
///
/// A deterministic state machine: it holds no clock, takes no lock and touches no memory but its own. The same inputs
/// through its port lead to the same outputs, in the same order, whoever drives it.
public struct Controller: ~Copyable {
  /// Commands that may be between fetch and posting at once.
  static let commandsMax = 1024
  /// Commands that only the admin queue may take.
  static let adminReserve = 8
  /// Commands fetched in one turn of a queue where Arbitration Burst sets no limit.
  static let batchMax = 128
  public static let pageBytes: UInt64 = 4096

  public internal(set) var target: Target

  var cc = ControllerConfiguration(rawValue: 0)
  public internal(set) var csts = ControllerStatus(rawValue: 0)
  var intms: UInt32 = 0
  var aqa: UInt32 = 0
  var asq: UInt64 = 0
  var acq: UInt64 = 0

  /// By queue identifier.
  let submissionQueues: UnsafeMutablePointer<SubmissionQueue>
  let completionQueues: UnsafeMutablePointer<CompletionQueue>
  var liveSubmission: QueueList
  var liveCompletion: QueueList

  let commands: UnsafeMutablePointer<Command>
  var firstFree: Int32 = 0
  var freeCount = Controller.commandsMax
  /// Commands fetched in the current turn.
  let batch: UnsafeMutablePointer<Int32>
  /// Asynchronous Event Requests that wait for an event, oldest first.
  var eventRequests: [Int32] = []

  /// Segments of the command being mapped.
  let segments: UnsafeMutablePointer<Segment>
  /// A PRP list, identify data or a log page on its way.
  let scratch: UnsafeMutableRawBufferPointer
  let queuesMax: Int
  /// Commands fetched in one turn of a queue; follows the features.
  var burst = 0

  public init(_ subsystem: Subsystem) {
    target = Target(subsystem)
    queuesMax = Int(subsystem.ioQueuesMax) + 1
    submissionQueues = .allocate(capacity: queuesMax)
    submissionQueues.initialize(repeating: SubmissionQueue(), count: queuesMax)
    completionQueues = .allocate(capacity: queuesMax)
    completionQueues.initialize(repeating: CompletionQueue(), count: queuesMax)
    liveSubmission = QueueList(capacity: queuesMax)
    liveCompletion = QueueList(capacity: queuesMax)
    commands = .allocate(capacity: Controller.commandsMax)
    commands.initialize(repeating: Command(), count: Controller.commandsMax)
    batch = .allocate(capacity: Controller.batchMax)
    batch.initialize(repeating: Command.none, count: Controller.batchMax)
    let segmentsMax = Int(UInt64(subsystem.maxTransferBytes) / Controller.pageBytes) + 1
    segments = .allocate(capacity: segmentsMax)
    segments.initialize(repeating: Segment(address: PCIAddress(0), length: 0), count: segmentsMax)
    scratch = .allocate(byteCount: Int(Controller.pageBytes), alignment: 64)
    scratch.initializeMemory(as: UInt8.self, repeating: 0)
    eventRequests.reserveCapacity(AsynchronousEvents.requestsMax)
    freeAllCommands()
    applyFeatures()
  }

  deinit {
    submissionQueues.deallocate()
    completionQueues.deallocate()
    commands.deallocate()
    batch.deallocate()
    segments.deallocate()
    scratch.deallocate()
  }

  /// One pass over every queue: take doorbells, fetch, execute, complete.
  /// - Returns: whether there was anything to do.
  @discardableResult
  public mutating func poll<P: Port & ~Copyable>(_ port: inout P) -> Bool {
    guard csts.ready, !csts.fatal else { return false }
    var worked = false
    // A command may delete queues: the lists are read anew in every turn.
    var turn = 0
    while turn < liveCompletion.count {
      if takeHead(of: liveCompletion[turn], &port) { worked = true }
      turn += 1
    }
    turn = 0
    while turn < liveSubmission.count {
      if serve(liveSubmission[turn], &port) { worked = true }
      turn += 1
    }
    return worked
  }

  /// The controller can go no further until it is reset (Base 2.1, 9.5).
  mutating func fail() { csts.fatal = true }

  /// What the engine needs for every command, taken out of the features once.
  mutating func applyFeatures() {
    burst = min(target.features.burst, Controller.batchMax)
    for place in 0..<liveCompletion.count {
      let queue = completionQueues + Int(liveCompletion[place].rawValue)
      queue.pointee.threshold = target.features.threshold(vector: queue.pointee.vector)
    }
  }

  // MARK: Commands

  mutating func takeCommand() -> Int32 {
    let index = firstFree
    precondition(index != Command.none, "the caller counts the free commands")
    firstFree = commands[Int(index)].next
    freeCount -= 1
    return index
  }

  mutating func freeCommand(_ index: Int32) {
    commands[Int(index)].next = firstFree
    firstFree = index
    freeCount += 1
  }

  mutating func freeAllCommands() {
    for index in 0..<Controller.commandsMax {
      commands[index].next = index + 1 < Controller.commandsMax ? Int32(index + 1) : Command.none
    }
    firstFree = 0
    freeCount = Controller.commandsMax
    eventRequests.removeAll(keepingCapacity: true)
  }
}
