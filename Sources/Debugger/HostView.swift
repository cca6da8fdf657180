import Endpoint
import EventSequences
import Events
import NVMe
import Trace

/// What the hosts had in hand at a point in time, by their own streams: commands without a completion, and events that
/// contradict each other.
struct HostView {
  /// A command that a host submitted.
  struct Submitted {
    let qid: UInt16
    let cid: UInt16
    let opcode: UInt8
    let host: UInt16
    let ns: UInt64

    var isEventRequest: Bool { qid == 0 && opcode == AdminOpcode.asynchronousEventRequest.rawValue }
  }

  /// Without a completion, oldest first.
  private(set) var outstanding: [Submitted] = []
  /// Those without a completion when the controller was reset or disabled the last time with commands outstanding: the
  /// oldest of them, their number, and the engine's event.
  private(set) var abandoned: (commands: [Submitted], count: Int, event: UInt64)?
  /// Completions for which there was no command, and commands with the identifier of one outstanding.
  private(set) var strays: [Submitted] = []
  /// With the earlier command of each.
  private(set) var reused: [(command: Submitted, earlier: Submitted)] = []
  private(set) var strayCount = 0
  private(set) var reusedCount = 0

  private var table: [UInt64: Submitted] = [:]
  /// Commands whose completion may come although none is outstanding: in flight when the recording began, or abandoned.
  private var excused: Set<UInt64> = []

  private static let listMax = 100

  /// The command to ask about first, and the number of the engine's event that abandoned it, if one did.
  /// Event requests wait for long by their nature.
  var oldest: (command: Submitted, abandonedBy: UInt64?)? {
    if let first = outstanding.first(where: { !$0.isEventRequest }) { return (first, nil) }
    if let abandoned, let first = abandoned.commands.first(where: { !$0.isEventRequest }) {
      return (first, abandoned.event)
    }
    return outstanding.first.map { ($0, nil) }
  }

  /// - Parameters:
  ///   - all: the engine's resets, which end the hosts' commands.
  ///   - end: number of the engine's events that have happened, and the time.
  ///   - begun: the commands in flight when the recording began.
  init(
    _ hosts: [NumberedEvents], resets all: [(event: UInt64, ns: UInt64)], begun: [EngineState.InFlight],
    until end: UInt64, _ ns: UInt64
  ) throws {
    let resets = all.prefix { $0.event < end }
    let began = Set(begun.map { HostView.key($0.qid, $0.cid) })
    for host in hosts {
      excused = began
      var nextReset = 0
      try host.forEach(from: host.first) { _, record in
        while nextReset < resets.count, resets[nextReset].ns <= min(record.pointee.time, ns) {
          abandon(resets[nextReset].event)
          nextReset += 1
        }
        guard record.pointee.time <= ns else { return true }
        take(record, host.id.stream)
        return false
      }
      for reset in resets.dropFirst(nextReset) { abandon(reset.event) }
      outstanding += table.values
      table = [:]
    }
    outstanding.sort { ($0.ns, $0.cid) < ($1.ns, $1.cid) }
  }

  /// When the host disabled the controller, and when something else reset it.
  static func resets(of engine: NumberedEvents) throws -> [(event: UInt64, ns: UInt64)] {
    var found: [(event: UInt64, ns: UInt64)] = []
    try engine.forEach(from: engine.first) { number, record in
      if CommandHistory.endsCommands(record.pointee) { found.append((number, record.pointee.time)) }
      return false
    }
    return found
  }

  private mutating func abandon(_ event: UInt64) {
    guard !table.isEmpty else { return }
    // Another queue's stream may have told of this reset, or of a later one.
    if let abandoned, abandoned.event > event { return leave() }
    let isSame = abandoned?.event == event
    let commands = (isSame ? abandoned!.commands : []) + table.values
    let count = (isSame ? abandoned!.count : 0) + table.count
    let sorted = commands.sorted { ($0.ns, $0.cid) < ($1.ns, $1.cid) }
    abandoned = (Array(sorted.prefix(HostView.listMax)), count, event)
    leave()
  }

  private mutating func leave() {
    excused.formUnion(table.keys)
    table = [:]
  }

  private mutating func take(_ record: UnsafePointer<Record>, _ host: UInt16) {
    switch record.pointee.event {
    case .submit:
      let submit = Event.Submit(record.pointee)
      let command = Submitted(
        qid: submit.qid, cid: submit.cid, opcode: submit.opcode, host: host, ns: record.pointee.time)
      if let earlier = table.updateValue(command, forKey: HostView.key(command.qid, command.cid)) {
        reusedCount += 1
        if reused.count < HostView.listMax { reused.append((command, earlier)) }
      }
    case .completion:
      let (qid, cid) = (Event.Completion(record.pointee).sqid, record.pointee.cid)
      let key = HostView.key(qid, cid)
      guard table.removeValue(forKey: key) == nil, excused.remove(key) == nil else { return }
      strayCount += 1
      guard strays.count < HostView.listMax else { return }
      strays.append(Submitted(qid: qid, cid: cid, opcode: 0, host: host, ns: record.pointee.time))
    default: break
    }
  }

  private static func key(_ qid: UInt16, _ cid: UInt16) -> UInt64 { UInt64(qid) << 16 | UInt64(cid) }
}
