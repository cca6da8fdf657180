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
  typealias Queues = [UInt16: [Sight]]

  /// Streams of each owner.
  private(set) var streams: [UInt16: Set<UInt16>] = [:]
  private let isHost: Bool
  /// As submitted, or as nvmet-pci-epf fetched them.
  private var commands: [UInt16: Queues] = [:]
  /// As the target core took them, whatever the transport.
  private var requests: [UInt16: Queues] = [:]
  private var owners: [UInt16: UInt16] = [:]
  /// The command that a name stands for now.
  private var last: [UInt64: Int] = [:]
  private var lastRequest: [UInt64: Int] = [:]
  /// When the completion queue's work began that ran last.
  private var completionWork: [UInt64: UInt64] = [:]
  private var count = 0

  private static let commandsMax = 1 << 20

  init(_ reader: TraceReader, isHost: Bool) throws(TraceError) {
    self.isHost = isHost
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      if id.source == .kernel { take(record, id.stream) }
    }
  }

  /// The busiest, with its commands.
  var byOwner: [(owner: UInt16, queues: Queues)] {
    // A command of nvmet-pci-epf is a request too: the earlier sight of it is the better one.
    let all = requests.merging(commands) { _, fetched in fetched }
    return all.map { (owner: $0.key, queues: $0.value, count: $0.value.values.reduce(0) { $0 + $1.count }) }
      .sorted { ($1.count, $0.owner) < ($0.count, $1.owner) }.map { ($0.owner, $0.queues) }
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
    let key = UInt64(owner) << 32 | UInt64(event.qid) << 16 | UInt64(event.cid)
    if isHost { takeHost(event, owner, key) } else { takeTarget(record, owner, key) }
  }

  private mutating func takeHost(_ event: Record, _ owner: UInt16, _ key: UInt64) {
    switch event.event {
    case .submit:
      let name = Sight.Name(cid: event.cid, opcode: event.flags, slba: event.a)
      Sights.add(Sight(begin: event.time, name: name), owner, event.qid, key, to: &commands, &last, &count)
    case .completion:
      if let index = last.removeValue(forKey: key) { commands[owner]?[event.qid]?[index].end = event.time }
    default: break
    }
  }

  private mutating func takeTarget(_ record: UnsafePointer<Record>, _ owner: UInt16, _ key: UInt64) {
    let event = record.pointee
    switch event.event {
    case .fetch where event.tail == 2 && event.flags & EventFlag.failed == 0:
      let sqe = UnsafeRawPointer(record + 1).loadUnaligned(as: SubmissionEntry.self)
      let name = Sight.Name(cid: event.cid, opcode: sqe.opcode, slba: event.qid == 0 ? 0 : sqe.slba)
      let begin = event.time - min(UInt64(event.bLow), event.time)
      Sights.add(Sight(begin: begin, name: name), owner, event.qid, key, to: &commands, &last, &count)
    case .request:
      let name = Sight.Name(cid: event.cid, opcode: event.flags, slba: event.a)
      Sights.add(Sight(begin: event.time, name: name), owner, event.qid, key, to: &requests, &lastRequest, &count)
    case .executeEnd:
      if let index = lastRequest.removeValue(forKey: key) { requests[owner]?[event.qid]?[index].end = event.time }
    case .completionQueued:
      if let index = last[key] { commands[owner]?[event.qid]?[index].end = event.time }
    case .work where event.flags == KernelWork.completionQueue.rawValue:
      if completionWork.count >= 1 << 16 { completionWork = [:] }
      completionWork[key >> 16] = event.time
    case .completion:
      // The event itself comes when the entry has long been visible: what is certain is that it was posted after it
      // was queued, and in this run of the completion queue's work.
      guard let index = last.removeValue(forKey: key), let began = completionWork[key >> 16],
        let queued = commands[owner]?[event.qid]?[index].end
      else { return }
      commands[owner]?[event.qid]?[index].end = max(queued, began)
    default: break
    }
  }

  private static func add(
    _ sight: Sight, _ owner: UInt16, _ qid: UInt16, _ key: UInt64, to commands: inout [UInt16: Queues],
    _ last: inout [UInt64: Int], _ count: inout Int
  ) {
    guard count < 2 * commandsMax else { return }
    count += 1
    last[key] = commands[owner]?[qid]?.count ?? 0
    commands[owner, default: [:]][qid, default: []].append(sight)
  }
}
