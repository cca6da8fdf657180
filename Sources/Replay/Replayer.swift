import Endpoint
import EventTable
import Events
import NVMe
import Target
import Text
import Trace

/// The result of replaying one stream.
public struct ReplayResult: Sendable {
  public var commands: UInt64 = 0
  public var events: UInt64 = 0
  /// Commands that the engine held when the recording ended, other than event requests.
  public var unfinished = 0
  /// Nil if every output was identical.
  public var divergence: Divergence?

  public init(commands: UInt64 = 0, events: UInt64 = 0, unfinished: Int = 0, divergence: Divergence? = nil) {
    self.commands = commands
    self.events = events
    self.unfinished = unfinished
    self.divergence = divergence
  }
}

extension ReplayResult {
  /// Replay every engine's stream of a trace, to the first divergence; nothing where it has none.
  public init(replaying reader: TraceReader) throws(TraceError) {
    self.init()
    for (id, chunks) in reader.streams where id.source == .engine && divergence == nil {
      do throws(TraceError) {
        var replayer = try Replayer(stream: id.stream, isClosed: reader.isClosed, chunks: reader.source(of: chunks))
        add(try replayer.run())
      } catch { throw TraceError(error.kind, "\(reader.path): \(error.description)") }
    }
  }

  /// And what another replay found.
  public mutating func add(_ other: ReplayResult) {
    commands += other.commands
    events += other.events
    unfinished += other.unfinished
    divergence = divergence ?? other.divergence
  }
}

/// Replays one engine stream: feeds recorded inputs to the engine, compares its outputs with the recorded ones, and its
/// state with every checkpoint.
public struct Replayer: ~Copyable {
  private var port: ReplayPort
  /// The engine, between two steps.
  public private(set) var controller: Controller
  private let state: UnsafeMutableRawBufferPointer
  private let stream: UInt16
  private let isClosed: Bool
  /// What the engine was given so far: events from outside, and passes.
  private var steps: UInt64 = 0
  /// Fields of two states that a divergence lists.
  private static let fieldsMax = 8

  /// - Parameters:
  ///   - isClosed: the recorder closed the trace, so it ends where the engine was at rest.
  ///   - first: number of the first event in its stream.
  ///   - chunks: the stream's chunks in order; the first begins with a checkpoint.
  /// - Throws: `.damaged` if there is no initial checkpoint.
  public init(
    stream: UInt16, isClosed: Bool, first: UInt64 = 0,
    chunks: @escaping () throws(TraceError) -> UnsafeBufferPointer<Record>?
  ) throws(TraceError) {
    var cursor = EventCursor(chunks, first: first)
    guard let begin = try Replayer.begin(&cursor) else {
      throw cursor.error ?? TraceError(.damaged, "there is no checkpoint at which a replay could start")
    }
    controller = begin
    port = ReplayPort(cursor)
    state = .allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
    self.stream = stream
    self.isClosed = isClosed
  }

  deinit { state.deallocate() }

  /// The engine at the first checkpoint; earlier events (the rest of a lost chunk) are skipped.
  /// - Returns: nil if no checkpoint follows.
  private static func begin(_ cursor: inout EventCursor) throws(TraceError) -> Controller? {
    while let next = cursor.peek() {
      if next.pointee.event == .checkpoint {
        let controller = try decode(next)
        cursor.advance()
        return controller
      }
      cursor.advance()
    }
    return nil
  }

  private static func decode(_ record: UnsafePointer<Record>) throws(TraceError) -> Controller {
    guard let bytes = record.bytes else { throw TraceError(.damaged, "a checkpoint is empty") }
    do throws(CheckpointError) {
      return try Controller.decode(bytes)
    } catch .unknownVersion(let version) {
      throw TraceError(
        .otherVersion,
        "its checkpoints have layout \(version) and this nvmepf replays layout \(Controller.stateVersion): replay it with "
          + "the build that recorded it; nvmepf report, info and dump read it")
    } catch {
      throw TraceError(.damaged, "a checkpoint is damaged")
    }
  }

