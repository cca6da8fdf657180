import Events
import KernelStreams
import NVMe
import Trace

/// A command as one side observed it.
struct Observation {
  /// Host: submitted no later than this. Target: fetched no earlier than this. Nanoseconds in its own trace.
  let begin: UInt64
  /// Host: completed no earlier than this. Target: its completion was not visible before this. 0 if unknown.
  var end: UInt64 = 0
  let name: Name

  struct Name: Hashable {
    let cid: UInt16
    let opcode: UInt8
    let slba: UInt64
  }

  /// Whether `other`, of the target, is the same command as this one of the host, which may lack the block address.
  func isSame(_ other: Observation) -> Bool {
    name.cid == other.name.cid && name.opcode == other.name.opcode
      && (name.slba == other.name.slba || name.slba == 0)
  }
}

/// The commands in one side's recording, by controller or host instance and by queue, in order of submission or fetch.
struct Observations {
  /// The commands of one queue.
  struct Queue {
    fileprivate(set) var observations: [Observation] = []
    /// Position of each name; -1 if several commands have it.
    fileprivate(set) var places: [Observation.Name: Int] = [:]

    fileprivate mutating func append(_ observation: Observation) {
      if places.updateValue(observations.count, forKey: observation.name) != nil { places[observation.name] = -1 }
      observations.append(observation)
    }
  }

  typealias Queues = [UInt16: Queue]

  private(set) var streams = KernelStreams()
  /// The busiest owners first, with their commands.
  private(set) var busiest: [(owner: UInt16, queues: Queues)] = []
  private let role: StreamOwner.Role
  /// As submitted by the host, or as fetched by nvmet-pci-epf.
  private var commands = ObservationList()
  /// As accepted by the target core, for any transport.
  private var requests = ObservationList()
  /// When the latest run of the completion queue's work item began.
  private var completionWork: [OwnedQueue: UInt64] = [:]

  /// Commands that a comparison of two clocks needs at most; later ones are left out.
  static let commandsMax = 1 << 21
  private let commandsMax: Int
  /// The time of the first command that was left out; nil if none was.
  private(set) var end: UInt64?
  private static let ownersMax = 64
  /// Limit for all owners together: a driver creates one queue per CPU.
  private static let queuesMax = 1 << 14

  init(_ reader: TraceReader, of role: StreamOwner.Role, commandsMax: Int = Observations.commandsMax) throws(TraceError)
  {
    (self.role, self.commandsMax) = (role, commandsMax)
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      if id.source == .kernel { ingest(record, id.stream) }
    }
    findBusiest()
  }

  private mutating func findBusiest() {
    // A command of nvmet-pci-epf also appears as a request: its earlier observation is the better one.
    let fetched = commands.countByOwner
    let counts = requests.countByOwner.merging(fetched) { $1 }
    let owners = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(Observations.ownersMax).map(\.key)
    var queues: [UInt16: Queues] = Dictionary(uniqueKeysWithValues: owners.map { ($0, [:]) })
    var queuesLeft = Observations.queuesMax
    func add(_ observation: Observation, _ owner: UInt16, _ qid: UInt16) {
      guard queues[owner] != nil else { return }
      if queues[owner]?[qid] == nil {
        guard queuesLeft > 0 else { return }
        queuesLeft -= 1
      }
      queues[owner]?[qid, default: Queue()].append(observation)
    }
    for entry in requests.entries where fetched[entry.owner] == nil { add(entry.observation, entry.owner, entry.qid) }
    requests = ObservationList()
    for entry in commands.entries { add(entry.observation, entry.owner, entry.qid) }
    commands = ObservationList()
    busiest = owners.map { ($0, queues[$0] ?? [:]) }
  }

  private mutating func ingest(_ record: UnsafePointer<Record>, _ stream: UInt16) {
    guard case .event(let kind, let owner)? = streams.ingest(record.pointee, tail: record.tail, stream: stream),
      owner.role == role
    else { return }
    switch role {
    case .host: ingestHost(record.pointee, kind, owner.number)
    case .target: ingestTarget(record, kind, owner.number)
    }
  }

  private mutating func ingestHost(_ record: Record, _ kind: EventKind, _ owner: UInt16) {
    switch kind {
    case .submit:
      let submit = Event.Submit(record)
      guard hasRoom(at: submit.time) else { return }
      let name = Observation.Name(cid: submit.cid, opcode: submit.opcode, slba: submit.slba)
      commands.append(Observation(begin: submit.time, name: name), owner, submit.qid)
    case .completion:
      let completion = Event.Completion(record)
      commands.update(owner, completion.queueKey, isLast: true) { $0.end = completion.time }
    default: break
    }
  }

  private mutating func ingestTarget(_ record: UnsafePointer<Record>, _ kind: EventKind, _ owner: UInt16) {
    switch kind {
    case .fetch:
      let fetch = Event.Fetch(record.pointee)
      guard hasRoom(at: fetch.time), !fetch.flags.contains(.failed),
        let sqe = record.fixedTail(as: SubmissionEntry.self)
      else { return }
      let name = Observation.Name(cid: fetch.cid, opcode: sqe.opcode, slba: fetch.qid == 0 ? 0 : sqe.slba)
      let begin = fetch.time - min(UInt64(fetch.span), fetch.time)
      commands.append(Observation(begin: begin, name: name), owner, fetch.qid)
    case .request:
      let request = Event.Request(record.pointee)
      guard hasRoom(at: request.time) else { return }
      let name = Observation.Name(cid: request.cid, opcode: request.opcode, slba: request.slba)
      requests.append(Observation(begin: request.time, name: name), owner, request.qid)
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
      // The event itself comes long after the entry became visible. Only this is certain: it was posted after it was
      // queued, and during this run of the completion queue's work item.
      let began = completionWork[OwnedQueue(owner: owner, qid: completion.cqid)] ?? 0
      commands.update(owner, completion.queueKey, isLast: true) { $0.end = max($0.end, began) }
    default: break
    }
  }

  private mutating func hasRoom(at time: UInt64) -> Bool {
    if commands.entries.count + requests.entries.count < commandsMax { return true }
    end = end ?? time
    return false
  }
}

private struct OwnedQueue: Hashable {
  let owner: UInt16
  let qid: UInt16
}

/// Commands of all queues in one list: a trace may name millions of queues, whose tables would cost more than the
/// commands.
private struct ObservationList {
  private(set) var entries: [(observation: Observation, owner: UInt16, qid: UInt16)] = []
  /// The latest command with each name.
  private var last: [Name: Int] = [:]

  private struct Name: Hashable {
    let owner: UInt16
    let key: CommandKey
  }

  var countByOwner: [UInt16: Int] { entries.reduce(into: [:]) { $0[$1.owner, default: 0] += 1 } }

  mutating func append(_ observation: Observation, _ owner: UInt16, _ qid: UInt16) {
    last[Name(owner: owner, key: CommandKey(qid: qid, cid: observation.name.cid))] = entries.count
    entries.append((observation, owner, qid))
  }

  /// - Parameter isLast: release the name for another command.
  mutating func update(_ owner: UInt16, _ key: CommandKey, isLast: Bool, _ change: (inout Observation) -> Void) {
    let name = Name(owner: owner, key: key)
    guard let index = isLast ? last.removeValue(forKey: name) : last[name] else { return }
    change(&entries[index].observation)
  }
}
