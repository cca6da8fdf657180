import Endpoint
import Events
import NVMe
import Target
import Text
import Trace

/// Replays one engine stream: feeds recorded inputs to the engine, compares its outputs with the recorded ones, and its
/// state with every checkpoint and hash.
public struct Replayer: ~Copyable {
  private var port: ReplayPort
  /// The engine, between two steps.
  public private(set) var controller: Controller
  private let state: UnsafeMutableRawBufferPointer
  private let stream: UInt16
  private let isClosed: Bool
  private let first: UInt64
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
    self.init(begin, cursor, stream: stream, isClosed: isClosed, first: first)
  }

  private init(
    _ begin: consuming Controller, _ cursor: consuming EventCursor, stream: UInt16, isClosed: Bool, first: UInt64
  ) {
    controller = begin
    port = ReplayPort(cursor)
    state = .allocate(byteCount: Controller.checkpointBytesMax, alignment: 16)
    self.stream = stream
    self.isClosed = isClosed
    self.first = first
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
    let unfinished = controller.commandsInFlight
    var names: [String] = []
    if unfinished > 0 {
      let commands = controller.state.commands.lazy.filter { $0.awaits != .event }
      names = commands.prefix(ReplayResult.unfinishedNamed).map(\.text)
    }
    return ReplayResult(
      commands: port.commands, events: port.cursor.events - first, unfinished: unfinished,
      unfinishedCommands: names, divergence: divergence())
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
    let kind = EventKind(rawValue: next.pointee.kind)
    // A hash belongs to the step before it, except that of a checkpoint, at which a replay can begin.
    let endsWithHash = kind != .checkpoint && kind != .stateHash && kind != .gap
    switch kind {
    case .registerWrite:
      let write = Event.RegisterWrite(next.pointee)
      controller.writeRegister(offset: write.offset, width: Int(write.width), value: write.value, &port)
    case .registerRead:
      let read = Event.RegisterRead(next.pointee)
      _ = controller.readRegister(offset: read.offset, width: Int(read.width), &port)
    case .reset: reset(Event.Reset(next.pointee))
    case .namespace: changeNamespace(next)
    case .checkpoint: compareState(next)
    case .stateHash: compareHash(Event.StateHash(next.pointee))
    case .gap:
      port.cursor.advance()
      port.resume()
      guard let next = try Replayer.begin(&port.cursor) else { break }
      controller = next
    default: poll()
    }
    if endsWithHash, isBetweenPasses, port.cursor.isBeforeHash, let hash = port.cursor.peek() {
      compareHash(Event.StateHash(hash.pointee))
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

  /// Takes the hash of the engine's state where the recording has one, with the number of the event and the recorded
  /// hash. Then they are not compared.
  public var hashes: ((UInt64, Event.StateHash, StateHash) -> Void)?

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
    if let broken = controller.brokenInvariant() { port.differ(invariant: broken) }
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

  private mutating func compareHash(_ recorded: Event.StateHash) {
    // An edit has removed it.
    if recorded.length == 0, hashes == nil { return port.cursor.advance() }
    let own = controller.stateHash()
    if let hashes {
      hashes(port.cursor.events, recorded, own)
    } else if !recorded.isHash(own) {
      return port.differ(recorded, own)
    }
    port.cursor.advance()
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
    return Divergence(
      difference, stream: stream, event: port.cursor.events, inChunk: port.cursor.events - port.cursor.chunkBegin)
  }
}

extension Event.StateHash {
  func isHash(_ own: StateHash) -> Bool { hash == own.value && length == UInt32(truncatingIfNeeded: own.length) }
}
