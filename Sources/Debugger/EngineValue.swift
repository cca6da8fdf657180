import Endpoint
import Expressions
import NVMe

/// A value of the engine's state that an expression can name.
enum EngineValue: Hashable, Sendable {
  case submission(UInt16, SubmissionValue)
  case completion(UInt16, CompletionValue)
  case register(RegisterName)
  case inFlight

  enum SubmissionValue: String, CaseIterable, Sendable { case head, tail, announced, inFlight, executing }

  enum CompletionValue: String, CaseIterable, Sendable {
    case head, tail, phase, outstanding, unannounced, waiting, full, blocked, aggregating
  }

  enum RegisterName: String, CaseIterable, Sendable { case cc, csts, intms, aqa, asq, acq }
}

extension Vocabulary where Place == EngineValue {
  /// What expressions say of the engine's state.
  static let engine = Vocabulary(
    submission + completion + [
      .init(
        "register", .number, "The engine's register.",
        words: EngineValue.RegisterName.allCases.map { ($0.rawValue.uppercased(), .register($0)) }),
      .init("in-flight", .number, "Commands between fetch and completion.", .inFlight),
    ])

  private static let submission: [Definition] = [
    ("head", ValueKind.number, "The next entry to fetch.", .head),
    ("tail", .number, "One past the newest announced entry.", .tail),
    ("announced", .number, "Announced entries that are not fetched.", .announced),
    ("in-flight", .number, "Its commands between fetch and completion.", .inFlight),
    ("executing", .number, "Its commands at backends.", .executing),
  ].map { (name: String, kind: ValueKind, meaning: String, value: EngineValue.SubmissionValue) in
    Definition("sq[].\(name)", kind, "Submission queue N: \(meaning)", index: 0...65535) {
      .submission(UInt16($0), value)
    }
  }

  private static let completion: [Definition] = [
    ("head", ValueKind.number, "The oldest entry that the host has not freed.", .head),
    ("tail", .number, "The next entry to post.", .tail),
    ("phase", .number, "The phase tag of the next entry.", .phase),
    ("outstanding", .number, "Posted entries that the host has not freed.", .outstanding),
    ("unannounced", .number, "Entries posted since the last interrupt.", .unannounced),
    ("waiting", .number, "Commands that wait to be posted.", .waiting),
    ("full", .flag, "There is no room for another entry.", .full),
    ("blocked", .flag, "A completion waits for room.", .blocked),
    ("aggregating", .flag, "The aggregation time of its interrupt is running.", .aggregating),
  ].map { (name: String, kind: ValueKind, meaning: String, value: EngineValue.CompletionValue) in
    Definition("cq[].\(name)", kind, "Completion queue N: \(meaning)", index: 0...65535) {
      .completion(UInt16($0), value)
    }
  }
}

extension Controller {
  /// Nil if the queue does not exist.
  func value(of place: EngineValue) -> UInt64? {
    switch place {
    case .submission(let qid, let value): submissionQueue(qid).map { EngineValue.value(value, $0) }
    case .completion(let cqid, let value): completionQueue(cqid).map { EngineValue.value(value, $0) }
    case .register(let name): EngineValue.value(name, registers)
    case .inFlight: UInt64(max(0, commandsInFlight))
    }
  }
}

extension EngineValue {
  fileprivate static func value(_ value: SubmissionValue, _ queue: EngineState.Submission) -> UInt64 {
    switch value {
    case .head: UInt64(queue.head)
    case .tail: UInt64(queue.tail)
    case .announced: UInt64(queue.announced)
    case .inFlight: UInt64(queue.held)
    case .executing: UInt64(queue.executing)
    }
  }

  fileprivate static func value(_ value: CompletionValue, _ queue: EngineState.Completion) -> UInt64 {
    switch value {
    case .head: UInt64(queue.head)
    case .tail: UInt64(queue.tail)
    case .phase: queue.phase ? 1 : 0
    case .outstanding: UInt64(queue.outstanding)
    case .unannounced: UInt64(queue.unannounced)
    case .waiting: UInt64(queue.waiting)
    case .full: queue.isFull ? 1 : 0
    case .blocked: queue.isBlocked ? 1 : 0
    case .aggregating: queue.isAggregating ? 1 : 0
    }
  }

  fileprivate static func value(_ name: RegisterName, _ registers: EngineState.Registers) -> UInt64 {
    switch name {
    case .cc: UInt64(registers.cc)
    case .csts: UInt64(registers.csts)
    case .intms: UInt64(registers.intms)
    case .aqa: UInt64(registers.aqa)
    case .asq: registers.asq
    case .acq: registers.acq
    }
  }
}
