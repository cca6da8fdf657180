import EventSequences
import Events
import KernelStreams
import NVMe
import Trace

/// Whose commands a trace of the kernel is debugged for: a controller of its target and the host that drives it, or a
/// host's driver alone. It says what each event means for them.
struct KernelSubject {
  /// A controller's identifier, or the instance of a host's driver.
  let number: UInt16
  /// The trace has events of the target.
  let hasTarget: Bool
  /// The controller is nvmet-pci-epf's, whose commands show all stages.
  private(set) var isEndpoint = false
  /// NQN of its subsystem; empty if unknown.
  let nqn: String
  /// By stream.
  let owners: [UInt16: StreamOwner]
  /// Whose events a stream has.
  enum Role: UInt8 { case target, host, other }
  /// By the number of the kernel's stream.
  private var roles: [Role] = []

  /// - Parameter controller: the controller of the target; nil for a host's driver.
  init(_ path: String, _ events: NumberedStreams, controller: (number: UInt16, nqn: String)?) throws {
    var owners: [UInt16: StreamOwner] = [:]
    var busiest: (instance: UInt16, events: UInt64)?
    for stream in events.streams where stream.id.source == .kernel {
      let loaded = try stream.load(0)
      var streams = KernelStreams()
      for index in 0..<loaded.count {
        let record = loaded.event(index)
        guard record.pointee.is(.origin) else { continue }
        // More becomes known of an owner after its first events.
        if case .owner(let owner)? = streams.ingest(record.pointee, tail: record.tail, stream: stream.id.stream) {
          owners[stream.id.stream] = owner
        }
      }
      if let owner = owners[stream.id.stream], owner.role == .host, stream.end - stream.first > busiest?.events ?? 0 {
        busiest = (owner.number, stream.end - stream.first)
      }
    }
    self.owners = owners
    if let controller {
      (number, hasTarget, nqn) = (controller.number, true, controller.nqn)
    } else if let busiest {
      (number, hasTarget, nqn) = (busiest.instance, false, "")
    } else {
      throw DebuggerError(
        "\(path) holds no events of our endpoint, nor of a kernel's controller or host")
    }
    for stream in events.streams {
      guard let owner = owner(stream.id) else { continue }
      let isHost = hasTarget ? owner.drives(number, of: nqn) : owner.isHost(number)
      while roles.count <= Int(stream.id.stream) { roles.append(.other) }
      roles[Int(stream.id.stream)] = hasTarget && owner.isTarget(number) ? .target : isHost ? .host : .other
    }
    isEndpoint = try findsEndpoint(events)
  }

  /// Whether one of its first events is one that only nvmet-pci-epf has.
  private func findsEndpoint(_ events: NumberedStreams) throws -> Bool {
    guard hasTarget else { return false }
    for stream in events.streams where isTarget(stream.id) {
      for chunk in 0..<min(stream.chunkCount, 4) {
        let loaded = try stream.load(chunk)
        for index in 0..<loaded.count {
          switch loaded.event(index).pointee.event {
          case .fetch, .work, .completionQueued, .completion: return true
          default: break
          }
        }
      }
    }
    return false
  }

  func role(_ id: StreamID) -> Role {
    id.source == .kernel && Int(id.stream) < roles.count ? roles[Int(id.stream)] : .other
  }

  func isTarget(_ id: StreamID) -> Bool { role(id) == .target }
  func isHost(_ id: StreamID) -> Bool { role(id) == .host }

  func owner(_ id: StreamID) -> StreamOwner? { id.source == .kernel ? owners[id.stream] : nil }

  /// The event with which a command begins, for movements: the first of the target, without one the host's.
  func begins(_ event: NumberedEvent) -> Bool {
    guard hasTarget else { return event.record.pointee.is(.submit) && isHost(event.id) }
    guard isTarget(event.id) else { return false }
    return if case .reached(_, _, begins: true) = meaning(of: event) { true } else { false }
  }

  // MARK: What an event means

  enum Meaning {
    case submitted(CommandKey, opcode: UInt8)
    /// The target does something for the command, which this event may begin.
    case reached(CommandKey, CommandProgress, begins: Bool)
    /// The target is done with it.
    case answered(CommandKey, CommandProgress)
    /// The host's driver has seen its completion.
    case seen(CommandKey)
    case dropped(CommandKey)
    /// The commands in flight end: those that nvmet-pci-epf has in hand when it answers or drops them, at `settled` at
    /// the latest, all others now.
    case reset
    case settled
    case deletedQueue(UInt16)
    /// Events were lost, of any commands.
    case lost
    case other
  }

