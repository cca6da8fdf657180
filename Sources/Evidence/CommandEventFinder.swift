import Analysis
import Events
import KernelStreams
import Trace

/// Finds the events of chosen commands when a trace is read a second time: those that name a command, and the doorbells
/// and interrupt that it shares with others.
public struct CommandEventFinder: ~Copyable {
  /// At most this many commands, of some 60 bytes each.
  public static let commandsMax = 1 << 22

  private static let none = UInt32.max

  /// The commands, in the order of their first events.
  private var commands: [Command] = []
  /// The next of `commands` to begin.
  private var next = 0
  /// Which command has a name now: index in `commands`.
  private var current = CommandTable()
  /// The events that commands share, in order, and the next of them.
  private var shared: [Shared] = []
  private var nextShared = 0
  private var number: UInt64 = 0

  private let subject: Subject
  private var streams = KernelStreams()
  private var nqn: String?

  /// A command to find.
  public struct Wanted: Sendable {
    let qid: UInt16
    let cid: UInt16
    let events: CommandEvents

    public init(_ facts: CommandFacts) { (qid, cid, events) = (facts.qid, facts.cid, facts.events) }
  }

  /// All events of all commands have been found.
  public var isDone: Bool { number >= end }
  private var end: UInt64 = 0

  private struct Command {
    let first: UInt64
    let last: UInt64
    /// Queue and command identifier.
    let name: UInt32
    /// The caller's number.
    let index: UInt32
  }

  private struct Shared {
    let event: UInt64
    let index: UInt32
  }

  /// - Parameters:
  ///   - commands: at most `commandsMax`; the finder calls them by their indices.
  ///   - subject: whose commands they are.
  public init(_ commands: [Wanted], _ subject: Subject) {
    precondition(commands.count <= CommandEventFinder.commandsMax)
    self.subject = subject
    self.commands.reserveCapacity(commands.count)
    for (index, command) in commands.enumerated() {
      let events = command.events
      end = max(end, events.last)
      self.commands.append(
        Command(
          first: events.first, last: events.last, name: UInt32(command.qid) << 16 | UInt32(command.cid),
          index: UInt32(index)))
      // An interrupt may be the last.
      let last = events.last == events.interrupt ? 0 : events.last
      for event in [events.rung, events.seen, events.interrupt, last] where event != 0 {
        shared.append(Shared(event: event, index: UInt32(index)))
      }
    }
    self.commands.sort { $0.first < $1.first }
    shared.sort { ($0.event, $0.index) < ($1.event, $1.index) }
  }

  /// Take the next event of the trace, all streams in order of time.
  /// - Parameter found: called with the index of each chosen command that the event belongs to.
  public mutating func ingest(
    _ record: UnsafePointer<Record>, _ id: StreamID, _ found: (Int) -> Void
  ) {
    number += 1
    while next < commands.count, commands[next].first <= number {
      current.remove(commands[next].name)
      current.insert(commands[next].name, UInt32(next))
      next += 1
    }
    let isOfSubject = isOfSubject(record, id)
    var named = CommandEventFinder.none
    if isOfSubject, let qid = queue(of: record.pointee), let cid = record.pointee.command { named = owner(qid, cid) }
    if named != CommandEventFinder.none { found(Int(named)) }
    while nextShared < shared.count, shared[nextShared].event <= number {
      if shared[nextShared].event == number, shared[nextShared].index != named { found(Int(shared[nextShared].index)) }
      nextShared += 1
    }
  }

  /// The submission queue that an event names; a completion may stand in another queue.
  private func queue(of record: Record) -> UInt16? {
    record.is(.completion) && subject == .endpoint ? Event.Completion(record).sqid : record.queue
  }

  /// The chosen command that has this name now.
  private mutating func owner(_ qid: UInt16, _ cid: UInt16) -> UInt32 {
    let name = UInt32(qid) << 16 | UInt32(cid)
    let place = current.find(name)
    guard place != CommandEventFinder.none else { return CommandEventFinder.none }
    guard number <= commands[Int(place)].last else {
      current.remove(name)
      return CommandEventFinder.none
    }
    return commands[Int(place)].index
  }

  private mutating func isOfSubject(_ record: UnsafePointer<Record>, _ id: StreamID) -> Bool {
    guard case .controller(let controller) = subject else { return id.source != .kernel }
    guard id.source == .kernel else { return false }
    switch streams.ingest(record.pointee, tail: record.tail, stream: id.stream) {
    case .owner(let owner):
      if owner.isTarget(controller), !owner.nqn.isEmpty { nqn = nqn ?? owner.nqn }
      return false
    case .event(_, let owner): return owner.isTarget(controller) || owner.drives(controller, of: nqn)
    case .gap, nil: return false
    }
  }
}
