import Analysis
import Events
import KernelTimeline
import Trace

/// One command with its events, from the host's submission to the end of its last stage.
public struct CommandLife: Sendable {
  public let times: CommandTimes
  /// In the order of the trace; the first ones if there are more than `eventsMax`.
  public internal(set) var events: [LifeEvent] = []
  /// Number of events that were left out.
  public internal(set) var eventsLeft = 0

  /// What a command of the kernel's PCI endpoint driver waited behind.
  public internal(set) var waits: [WaitReasons] = []

  /// A command of the largest transfer has a few hundred.
  static let eventsMax = 1000
  private static let waitsMax = 3
  /// Limits the memory for the events of all commands together.
  public static let commandsMax = 1000

  /// Read the trace again for the events of these commands, at most `commandsMax`.
  public static func read(_ commands: [CommandTimes], of reader: TraceReader, _ subject: Subject) throws(TraceError)
    -> [CommandLife]
  {
    precondition(commands.count <= commandsMax)
    var lives = commands.map { CommandLife(times: $0) }
    var finder = CommandEventFinder(commands.map { CommandEventFinder.Wanted($0.facts) }, subject)
    var events = try MergedEvents(reader)
    var waits: WaitFinder?
    if case .controller(let controller) = subject { waits = WaitFinder(of: controller) }
    while !finder.isDone, let (record, id) = try events.next() {
      if id.source == .kernel { waits?.ingest(record.pointee, tail: record.tail, stream: id.stream) }
      finder.ingest(record, id) { lives[$0].add(record, id, waits) }
    }
    for index in lives.indices { lives[index].keepLastOfEachStage() }
    return lives
  }

  private mutating func add(_ record: UnsafePointer<Record>, _ id: StreamID, _ finder: WaitFinder?) {
    if let handoffs = times.handoffs, id.source == .kernel, waits.count < CommandLife.waitsMax,
      let reasons = finder?.reasons(
        record.pointee, stream: id.stream, (times.waiting[.detect], handoffs.dispatch, handoffs.completion))
    {
      waits.append(reasons)
    }
    guard events.count < CommandLife.eventsMax else {
      eventsLeft += 1
      return
    }
    let isOfKernelHost = id.source == .kernel && finder?.isHost(stream: id.stream) == true
    events.append(LifeEvent(record, id, isOfKernelHost: isOfKernelHost))
  }

  /// A stage ends with the last of its events.
  private mutating func keepLastOfEachStage() {
    var ended: Set<Stage> = []
    for index in events.indices.reversed() {
      if let stage = events[index].stage, !ended.insert(stage).inserted { events[index].stage = nil }
    }
  }
}

/// An event of a command's life.
public struct LifeEvent: Sendable {
  public let id: StreamID
  /// The event with its fixed tail; bytes that it carries are left out.
  public let slots: [Record]
  /// The stage that ends here, if one does.
  public internal(set) var stage: Stage?

  public var time: UInt64 { slots[0].time }

  init(_ record: UnsafePointer<Record>, _ id: StreamID, isOfKernelHost: Bool) {
    self.id = id
    var slots = [record.pointee]
    let fixed = (record.pointee.event?.description.fixedTailBytes ?? 0) / Record.size
    if fixed > 0, fixed == Int(record.pointee.tail) {
      for slot in 1...fixed { slots.append(record[slot]) }
    } else {
      slots[0].tail = 0
    }
    self.slots = slots
    stage = LifeEvent.stage(endedBy: record.pointee, id.source, isOfKernelHost)
  }

  private static func stage(endedBy record: Record, _ source: Source, _ isOfKernelHost: Bool) -> Stage? {
    switch record.event {
    case .fetch: .fetch
    case .work: .dispatch
    case .map: .map
    case .segment: Event.Segment(record).flags.contains(.fromHost) ? .dataIn : .dataOut
    case .write: .dataOut
    case .payload: .recording
    case .executeEnd: .execute
    // The command ends when the host's driver sees its entry.
    case .completion where isOfKernelHost: .reap
    case .completion where source != .host: .complete
    case .interrupt: .interrupt
    case .doorbell where Event.Doorbell(record).flags.contains(.completionHead): .reap
    default: nil
    }
  }
}

/// The slowest of all commands that it is shown, slowest first.
public struct SlowestCommands: Sendable {
  public private(set) var commands: [CommandTimes] = []
  private let count: Int

  /// - Parameter count: how many to keep.
  public init(_ count: Int) { self.count = count }

  public mutating func add(_ command: borrowing CommandTimes) {
    if commands.count == count, let last = commands.last, last.total >= command.total { return }
    let total = command.total
    let place = commands.firstIndex { $0.total < total } ?? commands.endIndex
    commands.insert(copy command, at: place)
    if commands.count > count { commands.removeLast() }
  }
}