  /// Replay to the end, or to the first divergence. A recording may end in the middle of a poll if its recorder was
  /// killed; the recorded part is compared.
  /// - Throws: damage that the reader found.
  public mutating func run() throws(TraceError) -> ReplayResult {
    while try step() {}
    if isClosed { port.differAtEnd() }
    return ReplayResult(
      commands: port.commands, events: port.cursor.events, unfinished: controller.commandsInFlight,
      divergence: divergence())
  }

  /// Give the engine one event from outside, or let it make one pass.
  /// - Returns: false at the end of the recording, or at a divergence.
  /// - Throws: damage that the reader found.
  public mutating func step() throws(TraceError) -> Bool {
    guard port.difference == nil else { return false }
    guard let next = port.cursor.peek() else {
      if let error = port.cursor.error { throw error }
      return false
    }
    switch EventKind(rawValue: next.pointee.kind) {
    case .registerWrite:
      let write = Event.RegisterWrite(next.pointee)
      controller.writeRegister(offset: write.offset, width: Int(write.width), value: write.value, &port)
    case .registerRead:
      let read = Event.RegisterRead(next.pointee)
      _ = controller.readRegister(offset: read.offset, width: Int(read.width), &port)
    case .reset: reset(Event.Reset(next.pointee))
    case .namespace: changeNamespace(next)
    case .checkpoint: compareState(next)
    case .gap:
      port.cursor.advance()
      port.resume()
      guard let next = try Replayer.begin(&port.cursor) else { break }
      controller = next
    default: poll()
    }
    steps += 1
    // A check costs as much as a few commands.
    if steps < 1024 || steps % 512 == 0 { checkInvariants() }
    return true
  }

  /// Number of the next event in its stream.
  public var event: UInt64 { port.cursor.events }

  /// The recording does not stop in the middle of the last step, and the step did not diverge.
  public var isBetweenPasses: Bool { port.difference == nil && port.interruption == nil }

  /// A checkpoint of the engine.
  /// - Precondition: it is between two passes.
  public mutating func checkpoint() -> [UInt8] {
    precondition(isBetweenPasses)
    return Array(state[..<controller.encode(into: state)])
  }

  /// Takes the bytes that the engine writes to host memory, such as Identify data, with the number of the event. Then
  /// they are not compared: a trace can be made that has them.
  public var outputs: ((UInt64, UnsafeRawBufferPointer) -> Void)? {
    get { port.outputs }
    set { port.outputs = newValue }
  }

  /// Takes the engine's slot of each request that completes later, with the number of the event. Then it is not compared:
  /// a trace can be made that lacks other commands.
  public var slots: ((UInt64, Int32) -> Void)? {
    get { port.slots }
    set { port.slots = newValue }
  }

  /// Who examines the engine during the steps.
  public var observer: (any ReplayObserver)? {
    get { port.observer }
    set { port.observer = newValue }
  }

  private mutating func reset(_ reset: Event.Reset) {
    guard let reason = ResetReason(rawValue: reset.reason.rawValue) else { return port.differAtRest() }
    controller.reset(reason, &port)
  }

  private mutating func changeNamespace(_ record: UnsafePointer<Record>) {
    let isAttached = Event.Namespace(record.pointee).flags.contains(.attached)
    guard let bytes = record.bytes, let namespace = try? Namespace.decode(bytes),
      (controller.target.namespace(namespace.nsid) == nil) == isAttached
    else { return port.differAtRest() }
    if isAttached {
      controller.attach(namespace, &port)
    } else {
      controller.detach(namespace.nsid, &port)
    }
  }

  private mutating func poll() {
    let before = port.cursor.events
    let isDoorbell = port.cursor.peek()?.pointee.is(.doorbell) ?? false
    controller.poll(&port)
    if port.cursor.events == before, isDoorbell { controller.findStrayDoorbells(&port) }
    // A poll that consumes nothing changes nothing, so the next one would not consume it either.
    if port.cursor.events == before { port.differAtRest() }
  }

  private mutating func checkInvariants() {
    if let broken = controller.brokenInvariant() { port.differ(state: "the engine's state is inconsistent: \(broken)") }
  }