  func meaning(of event: NumberedEvent) -> Meaning {
    let record = event.record.pointee
    if event.followsLoss || (record.is(.gap) && !Event.Gap(record).flags.contains(.notRun)) { return .lost }
    return switch role(event.id) {
    case .host: ofHost(record)
    case .target: ofTarget(record)
    case .other: .other
    }
  }

  private func ofHost(_ record: Record) -> Meaning {
    switch record.event {
    case .submit:
      let submit = Event.Submit(record)
      return .submitted(submit.key, opcode: submit.opcode)
    case .completion: return .seen(Event.Completion(record).queueKey)
    default: return .other
    }
  }

  private func ofTarget(_ record: Record) -> Meaning {
    let key = CommandKey(qid: record.qid, cid: record.cid)
    switch record.event {
    case .fetch: return Event.Fetch(record).flags.contains(.failed) ? .other : .reached(key, .fetched, begins: true)
    case .work where Event.Work(record).work == .command: return .reached(key, .worker, begins: false)
    case .request: return .reached(key, .accepted, begins: !isEndpoint)
    case .read: return .reached(key, .worker, begins: false)
    case .segment:
      let fromHost = Event.Segment(record).flags.contains(.fromHost)
      return .reached(key, fromHost ? .dataIn : .dataOut, begins: false)
    case .executeBegin: return .reached(key, .backend, begins: false)
    case .executeEnd: return isEndpoint ? .reached(key, .executed, begins: false) : .answered(key, .executed)
    case .completionQueued: return .reached(key, .ready, begins: false)
    case .completion: return .answered(Event.Completion(record).queueKey, .posted)
    case .dropped: return Event.Dropped(record).flags.contains(.failed) ? .other : .dropped(key)
    case .registerWrite:
      if CommandHistory.endsCommands(record) { return .reset }
      return Event.RegisterWrite(record).offset == Register.cc ? .settled : .other
    case .status: return Event.Status(record).csts & 1 == 0 ? .settled : .other
    case .link: return Event.Link(record).up == .down ? .reset : .other
    case .queue:
      let queue = Event.Queue(record)
      let isGone = queue.flags.contains(.deleted) && !queue.flags.contains(.completionQueue) && queue.status == 0
      return isGone ? .deletedQueue(queue.qid) : .other
    default: return .other
    }
  }

  /// The command that an event names; nil for other events.
  func command(of event: NumberedEvent) -> CommandKey? {
    let record = event.record.pointee
    guard role(event.id) != .other, let qid = record.queue, let cid = record.command else { return nil }
    switch record.event {
    case .work where Event.Work(record).work != .command: return nil
    case .workEnd where Event.WorkEnd(record).work != .command: return nil
    case .window where Event.Window(record).flags.contains(.completionQueue): return nil
    case .fetch where Event.Fetch(record).flags.contains(.failed): return nil
    case .dropped where Event.Dropped(record).flags.contains(.failed): return nil
    case .block: return nil
    default: return CommandKey(qid: qid, cid: cid)
    }
  }
}

/// How far a command has come, by its last event.
enum CommandProgress: Equatable, Sendable {
  case submitted, fetched, worker, accepted, dataIn, backend, executed, dataOut, ready, posted

  /// What it waits for.
  /// - Parameter opcode: nil if it is not known.
  func text(isEndpoint: Bool, isEventRequest: Bool, opcode: UInt8?) -> String {
    switch self {
    case .submitted: "is submitted, and the \(isEndpoint ? "driver has not fetched" : "controller has not answered") it"
    case .fetched: "is fetched, and waits for a worker"
    case .worker: "has a worker, which parses its data pointer"
    case .accepted:
      isEventRequest
        ? "waits in the target core for an event"
        : isEndpoint ? "has a worker, which maps its data" : "is with the target core"
    case .dataIn: "has a worker, which transfers its data from the host"
    case .backend: "waits for its backend"
    case .executed:
      // Bits 1:0 of an opcode: the controller transfers data to the host.
      !isEndpoint
        ? "is executed; the host has not seen it"
        : opcode.map { $0 & 3 == 2 } ?? true
          ? "is executed, and waits for its worker"
          : "is executed, and waits for the target core to answer it"
    case .dataOut: "has a worker, which transfers its data to the host"
    case .ready: "is done, and waits for the work of its completion queue"
    case .posted: "is posted, and the host has not seen it"
    }
  }
}
