import Endpoint
import EventWords
import Events
import NVMe
import Target
import Text
import Trace

/// The engine's port to a recording: it takes inputs from the recording and compares outputs with it.
///
/// After the first difference it answers every call with nothing new, so that the engine comes to rest.
struct ReplayPort: Port, ~Copyable {
  var cursor: EventCursor
  /// Commands fetched.
  private(set) var commands: UInt64 = 0
  private(set) var difference: Difference?
  /// The engine's event when the recording stops in the middle of a poll: at its end, or at a gap.
  private(set) var interruption: Record?
  /// Who examines the engine between its calls.
  var observer: (any ReplayObserver)? {
    didSet { isObserved = observer != nil }
  }
  private var isObserved = false
  /// Takes the bytes that the engine writes to host memory, with the number of the event, instead of comparing them.
  var outputs: ((UInt64, UnsafeRawBufferPointer) -> Void)?
  /// Takes the engine's slot of each request that completes later, with the number of the event, instead of comparing it:
  /// then requests are found by their commands' identifiers.
  var slots: ((UInt64, Int32) -> Void)?
  /// The slots of these requests.
  private var places: [CommandName: Int32] = [:]
  /// By slot: the command at a backend; nil if it was there at the initial checkpoint.
  private var executing = [CommandName?](repeating: nil, count: Controller.slots)
  /// What the doorbells hold, by index; nil before the first event of one. A recording has an event only where the engine sees a
  /// new value, so an engine that does not clear a doorbell sees the old one again.
  private var doorbells = [UInt32?](repeating: nil, count: 2 * Doorbell.pairs)
  /// Where the next segment of the same data may begin, in bytes.
  private var dataOffset: UInt64 = 0

  private struct CommandName: Hashable {
    let qid: UInt16
    let cid: UInt16
  }

  /// The first difference: the recorded event (nil at the end) and the engine's event (nil if it has none).
  struct Difference {
    var kind: Divergence.Kind
    var recorded: Record?
    var engine: Record?
    /// The recorded event in words.
    var recordedText: String
    /// What the engine does, where its event does not say it.
    var what: String
    var fields: [Divergence.Field]
  }

  init(_ cursor: consuming EventCursor) { self.cursor = cursor }

  /// The engine causes an event: the recording must have the same one here, except for times and inputs.
  /// - Returns: the recorded event; nil if there is none or it differs.
  @inline(__always)
  private mutating func expect<E: RecordedEvent>(_ came: E) -> UnsafePointer<Record>? {
    guard isComparing else { return nil }
    let came = came.record
    guard let recorded = cursor.peek(), E.compared.agree(recorded.pointee, came) else {
      stop(at: came)
      return nil
    }
    cursor.advance()
    return recorded
  }

  /// The recording's next event, if it has this kind.
  @inline(__always)
  private mutating func next<E: RecordedEvent>(_ kind: E.Type) -> E? {
    guard isComparing, let next = cursor.peek(), next.pointee.is(E.kind) else { return nil }
    return E(next.pointee)
  }

  @inline(__always)
  private var isComparing: Bool { difference == nil && interruption == nil }

  /// Continue after a gap.
  mutating func resume() {
    interruption = nil
    executing = [CommandName?](repeating: nil, count: Controller.slots)
    doorbells = [UInt32?](repeating: nil, count: 2 * Doorbell.pairs)
  }

  /// The recording was closed while the engine was at rest, so any further event of the engine is a difference.
  mutating func differAtEnd() {
    if let came = interruption { differ(.end, came, "") }
  }

  @inline(never)
  private mutating func stop(at came: Record) {
    let isSameKind = cursor.peek()?.pointee.kind == came.kind
    stop(at: came, isSameKind ? .fields : .event, "")
  }

