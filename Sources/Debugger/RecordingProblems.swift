import EventSequences
import Events
import NVMe
import Trace

/// What went wrong in a recording, by kind: how often, and the first event of the engine that shows it.
struct RecordingProblems {
  struct Kind {
    let what: String
    var count: UInt64
    let first: UInt64
  }

  private(set) var kinds: [Kind] = []
  private let countsExecution: Bool
  /// CC.EN as the host last wrote it.
  private var isEnabled = false

  /// - Parameters:
  ///   - countsExecution: the status of a command is that of its execution, because no completion is recorded.
  ///   - isMeant: whose events are examined.
  /// - Throws: if the visit is interrupted.
  init(
    of events: any EventSequence, countsExecution: Bool = false, _ isMeant: (NumberedEvent) -> Bool = { _ in true }
  ) throws {
    self.countsExecution = countsExecution
    try events.visit(from: events.first) { event in
      if event.followsLoss { note("events lost", event.number) }
      // Whose they are is not known.
      let isOfAll = event.record.pointee.is(.gap)
      if isMeant(event) || isOfAll, let what = name(event.record) { note(what, event.number) }
      return false
    }
  }

  private mutating func note(_ what: String, _ event: UInt64) {
    if let place = kinds.firstIndex(where: { $0.what == what }) {
      kinds[place].count += 1
    } else if kinds.count < 32 {
      kinds.append(Kind(what: what, count: 1, first: event))
    }
  }

  private mutating func name(_ record: UnsafePointer<Record>) -> String? {
    switch record.pointee.event {
    case .completion:
      let status = Status(rawValue: Event.Completion(record.pointee).status)
      return status.isSuccess ? nil : "completion with status \(status.name ?? status.code.hex)"
    case .executeEnd where countsExecution:
      let status = Status(rawValue: UInt16(truncatingIfNeeded: Event.ExecuteEnd(record.pointee).status))
      return status.isSuccess ? nil : "execution with status \(status.name ?? status.code.hex)"
    case .fault: return Event.Fault(record.pointee).ended == 0 ? "injected fault" : nil
    case .gap:
      return Event.Gap(record.pointee).flags.contains(.notRun) ? "probe that the kernel did not run" : "events lost"
    case .dropped: return "command abandoned without a completion"
    case .link: return Event.Link(record.pointee).up == .down ? "link down" : nil
    case .interrupt where Event.Interrupt(record.pointee).flags.contains(.failed): return "interrupt that failed"
    case .completionQueueFull: return "completion that waits for room in CQ \(record.pointee.qid)"
    case .fetch where Event.Fetch(record.pointee).flags.contains(.failed): return "fetch that failed"
    case .read where Event.Read(record.pointee).flags.contains(.failed): return "list that could not be read"
    case .segment where Event.Segment(record.pointee).flags.contains(.failed): return "segment that failed"
    // A host that leaves is the usual end.
    case .reset: return Event.Reset(record.pointee).reason == .hostGone ? nil : "reset from outside"
    case .registerWrite where Event.RegisterWrite(record.pointee).offset == Register.cc:
      defer { isEnabled = Event.RegisterWrite(record.pointee).value & 1 != 0 }
      return isEnabled && CommandHistory.endsCommands(record.pointee) ? "controller disabled by the host" : nil
    default: return nil
    }
  }
}
