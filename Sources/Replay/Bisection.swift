import Endpoint
import Events
import Trace

/// Where the state of the engine begins to differ from that of the recorded engine, as narrowly as the recording tells.
///
/// It tells the recorded engine's state at checkpoints, its hash between them, and its outputs. So two points are known:
/// the last at which the states agreed, and the first at which they differ. Between them the fields that differ at the
/// next checkpoint are followed through the replay.
public struct Bisection: Sendable {
  /// How far the recording supports the event that is named.
  public enum Certainty: String, Sendable {
    /// No other pass, and no other event from outside, lies between the two points. If an output differs, it is named.
    case exact
    /// It changes a differing field that the recorded engine had not changed by the next checkpoint.
    case likely
    /// No state is known between the two points, and here the first output differs.
    case output
    /// The first of several at which the replay changes a differing field, or that lie between the two points.
    case earliest
  }

  /// A pass that changed a field, or an event from outside that did.
  public struct Change: Sendable {
    public let events: Range<UInt64>
    public let from: String
    public let to: String
  }

  /// A field that differs at the next checkpoint, and what became of it in the replay between the two points.
  public struct Trail: Sendable {
    public let name: String
    /// Its values at that checkpoint.
    public let recorded: String
    public let engine: String
    public fileprivate(set) var changes: [Change] = []

    /// The first change, if the recorded engine still had the value before it at the checkpoint: then it did not make
    /// this change. If the field returns to that value, it may have made some changes.
    var likely: Change? {
      changes.first.flatMap { first in
        first.from == recorded && !changes.contains { $0.to == recorded } ? first : nil
      }
    }
  }

  public let stream: UInt16
  /// The first divergence of the replay.
  public let divergence: Divergence
  /// Number of the event at which the states were last compared and equal, and of the first at which they, or an output,
  /// differ.
  public private(set) var agreed: UInt64 = 0
  public private(set) var differs: UInt64
  /// The passes, and events from outside, between the two points.
  public private(set) var steps: [Range<UInt64>] = []
  /// What differs at the next checkpoint, and that checkpoint's number; or the output that differs before it.
  public private(set) var fields: [Trail] = []
  public private(set) var later: Divergence?
  /// The events after which the state differs, or some of which it may be: those of one pass.
  public private(set) var events: Range<UInt64> = 0..<0
  public private(set) var certainty = Certainty.earliest
  /// The first of them in words.
  public private(set) var words: [Divergence.Before] = []
  /// Both points in words.
  public private(set) var points: [Divergence.Before] = []

  private static let wordsMax = 12

  /// Narrow the first divergence of a trace.
  /// - Returns: nil if no checkpoint precedes it from which a replay finds it.
  public init?(_ reader: TraceReader, _ divergence: Divergence) throws(TraceError) {
    self.divergence = divergence
    (stream, differs) = (divergence.stream, divergence.event)
    guard
      let (id, chunks) = reader.streams.first(where: { $0.id.source == .engine && $0.id.stream == divergence.stream })
    else { return nil }
    let stream = ReplayedStream(reader, id.stream, chunks)
    do throws(TraceError) {
      guard let anchor = try stream.anchor(of: divergence), try findPoints(stream, from: anchor) else { return nil }
      try follow(stream, from: anchor)
      choose()
      try narrow(stream, from: anchor)
      words = try stream.texts(events, max: Bisection.wordsMax)
      // Between a checkpoint and its hash lie events of the recorder.
      if steps.count == 1, words.isEmpty { steps = [] }
      points =
        try stream.texts(agreed..<agreed + 1, max: 1) + stream.texts(differs..<differs + 1, max: 1)
    } catch { throw TraceError(error.kind, "\(reader.path): \(error.description)") }
  }

  // MARK: The two points

  /// Of the hashes in the last step; nil if it had none.
  private final class Comparison {
    var agrees: Bool?
  }

  private mutating func findPoints(_ stream: ReplayedStream, from anchor: Int) throws(TraceError) -> Bool {
    let chunk = stream.chunk(of: divergence.event)
    let isAtEnd = divergence.kind == .end
    let next = stream.nextCheckpoint(after: chunk)
    guard var replayer = try stream.replayer(from: anchor, to: next ?? chunk, isClosed: isAtEnd) else {
      return false
    }
    let end = next.map { stream.header($0).firstEvent } ?? .max
    let comparison = Comparison()
    replayer.hashes = { _, recorded, own in comparison.agrees = recorded.length == 0 ? nil : recorded.isHash(own) }
    agreed = replayer.event - 1
    var found: UInt64?
    while replayer.event <= end {
      let begin = replayer.event
      comparison.agrees = nil
      guard try replayer.step() else { break }
      guard found == nil else { continue }
      if divergence.kind == .invariant, replayer.controller.brokenInvariant() != nil {
        // The state contradicts itself from here on, and did not before: no hash needs to tell.
        let end = replayer.event - (comparison.agrees == nil ? 0 : 1)
        (agreed, steps, found) = (begin - 1, [begin..<end], end)
        break
      }
      if !replayer.isBetweenPasses {
        // The step in which an output differs. At a checkpoint nothing happens.
        if replayer.divergence()?.kind != .state { steps.append(begin..<replayer.event + 1) }
        break
      }
      switch comparison.agrees {
      // A hash is the last event of its step.
      case true?: (agreed, steps) = (replayer.event - 1, [])
      case false?:
        found = replayer.event - 1
        if begin < replayer.event - 1 { steps.append(begin..<replayer.event - 1) }
      case nil where stream.beginsWithCheckpoint(at: begin): (agreed, steps) = (begin, [])
      case nil: steps.append(begin..<replayer.event)
      }
    }
    if isAtEnd { _ = try replayer.run() }
    later = replayer.divergence()
    differs = found ?? later?.event ?? divergence.event
    return true
  }