  /// Where the recording has no more to compare, it stops in the middle of a poll.
  private mutating func stop(at came: Record, _ kind: Divergence.Kind, _ what: String) {
    if let recorded = cursor.peek(), !recorded.pointee.is(.gap) {
      differ(kind, came, what)
    } else {
      interruption = interruption ?? came
    }
  }

  private mutating func differ(
    _ kind: Divergence.Kind, _ came: Record?, _ what: String, _ fields: [Divergence.Field] = []
  ) {
    guard difference == nil else { return }
    let next = cursor.peek()
    difference = Difference(
      kind: kind, recorded: next?.pointee, engine: came,
      recordedText: next.map(EventSentence.text) ?? "the end of the recording", what: what, fields: fields)
  }

  /// The recording continues with an event that the engine did not cause.
  mutating func differAtRest() { differ(.rest, nil, "nothing: it is at rest") }

  /// The engine's state is inconsistent.
  mutating func differ(invariant broken: String) {
    differ(.invariant, nil, "the engine's state is inconsistent: \(broken)")
  }

  mutating func differ(state what: String, _ fields: [Divergence.Field] = []) {
    differ(.state, Event.Checkpoint().record, what, fields)
  }

  /// The engine's state has another hash than the recorded engine's.
  mutating func differ(_ recorded: Event.StateHash, _ own: StateHash) {
    let came = Event.StateHash(hash: own.value, length: UInt32(truncatingIfNeeded: own.length))
    let isOfHash = recorded.hash != own.value
    differ(
      .state, came.record, "",
      isOfHash
        ? [("hash of the state", recorded.hash.hex, own.value.hex)]
        : [("length of the state", "\(recorded.length)", "\(own.length)")])
  }