  private mutating func compareState(_ record: UnsafePointer<Record>) {
    checkInvariants()
    guard port.difference == nil else { return }
    let count = controller.encode(into: state)
    let own = UnsafeRawBufferPointer(rebasing: state[..<count])
    guard let recorded = record.bytes else { return port.differ(state: "the recorded checkpoint is empty") }
    guard let place = firstDifference(recorded, own) else { return port.cursor.advance() }
    let fields = Replayer.differingFields(recorded, own)
    // If no value differs, the order does, or a field occurs twice.
    let first = Controller.fields(of: own).last { $0.offset <= place }?.path ?? "its beginning"
    let what = fields.isEmpty ? "it differs from \(first) on" : "fields differ: \(fields.count)"
    port.differ(state: "another state: \(what)", Array(fields.prefix(Replayer.fieldsMax)))
  }

  /// Fields of two states with different values. An element that only one state has is listed by its first field.
  private static func differingFields(_ recorded: UnsafeRawBufferPointer, _ own: UnsafeRawBufferPointer)
    -> [Divergence.Field]
  {
    let (recordedFields, ownFields) = (Controller.fields(of: recorded), Controller.fields(of: own))
    let expected = Dictionary(recordedFields.map { ($0.path, $0.value) }) { first, _ in first }
    let came = Dictionary(ownFields.map { ($0.path, $0.value) }) { first, _ in first }
    var paths = recordedFields.map(\.path)
    // Of a damaged recording, only the fields before the damage are known.
    if let last = recordedFields.last, last.offset + last.length == recorded.count {
      paths += ownFields.map(\.path).filter { expected[$0] == nil }
    }
    var found: [Divergence.Field] = []
    var absent = "none"
    for path in paths where expected[path] != came[path] && !path.hasPrefix("\(absent), ") {
      if expected[path] == nil || came[path] == nil { absent = path }
      found.append((path, expected[path] ?? "none", came[path] ?? "none"))
    }
    return found
  }

  // MARK: The story

  /// The divergence at which the replay stopped, if it did.
  public func divergence() -> Divergence? {
    guard let difference = port.difference else { return nil }
    let history = port.cursor.history()
    let came = difference.what.isEmpty ? difference.came.text() : difference.what
    return Divergence(
      event: port.cursor.events, stream: stream, timeNs: difference.expected?.time ?? 0,
      expected: difference.expected?.text() ?? "the end of the recording", came: came,
      fields: difference.what.isEmpty ? differingFields(difference.expected, difference.came) : difference.fields,
      inFlight: Replayer.inFlight(history), before: history.suffix(12).map { $0.pointee.text() })
  }

  private func differingFields(_ expected: Record?, _ came: Record) -> [Divergence.Field] {
    guard let expected, let kind = expected.event else { return [] }
    guard expected.kind == came.kind else { return [("kind", kind.description.name, came.event!.description.name)] }
    return kind.description.fields.compactMap { field in
      let compared = ~field.bits.reduce(0 as UInt64) { $1.isAnswer ? $0 | UInt64($1.value) : $0 }
      guard !field.isAnswer, let old = expected.value(of: field), let new = came.value(of: field),
        old & compared != new & compared
      else { return nil }
      return (field.name, field.text(old), field.text(new))
    }
  }

  private static func inFlight(_ history: [UnsafePointer<Record>]) -> [String] {
    var commands: [(qid: UInt16, cid: UInt16, text: String)] = []
    for record in history {
      switch record.pointee.event {
      case .fetch:
        guard let entry = record.fixedTail(as: SubmissionEntry.self) else { break }
        let (qid, cid) = (Event.Fetch(record.pointee).qid, entry.cid.rawValue)
        commands.append((qid, cid, "\(qid)/\(cid) opcode \(entry.opcode.hex)"))
      case .completion:
        let completion = Event.Completion(record.pointee)
        commands.removeAll { $0.qid == completion.sqid && $0.cid == completion.cid }
      case .reset: commands.removeAll()
      default: break
      }
    }
    return commands.map(\.text)
  }
}
