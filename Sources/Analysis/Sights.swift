import Events
import NVMe
import Trace

/// A command as one side saw it.
struct Sight {
  /// Host: submitted, no later. Target: taken, no earlier. Nanoseconds of its own trace.
  let begin: UInt64
  /// Host: completed, no earlier. Target: its completion was not visible before. 0 where that is not known.
  var end: UInt64 = 0
  let name: Name

  struct Name: Hashable {
    let cid: UInt16
    let opcode: UInt8
    let slba: UInt64
  }

  /// This one being the host's, which may not tell the place.
  func isSame(_ other: Sight) -> Bool {
    name.cid == other.name.cid && name.opcode == other.name.opcode
      && (name.slba == other.name.slba || name.slba == 0)
  }
}

/// The commands of one side's recording, by controller or host's instance and by queue, in the order in which they were
/// submitted or taken.
struct Sights {
  /// A queue's commands.
  struct Queue {
    fileprivate(set) var sights: [Sight] = []
    /// Where each name is; -1 where several commands have it.
    fileprivate(set) var places: [Sight.Name: Int] = [:]

    fileprivate mutating func append(_ sight: Sight) {
      if places.updateValue(sights.count, forKey: sight.name) != nil { places[sight.name] = -1 }
      sights.append(sight)
    }
  }

  typealias Queues = [UInt16: Queue]

  /// Streams of each owner.
  private(set) var streams: [UInt16: Set<UInt16>] = [:]
  /// The busiest owners first, with their commands.
  private(set) var busiest: [(owner: UInt16, queues: Queues)] = []
  private let isHost: Bool
  /// As submitted, or as nvmet-pci-epf fetched them.
  private var commands = SightList()
  /// As the target core took them, whatever the transport.
  private var requests = SightList()
  private var owners: [UInt16: UInt16] = [:]
  /// When the completion queue's work began that ran last.
  private var completionWork: [UInt64: UInt64] = [:]

  private static let commandsMax = 1 << 21
  private static let ownersMax = 64
  /// Of all of them: a driver makes one for each CPU.
  private static let queuesMax = 1 << 14

  init(_ reader: TraceReader, isHost: Bool) throws(TraceError) {
    self.isHost = isHost
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      if id.source == .kernel { take(record, id.stream) }
    }
    findBusiest()
  }

  private mutating func findBusiest() {
    // A command of nvmet-pci-epf is a request too: the earlier sight of it is the better one.
    let fetched = commands.countByOwner
    let counts = requests.countByOwner.merging(fetched) { $1 }
    let owners = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(Sights.ownersMax).map(\.key)
    var queues: [UInt16: Queues] = Dictionary(uniqueKeysWithValues: owners.map { ($0, [:]) })
    var queuesLeft = Sights.queuesMax
    func add(_ sight: Sight, _ owner: UInt16, _ qid: UInt16) {
      guard queues[owner] != nil else { return }
      if queues[owner]?[qid] == nil {
        guard queuesLeft > 0 else { return }
        queuesLeft -= 1
      }
      queues[owner]?[qid, default: Queue()].append(sight)
    }
    for entry in requests.entries where fetched[entry.owner] == nil { add(entry.sight, entry.owner, entry.qid) }
    requests = SightList()
    for entry in commands.entries { add(entry.sight, entry.owner, entry.qid) }
    commands = SightList()
    busiest = owners.map { ($0, queues[$0] ?? [:]) }
  }

  private mutating func take(_ record: UnsafePointer<Record>, _ stream: UInt16) {
    let event = record.pointee
    if event.event == .origin {
      // A stream has one owner at a time; else each pair of the two could be named.
      if let before = owners[stream] { streams[before]?.remove(stream) }
      owners[stream] = (event.flags & 1 != 0) == isHost ? event.cid : nil
      if owners[stream] != nil { streams[event.cid, default: []].insert(stream) }
      return
    }
    guard let owner = owners[stream] else { return }
    if isHost { takeHost(event, owner) } else { takeTarget(record, owner) }
  }

  private mutating func takeHost(_ event: Record, _ owner: UInt16) {
    switch event.event {
    case .submit where hasRoom:
      let name = Sight.Name(cid: event.cid, opcode: event.flags, slba: event.a)
      commands.append(Sight(begin: event.time, name: name), owner, event.qid)
    case .completion: commands.update(owner, event, isLast: true) { $0.end = event.time }
    default: break
    }
  }

  private mutating func takeTarget(_ record: UnsafePointer<Record>, _ owner: UInt16) {
    let event = record.pointee
    switch event.event {
    case .fetch where event.tail == 2 && event.flags & EventFlag.failed == 0 && hasRoom:
      let sqe = UnsafeRawPointer(record + 1).loadUnaligned(as: SubmissionEntry.self)
      let name = Sight.Name(cid: event.cid, opcode: sqe.opcode, slba: event.qid == 0 ? 0 : sqe.slba)
      let begin = event.time - min(UInt64(event.bLow), event.time)
      commands.append(Sight(begin: begin, name: name), owner, event.qid)
    case .request where hasRoom:
      let name = Sight.Name(cid: event.cid, opcode: event.flags, slba: event.a)
      requests.append(Sight(begin: event.time, name: name), owner, event.qid)
    case .executeEnd: requests.update(owner, event, isLast: true) { $0.end = event.time }
    case .completionQueued: commands.update(owner, event, isLast: false) { $0.end = event.time }
    case .work where event.flags == KernelWork.completionQueue.rawValue:
      if completionWork.count >= 1 << 16 { completionWork = [:] }
      completionWork[UInt64(owner) << 16 | UInt64(event.qid)] = event.time
    case .completion:
      // The event itself comes when the entry has long been visible: what is certain is that it was posted after it
      // was queued, and in this run of the completion queue's work.
      let began = completionWork[UInt64(owner) << 16 | UInt64(event.qid)] ?? 0
      commands.update(owner, event, isLast: true) { $0.end = max($0.end, began) }
    default: break
    }
  }

  private var hasRoom: Bool { commands.entries.count + requests.entries.count < Sights.commandsMax }
}

/// Commands of all queues in one list: a trace may name millions of queues, which would cost more than their commands.
private struct SightList {
  private(set) var entries: [(sight: Sight, owner: UInt16, qid: UInt16)] = []
  /// The command that a name stands for now.
  private var last: [UInt64: Int] = [:]

  var countByOwner: [UInt16: Int] { entries.reduce(into: [:]) { $0[$1.owner, default: 0] += 1 } }

  mutating func append(_ sight: Sight, _ owner: UInt16, _ qid: UInt16) {
    last[SightList.key(owner, qid, sight.name.cid)] = entries.count
    entries.append((sight, owner, qid))
  }

  /// - Parameter isLast: the name is free for another command from now on.
  mutating func update(_ owner: UInt16, _ event: Record, isLast: Bool, _ change: (inout Sight) -> Void) {
    let key = SightList.key(owner, event.qid, event.cid)
    guard let index = isLast ? last.removeValue(forKey: key) : last[key] else { return }
    change(&entries[index].sight)
  }

  private static func key(_ owner: UInt16, _ qid: UInt16, _ cid: UInt16) -> UInt64 {
    UInt64(owner) << 32 | UInt64(qid) << 16 | UInt64(cid)
  }
}
