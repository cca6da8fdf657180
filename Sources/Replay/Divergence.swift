import EventWords
import Events

/// A point at which the engine's behaviour differs from the recording.
public struct Divergence: Sendable {
  public typealias Field = (name: String, recorded: String, engine: String)

  /// In what they differ.
  public enum Kind: String, Sendable {
    /// The engine causes an event of another kind, or for another queue or command.
    case event
    /// The same kind of event has other fields.
    case fields
    /// The engine writes other bytes to host memory, or moves more data.
    case bytes
    /// At a checkpoint, or at a hash of the state.
    case state
    /// The engine's state is inconsistent.
    case invariant
    /// The recording continues, and the engine is at rest.
    case rest
    /// The recording has ended, and the engine goes on.
    case end
  }

  /// What the recording tells of a difference of states after it: fields at a checkpoint, or an output.
  public struct Later: Sendable {
    public let event: UInt64
    /// Of the recorded event.
    public let kind: EventKind
    public let fields: [Field]
    /// The engine's event in words, where it is an output.
    public let engine: String
  }

  /// A recorded event before it.
  public struct Before: Sendable {
    public let event: UInt64
    public let timeNs: UInt64
    public let text: String
  }

  public let kind: Kind
  /// Number of the event in its stream, from 0.
  public internal(set) var event: UInt64
  public let stream: UInt16
  /// Nanoseconds since the trace began; at the end of the recording, those of its last event.
  public internal(set) var timeNs: UInt64
  /// The kind of the recorded event; nil at the end of the recording.
  public let recordedKind: EventKind?
  /// The kind of the engine's event; nil if it has none.
  public let engineKind: EventKind?
  /// The recorded event in words.
  public let recorded: String
  /// The engine's event in words.
  public let engine: String
  /// The differing fields: the first of them.
  public let fields: [Field]
  /// Where the states have different hashes: the next point at which more is known.
  public internal(set) var later: Later?
  /// What is missing, on which side, and where addresses come from.
  public internal(set) var notes: [String] = []
  /// What the engine waits for, if it is at rest.
  public internal(set) var waits: [String] = []
  /// What the engine has between fetch and posting, and what each waits for; nil if it was not examined.
  public internal(set) var inFlight: [String]?
  /// Where the state was last compared, and equal.
  public internal(set) var agreed: Before?
  /// The queues concerned; empty if it is the controller.
  public internal(set) var queues: [UInt16] = []
  /// The preceding events of these queues, oldest first.
  public internal(set) var before: [Before] = []

  /// Place of the event in its chunk.
  let eventInChunk: UInt64
  let recordedEvent: Record?
  let engineEvent: Record?

  /// - Parameters:
  ///   - event: number of the recorded event.
  ///   - inChunk: its place in its chunk.
  init(_ difference: ReplayPort.Difference, stream: UInt16, event: UInt64, inChunk: UInt64) {
    (kind, self.stream, self.event, eventInChunk) = (difference.kind, stream, event, inChunk)
    (recordedEvent, engineEvent) = (difference.recorded, difference.engine)
    (recordedKind, engineKind) = (difference.recorded?.event, difference.engine?.event)
    timeNs = difference.recorded?.time ?? 0
    recorded = difference.recordedText
    var engineText = difference.what
    if engineText.isEmpty, var record = difference.engine {
      record.tail = 0
      engineText = EventSentence.text(&record)
    }
    engine = engineText
    if kind == .event, let recordedKind, let engineKind {
      fields = [("kind", recordedKind.description.name, engineKind.description.name)]
    } else if kind == .fields, let recorded = difference.recorded, let engine = difference.engine {
      fields = Divergence.fields(recorded, engine)
    } else {
      fields = difference.fields
    }
    queues = concernedQueues
  }

  /// Continue the story of different hashes.
  mutating func tell(_ later: Divergence) {
    guard let kind = later.recordedKind else { return }
    self.later = Later(event: later.event, kind: kind, fields: later.fields, engine: later.engine)
    queues = later.queues
  }

  /// Those of both events, or of the differing objects of a state.
  private var concernedQueues: [UInt16] {
    var found: Set<UInt16> = []
    for case let record? in [recordedEvent, engineEvent] {
      if let queue = record.queue { found.insert(queue) }
      if record.is(.completion) { found.insert(Event.Completion(record).sqid) }
    }
    guard kind == .state else { return found.sorted() }
    for field in fields {
      guard let object = field.name.split(separator: ",").first, object.contains("queue "),
        let number = object.split(separator: " ").last.flatMap({ UInt16($0) })
      else { continue }
      found.insert(number)
    }
    return found.sorted()
  }

  /// Whether both are of the same kind, at the same kind of event, in the same fields; bytes may differ at any place.
  public func isSame(as other: Divergence) -> Bool {
    kind == other.kind && recordedKind == other.recordedKind && engineKind == other.engineKind
      && (kind == .bytes || fields.map(\.name) == other.fields.map(\.name))
  }

  /// Whether what the recording tells of both after it has the same fields at the same kind of event.
  func isSameLater(as other: Divergence) -> Bool {
    later?.kind == other.later?.kind && later?.fields.map(\.name) == other.later?.fields.map(\.name)
  }

  /// "phase tag: recorded 1, engine 0".
  static func text(_ field: Field) -> String { "\(field.name): recorded \(field.recorded), engine \(field.engine)" }

  /// In one line: what is different.
  public var summary: String {
    if let note = notes.first, kind != .fields || note.contains(" missing from ") { return note }
    let kindName = recordedKind?.description.name
    switch kind {
    case .fields, .bytes, .state:
      let fields = later?.kind == .checkpoint ? later!.fields : fields
      guard let first = fields.first else { return engine }
      let more = fields.count > 1 ? ", and \(fields.count - 1) more" : ""
      return (kind == .state ? "state: " : kindName.map { "\($0): " } ?? "") + Divergence.text(first) + more
    case .invariant: return engine
    default: return "recorded \(kindName ?? recorded), engine \(engineKind?.description.name ?? engine)"
    }
  }
}