  // MARK: Fields

  /// Follow the differing fields from one point to the other.
  private mutating func follow(_ stream: ReplayedStream, from anchor: Int) throws(TraceError) {
    guard let later, later.recordedKind == .checkpoint, !later.fields.isEmpty else { return }
    fields = later.fields.map { Trail(name: $0.name, recorded: $0.recorded, engine: $0.engine) }
    guard var replayer = try stream.replayer(from: anchor, to: stream.chunk(of: divergence.event)) else {
      return
    }
    replayer.hashes = { _, _, _ in }
    while replayer.event <= agreed, try replayer.step() {}
    guard replayer.isBetweenPasses else { return }
    var bytes = replayer.checkpoint()
    var values = Bisection.values(bytes)
    while replayer.event < differs {
      let begin = replayer.event
      guard try replayer.step(), replayer.isBetweenPasses else { break }
      let now = replayer.checkpoint()
      if now == bytes { continue }
      let changed = Bisection.values(now)
      for place in fields.indices {
        let name = fields[place].name
        let (from, to) = (values[name] ?? "none", changed[name] ?? "none")
        if from != to { fields[place].changes.append(Change(events: begin..<replayer.event, from: from, to: to)) }
      }
      (bytes, values) = (now, changed)
    }
  }

  private static func values(_ checkpoint: [UInt8]) -> [String: String] {
    let fields = checkpoint.withUnsafeBytes { Controller.fields(of: $0) }
    return Dictionary(fields.map { ($0.path, $0.value) }) { first, _ in first }
  }

  // MARK: The event

  /// The states differ, or the engine's is inconsistent; else an output differs.
  var isOfState: Bool { divergence.kind == .state || divergence.kind == .invariant }

  private mutating func choose() {
    if steps.count <= 1, !isOfState {
      (events, certainty) = (differs..<differs + 1, .exact)
    } else if steps.count <= 1 {
      (events, certainty) = (steps.first ?? differs..<differs + 1, .exact)
    } else if let likely = fields.compactMap(\.likely).min(by: { $0.events.lowerBound < $1.events.lowerBound }) {
      (events, certainty) = (likely.events, .likely)
    } else if let first = fields.compactMap(\.changes.first).min(by: { $0.events.lowerBound < $1.events.lowerBound }) {
      (events, certainty) = (first.events, .earliest)
    } else if !isOfState {
      (events, certainty) = (divergence.event..<divergence.event + 1, .output)
    } else {
      (events, certainty) = (steps[0], .earliest)
    }
  }

  /// Of a pass, the events between which the objects of the differing fields change.
  private mutating func narrow(_ stream: ReplayedStream, from anchor: Int) throws(TraceError) {
    let objects = Set(fields.filter { $0.changes.contains { $0.events == events } }.compactMap { StateObject($0.name) })
    guard events.count > 1, !objects.isEmpty,
      var replayer = try stream.replayer(from: anchor, to: stream.chunk(of: events.lowerBound))
    else { return }
    replayer.hashes = { _, _, _ in }
    while replayer.event < events.lowerBound, try replayer.step() {}
    let watch = ObjectWatch(objects, replayer.controller.state, event: replayer.event)
    replayer.observer = watch
    guard try replayer.step() else { return }
    watch.observe(replayer.controller, event: replayer.event)
    if let found = watch.changed, !found.isEmpty { events = found.clamped(to: events) }
  }
}

/// What a field of a checkpoint belongs to, where a copy of the state holds it too.
private enum StateObject: Hashable {
  case submissionQueue(UInt16)
  case completionQueue(UInt16)
  case registers

  /// - Parameter path: for example `completion queue 1, head`.
  init?(_ path: String) {
    let name = path.prefix { $0 != "," }
    let number = name.split(separator: " ").last.flatMap { UInt16($0) }
    if let number, name.hasPrefix("submission queue ") {
      self = .submissionQueue(number)
    } else if let number, name.hasPrefix("completion queue ") {
      self = .completionQueue(number)
    } else if ["CC", "CSTS", "INTMS", "AQA", "ASQ", "ACQ", "pending CC"].contains(name) {
      self = .registers
    } else {
      return nil
    }
  }

  func isEqual(_ a: EngineState, _ b: EngineState) -> Bool {
    switch self {
    case .submissionQueue(let qid): a.submissionQueue(qid) == b.submissionQueue(qid)
    case .completionQueue(let cqid): a.completionQueue(cqid) == b.completionQueue(cqid)
    case .registers: a.registers == b.registers
    }
  }
}

/// Finds the first change of some objects within a pass.
private final class ObjectWatch: ReplayObserver {
  private let objects: Set<StateObject>
  private var last: (state: EngineState, event: UInt64)
  /// The events between the two observations that enclose it.
  private(set) var changed: Range<UInt64>?

  init(_ objects: Set<StateObject>, _ state: EngineState, event: UInt64) {
    (self.objects, last) = (objects, (state, event))
  }

  func observe(_ controller: borrowing Controller, event: UInt64) {
    let state = controller.state
    if changed == nil, objects.contains(where: { !$0.isEqual(last.state, state) }) { changed = last.event..<event }
    last = (state, event)
  }
}