  // MARK: From outside

  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64) {
    _ = expect(Event.RegisterWrite(width: UInt8(truncatingIfNeeded: width), offset: offset, value: value))
  }

  mutating func registerRead(offset: UInt64, width: Int, value: UInt64) {
    _ = expect(Event.RegisterRead(width: UInt8(truncatingIfNeeded: width), offset: offset, value: value))
  }

  mutating func willReset(_ reason: ResetReason) { _ = expect(Event.Reset(reason: .init(rawValue: reason.rawValue))) }

  /// A detached namespace is compared only by its identifier; an attached one is decoded from the bytes.
  mutating func willChange(_ namespace: Namespace, isAttached: Bool) {
    _ = expect(
      Event.Namespace(
        flags: isAttached ? [.bytes, .attached] : .bytes, nsid: namespace.nsid,
        blockshift: UInt32(namespace.blockShift)))
  }

  // MARK: Doorbells

  @inline(__always)
  mutating func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32 {
    guard let next = next(Event.Doorbell.self), next.qid == doorbell.qid.rawValue,
      next.flags == (doorbell.isCompletionHead ? .completionHead : [])
    else { return doorbells[doorbell.index] ?? last }
    cursor.advance()
    doorbells[doorbell.index] = next.value
    return next.value
  }

  mutating func clear(_ doorbell: Doorbell) { doorbells[doorbell.index] = 0 }

  // MARK: Commands

  /// Entries recorded in one transfer must be requested in one.
  @inline(__always)
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    for place in 0..<count {
      let came = Event.Fetch(
        flags: place > 0 ? .joined : [], qid: qid.rawValue, slot: slot &+ UInt32(truncatingIfNeeded: place))
      guard let recorded = expect(came), let entry = recorded.fixedTail(as: SubmissionEntry.self),
        !Event.Fetch(recorded.pointee).flags.contains(.failed)
      else { return false }
      commands += 1
      entries[place] = entry
    }
    return true
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    let came = Event.Read(
      qid: qid.rawValue, cid: cid.rawValue, address: address.rawValue,
      length: UInt32(truncatingIfNeeded: bytes.count))
    guard let recorded = expect(came), let kept = recorded.bytes else { return false }
    bytes.copyMemory(from: kept)
    return true
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    let came = Event.Write(
      qid: qid.rawValue, cid: cid.rawValue, address: address.rawValue,
      length: UInt32(truncatingIfNeeded: bytes.count))
    guard let recorded = expect(came), let kept = recorded.bytes else { return false }
    if let outputs {
      outputs(cursor.events - 1, bytes)
    } else if let place = firstDifference(kept, bytes) {
      let isWithin = place < kept.count && place < bytes.count
      let values = isWithin ? (kept[place].hex, bytes[place].hex) : ("\(kept.count) bytes", "\(bytes.count) bytes")
      cursor.stepBack(to: recorded)
      differ(.bytes, came.record, "other bytes", [("byte \(place) of \(bytes.count)", values.0, values.1)])
    }
    return true
  }

  @inline(__always)
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    _ = expect(
      Event.Map(
        qid: qid.rawValue, cid: cid.rawValue, segments: UInt32(truncatingIfNeeded: segments), length: length))
  }

  // MARK: Data

  @inline(__always)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let came = Event.Segment(
      flags: direction == .fromHost ? .fromHost : [], qid: request.qid.rawValue, cid: request.cid.rawValue,
      address: segment.address.rawValue, length: segment.length)
    // A segment's place in the data is in no event, and segments that the host discards leave a space.
    guard offset >= dataOffset else {
      misplaced(offset)
      return false
    }
    guard let recorded = expect(came), !Event.Segment(recorded.pointee).flags.contains(.failed) else {
      dataOffset = 0
      return false
    }
    dataOffset = offset + UInt64(segment.length)
    return true
  }

  @inline(never)
  private mutating func misplaced(_ offset: UInt64) {
    differ(invariant: "a segment at byte \(offset) of the data follows one that ends at byte \(dataOffset)")
  }

  /// An inaccessible segment is recorded where it is checked, an accessible one where it is transferred.
  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    guard let next = next(Event.Segment.self), next.flags.contains(.failed), next.address == segment.address.rawValue,
      next.length == segment.length
    else { return isComparing }
    return transfer(direction, request, offset: 0, segment)
  }

  /// If the backend keeps data, the recording has digests of the payload, in consecutive pieces.
  mutating func transferred(_ direction: Direction, _ request: IORequest) {
    dataOffset = 0
    var offset: UInt32 = 0
    while let next = next(Event.Payload.self), next.cid == request.cid.rawValue,
      UInt64(offset) < request.transferBytes
    {
      let came = Event.Payload(
        flags: direction == .fromHost ? .fromHost : [], qid: request.qid.rawValue, cid: request.cid.rawValue,
        offset: offset)
      guard expect(came) != nil else { return }
      offset = offset &+ max(1, next.length)
    }
    if offset > 0, UInt64(offset) != request.transferBytes { stopShort(of: request, offset) }
  }

  @inline(never)
  private mutating func stopShort(of request: IORequest, _ recorded: UInt32) {
    stop(
      at: Event.Payload(qid: request.qid.rawValue, cid: request.cid.rawValue).record, .bytes,
      "\(request.transferBytes) bytes of data, of which \(recorded) were recorded")
  }

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status? {
    let begin = Event.ExecuteBegin(
      opcode: request.opcode.rawValue, qid: request.qid.rawValue, cid: request.cid.rawValue, slba: request.slba,
      blocks: request.blocks, nsid: request.nsid)
    guard expect(begin) != nil else { return .internalError }
    // An immediate completion follows at once.
    guard let next = next(Event.ExecuteEnd.self), !next.flags.contains(.later) else {
      let name = CommandName(qid: request.qid.rawValue, cid: request.cid.rawValue)
      executing[Int(request.slot)] = name
      if slots != nil { places[name] = request.slot }
      return nil
    }
    guard expect(Event.ExecuteEnd(qid: request.qid.rawValue, cid: request.cid.rawValue)) != nil else {
      return .internalError
    }
    return Status(rawValue: UInt16(truncatingIfNeeded: next.status))
  }

  mutating func completion() -> (slot: Int32, status: Status)? {
    guard let next = next(Event.ExecuteEnd.self), next.flags.contains(.later) else { return nil }
    let slot = slot(of: next)
    var came = Event.ExecuteEnd(flags: .later, qid: next.qid, cid: next.cid, slot: next.slot)
    if executing.indices.contains(Int(slot)), let name = executing[Int(slot)] {
      (came.qid, came.cid) = (name.qid, name.cid)
    }
    guard expect(came) != nil else { return nil }
    return (slot, Status(rawValue: UInt16(truncatingIfNeeded: next.status)))
  }

  /// The engine's slot of the request that an event completes.
  private mutating func slot(of end: Event.ExecuteEnd) -> Int32 {
    guard let slots, let slot = places.removeValue(forKey: CommandName(qid: end.qid, cid: end.cid)) else {
      return Int32(bitPattern: end.slot)
    }
    slots(cursor.events, slot)
    return slot
  }

  /// A cancelled request completes here, with the status for that.
  mutating func cancel(_ request: IORequest) -> Bool {
    guard let next = next(Event.ExecuteEnd.self), next.flags.contains(.later),
      next.status == UInt32(Status.abortRequested.rawValue),
      slots == nil
        ? Int32(bitPattern: next.slot) == request.slot
        : next.qid == request.qid.rawValue && next.cid == request.cid.rawValue
    else { return false }
    _ = slot(of: next)
    let came = Event.ExecuteEnd(
      flags: .later, qid: request.qid.rawValue, cid: request.cid.rawValue, slot: next.slot)
    return expect(came) != nil
  }

  func abandonRequests() {}

  // MARK: Time

  mutating func clockMs() -> UInt64 {
    guard let recorded = expect(Event.Time()) else { return 0 }
    return Event.Time(recorded.pointee).ms
  }

  func arm(_ timer: EngineTimer, afterUs: UInt64) {}
  func disarm(_ timer: EngineTimer) {}

  mutating func expired() -> EngineTimer? {
    guard let next = next(Event.Timer.self) else { return nil }
    let timer: EngineTimer
    switch next.timer {
    case .aggregation: timer = .aggregation(QueueID(next.cqid))
    case .keepAlive: timer = .keepAlive
    case .configuration: timer = .configuration
    default: return nil
    }
    cursor.advance()
    return timer
  }

  // MARK: Completion

  @inline(__always)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    let came = Event.Completion(
      cqid: cqid.rawValue, cid: cqe.cid.rawValue, dw0: cqe.dw0, dw1: cqe.dw1, dw2: cqe.dw2, dw3: cqe.dw3)
    guard let recorded = expect(came) else { return false }
    return !Event.Completion(recorded.pointee).flags.contains(.failed)
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    _ = expect(Event.Interrupt(cqid: cqid.rawValue, vector: UInt32(vector), entries: entries))
  }

  mutating func completionQueueFull(_ cqid: QueueID) {
    _ = expect(Event.CompletionQueueFull(cqid: cqid.rawValue))
  }

  @inline(__always)
  mutating func observe(_ controller: borrowing Controller) {
    // What the engine does after a difference tells nothing.
    if isObserved, difference == nil { showObserver(controller) }
  }

  /// Out of line, since it counts references.
  @inline(never)
  private func showObserver(_ controller: borrowing Controller) {
    observer?.observe(controller, event: cursor.events)
  }
}

/// Examines the engine during a replay.
public protocol ReplayObserver: AnyObject {
  /// The engine has acted on the events up to here, or on some of them.
  /// - Parameter event: number of the next event in its stream.
  func observe(_ controller: borrowing Controller, event: UInt64)
}

/// Position of the first difference between two byte sequences of equal length.
func firstDifference(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int? {
  guard a.count == b.count else { return min(a.count, b.count) }
  return a.indices.first { a[$0] != b[$0] }
}
