import Events
import KernelStreams
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

  private(set) var streams = KernelStreams()
  /// The busiest owners first, with their commands.
  private(set) var busiest: [(owner: UInt16, queues: Queues)] = []
  private let role: StreamOwner.Role
  /// As submitted, or as nvmet-pci-epf fetched them.
  private var commands = SightList()
  /// As the target core took them, whatever the transport.
  private var requests = SightList()
  /// When the completion queue's work began that ran last.
  private var completionWork: [OwnedQueue: UInt64] = [:]

  private static let commandsMax = 1 << 21
  private static let ownersMax = 64
  /// Of all of them: a driver makes one for each CPU.
  private static let queuesMax = 1 << 14

  init(_ reader: TraceReader, of role: StreamOwner.Role) throws(TraceError) {
    self.role = role
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
    guard case .event(let kind, let owner)? = streams.take(record.pointee, tail: record.tail, stream: stream),
      owner.role == role
    else { return }
    switch role {
    case .host: takeHost(record.pointee, kind, owner.number)
    case .target: takeTarget(record, kind, owner.number)
    }
  }

  private mutating func takeHost(_ record: Record, _ kind: EventKind, _ owner: UInt16) {
    switch kind {
    case .submit where hasRoom:
      let submit = Event.Submit(record)
      let name = Sight.Name(cid: submit.cid, opcode: submit.opcode, slba: submit.slba)
      commands.append(Sight(begin: submit.time, name: name), owner, submit.qid)
    case .completion:
      let completion = Event.Completion(record)
      commands.update(owner, completion.queueKey, isLast: true) { $0.end = completion.time }
    default: break
    }
  }

  private mutating func takeTarget(_ record: UnsafePointer<Record>, _ kind: EventKind, _ owner: UInt16) {
    switch kind {
    case .fetch where hasRoom:
      let fetch = Event.Fetch(record.pointee)
      guard !fetch.flags.contains(.failed), let sqe = record.fixedTail(as: SubmissionEntry.self) else { return }
      let name = Sight.Name(cid: fetch.cid, opcode: sqe.opcode, slba: fetch.qid == 0 ? 0 : sqe.slba)
      let begin = fetch.time - min(UInt64(fetch.span), fetch.time)
      commands.append(Sight(begin: begin, name: name), owner, fetch.qid)
    case .request where hasRoom:
      let request = Event.Request(record.pointee)
      let name = Sight.Name(cid: request.cid, opcode: request.opcode, slba: request.slba)
      requests.append(Sight(begin: request.time, name: name), owner, request.qid)
    case .executeEnd:
      let end = Event.ExecuteEnd(record.pointee)
      requests.update(owner, end.key, isLast: true) { $0.end = end.time }
    case .completionQueued:
      let queued = Event.CompletionQueued(record.pointee)
      commands.update(owner, queued.key, isLast: false) { $0.end = queued.time }
    case .work:
      let work = Event.Work(record.pointee)
      guard work.work == .completionQueue else { return }
      if completionWork.count >= 1 << 16 { completionWork = [:] }
      completionWork[OwnedQueue(owner: owner, qid: work.qid)] = work.time
    case .completion:
      let completion = Event.Completion(record.pointee)
      // The event itself comes when the entry has long been visible: what is certain is that it was posted after it
      // was queued, and in this run of the completion queue's work.
      let began = completionWork[OwnedQueue(owner: owner, qid: completion.cqid)] ?? 0
      commands.update(owner, completion.queueKey, isLast: true) { $0.end = max($0.end, began) }
    default: break
    }
  }

  private var hasRoom: Bool { commands.entries.count + requests.entries.count < Sights.commandsMax }
}

private struct OwnedQueue: Hashable {
  let owner: UInt16
  let qid: UInt16
}

/// Commands of all queues in one list: a trace may name millions of queues, which would cost more than their commands.
private struct SightList {
  private(set) var entries: [(sight: Sight, owner: UInt16, qid: UInt16)] = []
  /// The command that a name stands for now.
  private var last: [Name: Int] = [:]

  private struct Name: Hashable {
    let owner: UInt16
    let key: CommandKey
  }

  var countByOwner: [UInt16: Int] { entries.reduce(into: [:]) { $0[$1.owner, default: 0] += 1 } }

  mutating func append(_ sight: Sight, _ owner: UInt16, _ qid: UInt16) {
    last[Name(owner: owner, key: CommandKey(qid: qid, cid: sight.name.cid))] = entries.count
    entries.append((sight, owner, qid))
  }

  /// - Parameter isLast: the name is free for another command from now on.
  mutating func update(_ owner: UInt16, _ key: CommandKey, isLast: Bool, _ change: (inout Sight) -> Void) {
    let name = Name(owner: owner, key: key)
    guard let index = isLast ? last.removeValue(forKey: name) : last[name] else { return }
    change(&entries[index].sight)
  }
}
