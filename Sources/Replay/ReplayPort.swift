import Endpoint
import NVMe
import Target
import Trace

/// The engine's port to a recording: inputs come from it, outputs are compared with it.
///
/// After the first difference everything is answered with nothing new, so that the engine comes to rest.
struct ReplayPort: Port, ~Copyable {
  var cursor: EventCursor
  /// Commands fetched.
  private(set) var commands: UInt64 = 0
  private(set) var difference: Difference?
  /// The recording stops in the middle of a poll: at its end, where the recorder was killed, or at a gap.
  private(set) var isInterrupted = false

  /// The first difference: the event that the recording has (nil at its end) and what the engine did instead.
  struct Difference {
    var expected: Record?
    var came: Record
    var what: String
  }

  init(_ cursor: consuming EventCursor) { self.cursor = cursor }

  /// The engine comes with an event: the recording must have the same one here. Times and spans are not compared, nor
  /// what `inputs` covers: what the world answered.
  @inline(__always)
  private mutating func expect(_ came: Record, inputs: Inputs = []) -> UnsafePointer<Record>? {
    guard isComparing else { return nil }
    guard let recorded = cursor.peek(), ReplayPort.equal(recorded.pointee, came, inputs) else {
      differ(came)
      return nil
    }
    cursor.advance()
    return recorded
  }

  private struct Inputs: OptionSet {
    let rawValue: UInt8
    static let cid = Inputs(rawValue: 1)
    static let failed = Inputs(rawValue: 2)
    static let bLow = Inputs(rawValue: 4)
    static let bHigh = Inputs(rawValue: 8)
    static let aLow = Inputs(rawValue: 16)
    static let bytes = Inputs(rawValue: 32)
  }

  @inline(__always)
  private static func equal(_ recorded: Record, _ came: Record, _ inputs: Inputs) -> Bool {
    var flags: UInt8 = 0xff
    if inputs.contains(.failed) { flags &= ~EventFlag.failed }
    if inputs.contains(.bytes) { flags &= ~EventFlag.bytes }
    var b = UInt64.max
    if inputs.contains(.bLow) { b &= 0xffff_ffff_0000_0000 }
    if inputs.contains(.bHigh) { b &= 0xffff_ffff }
    let a: UInt64 = inputs.contains(.aLow) ? 0xffff_ffff_0000_0000 : .max
    return recorded.kind == came.kind && recorded.qid == came.qid && (recorded.flags ^ came.flags) & flags == 0
      && (inputs.contains(.cid) || recorded.cid == came.cid) && (recorded.a ^ came.a) & a == 0
      && (recorded.b ^ came.b) & b == 0
  }

  @inline(__always)
  private var isComparing: Bool { difference == nil && !isInterrupted }

  /// Go on behind a gap.
  mutating func resume() { isInterrupted = false }

  @inline(never)
  private mutating func differ(_ came: Record) {
    if let recorded = cursor.peek(), recorded.pointee.event != .gap {
      differ(came, "")
    } else {
      isInterrupted = true
    }
  }

  private mutating func differ(_ came: Record, _ what: String) {
    guard difference == nil else { return }
    difference = Difference(expected: cursor.peek()?.pointee, came: came, what: what)
  }

  /// The recording goes on with an event that nothing led to.
  mutating func differAtRest() {
    differ(Record(kind: .gap), "nothing: the engine is at rest")
  }

  mutating func differ(checkpoint what: String) {
    differ(Record(kind: .checkpoint), what)
  }

  // MARK: Registers and resets

  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64) {
    _ = expect(Record(kind: .registerWrite, flags: UInt8(truncatingIfNeeded: width), a: offset, b: value))
  }

  mutating func registerRead(offset: UInt64, width: Int, value: UInt64) {
    _ = expect(Record(kind: .registerRead, flags: UInt8(truncatingIfNeeded: width), a: offset, b: value))
  }

  mutating func willReset(_ reason: ResetReason) { _ = expect(Record(kind: .reset, flags: reason.rawValue)) }

  // MARK: Doorbells

  @inline(__always)
  mutating func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32 {
    guard isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.doorbell.rawValue,
      next.pointee.qid == doorbell.qid.rawValue,
      next.pointee.flags == (doorbell.isCompletionHead ? EventFlag.completionQueue : 0)
    else { return last }
    cursor.advance()
    return next.pointee.aLow
  }

  func clear(_ doorbell: Doorbell) {}

  // MARK: Namespaces

  mutating func willChange(_ namespace: Namespace, isAttached: Bool) {
    let came = Record(
      kind: .namespace, flags: EventFlag.bytes | (isAttached ? EventFlag.attached : 0),
      a: Record.pair(namespace.nsid, UInt32(namespace.blockShift)))
    // Its bytes are where the namespace came from; of one that goes only the identifier counts.
    _ = expect(came, inputs: .bLow)
  }

  // MARK: Commands

  /// What came in one transfer must have been asked for in one.
  @inline(__always)
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    for place in 0..<count {
      let came = Record(
        kind: .fetch, flags: place > 0 ? EventFlag.later : 0, qid: qid.rawValue, a: UInt64(slot) + UInt64(place))
      guard let recorded = expect(came, inputs: [.cid, .failed, .bLow]), recorded.pointee.tail == 2,
        recorded.pointee.flags & EventFlag.failed == 0
      else { return false }
      commands += 1
      entries[place] = UnsafeRawPointer(recorded + 1).loadUnaligned(as: SubmissionEntry.self)
    }
    return true
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    let came = Record(
      kind: .read, qid: qid.rawValue, cid: cid.rawValue, a: address.rawValue, b: UInt64(bytes.count))
    guard let recorded = expect(came, inputs: [.failed, .bytes, .bHigh]), let kept = recorded.bytes else {
      return false
    }
    bytes.copyMemory(from: kept)
    return true
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    let came = Record(
      kind: .write, qid: qid.rawValue, cid: cid.rawValue, a: address.rawValue, b: UInt64(bytes.count))
    guard let recorded = expect(came, inputs: [.failed, .bytes, .bHigh]), let kept = recorded.bytes else {
      return false
    }
    if let place = firstDifference(kept, bytes) {
      differ(came, "other bytes: at \(place) recorded \(kept[place]), engine \(bytes[place])")
    }
    return true
  }

  @inline(__always)
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    _ = expect(
      Record(
        kind: .map, qid: qid.rawValue, cid: cid.rawValue,
        a: Record.pair(UInt32(truncatingIfNeeded: segments), length)), inputs: .bLow)
  }

  // MARK: Data

  @inline(__always)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let came = Record(
      kind: .segment, flags: direction == .fromHost ? EventFlag.fromHost : 0, qid: request.qid.rawValue,
      cid: request.cid.rawValue, a: segment.address.rawValue, b: UInt64(segment.length))
    guard let recorded = expect(came, inputs: [.failed, .bHigh]) else { return false }
    return recorded.pointee.flags & EventFlag.failed == 0
  }

  /// A segment that cannot be reached is recorded where it is looked for; one that can only when it moves.
  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    guard isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.segment.rawValue,
      next.pointee.flags & EventFlag.failed != 0, next.pointee.a == segment.address.rawValue,
      next.pointee.bLow == segment.length
    else { return isComparing }
    return transfer(direction, request, offset: 0, segment)
  }

  /// A recording has the payload's digests where the backend keeps data, in pieces that follow one another.
  mutating func transferred(_ direction: Direction, _ request: IORequest) {
    var offset: UInt32 = 0
    while isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.payload.rawValue,
      next.pointee.cid == request.cid.rawValue, UInt64(offset) < request.transferBytes
    {
      let came = Record(
        kind: .payload, flags: direction == .fromHost ? EventFlag.fromHost : 0, qid: request.qid.rawValue,
        cid: request.cid.rawValue, a: Record.pair(0, offset))
      guard let recorded = expect(came, inputs: [.bytes, .aLow, .bLow]) else { return }
      offset = offset &+ max(1, recorded.pointee.bLow)
    }
  }

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status? {
    let begin = Record(
      kind: .executeBegin, flags: request.opcode.rawValue, qid: request.qid.rawValue, cid: request.cid.rawValue,
      a: request.slba, b: Record.pair(request.blocks, request.nsid))
    guard expect(begin) != nil else { return .internalError }
    // What is done at once has its end right behind.
    guard let next = cursor.peek(), next.pointee.kind == EventKind.executeEnd.rawValue,
      next.pointee.flags & EventFlag.later == 0
    else { return nil }
    let end = Record(kind: .executeEnd, qid: request.qid.rawValue, cid: request.cid.rawValue)
    guard let recorded = expect(end, inputs: .aLow) else { return .internalError }
    return Status(rawValue: UInt16(truncatingIfNeeded: recorded.pointee.aLow))
  }

  mutating func completion() -> (slot: Int32, status: Status)? {
    guard isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.executeEnd.rawValue,
      next.pointee.flags & EventFlag.later != 0
    else { return nil }
    cursor.advance()
    return (Int32(bitPattern: next.pointee.bLow), Status(rawValue: UInt16(truncatingIfNeeded: next.pointee.aLow)))
  }

  /// A request that could be taken back has its end here, with the status for that.
  mutating func cancel(_ request: IORequest) -> Bool {
    guard isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.executeEnd.rawValue,
      next.pointee.flags & EventFlag.later != 0, Int32(bitPattern: next.pointee.bLow) == request.slot,
      next.pointee.aLow == UInt32(Status.abortRequested.rawValue)
    else { return false }
    cursor.advance()
    return true
  }

  func release(_ request: IORequest) {}
  func abandonRequests() {}

  // MARK: Time

  mutating func clockMs() -> UInt64 {
    guard isComparing else { return 0 }
    guard let next = cursor.peek(), next.pointee.kind == EventKind.time.rawValue else {
      differ(Record(kind: .time))
      return 0
    }
    cursor.advance()
    return next.pointee.a
  }

  func arm(_ timer: EngineTimer, afterUs: UInt64) {}
  func disarm(_ timer: EngineTimer) {}

  mutating func expired() -> EngineTimer? {
    guard isComparing, let next = cursor.peek(), next.pointee.kind == EventKind.timer.rawValue else { return nil }
    let timer: EngineTimer
    switch next.pointee.flags {
    case 0: timer = .aggregation(QueueID(next.pointee.qid))
    case 1: timer = .keepAlive
    case 2: timer = .configuration
    default: return nil
    }
    cursor.advance()
    return timer
  }

  // MARK: Completion

  @inline(__always)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    let came = Record(
      kind: .completion, qid: cqid.rawValue, cid: cqe.cid.rawValue, a: Record.pair(cqe.dw0, cqe.dw1),
      b: Record.pair(cqe.dw2, cqe.dw3))
    guard let recorded = expect(came, inputs: .failed) else { return false }
    return recorded.pointee.flags & EventFlag.failed == 0
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    _ = expect(Record(kind: .interrupt, qid: cqid.rawValue, a: UInt64(vector), b: UInt64(entries)))
  }

  mutating func completionQueueFull(_ cqid: QueueID) {
    _ = expect(Record(kind: .completionQueueFull, qid: cqid.rawValue))
  }
}

/// The first place where two runs of bytes of the same length differ.
func firstDifference(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int? {
  guard a.count == b.count else { return min(a.count, b.count) }
  return a.indices.first { a[$0] != b[$0] }
}

extension UnsafePointer<Record> {
  /// The bytes behind an event; nil where it carries none.
  var bytes: UnsafeRawBufferPointer? {
    guard pointee.flags & EventFlag.bytes != 0, Int(pointee.bLow) <= Int(pointee.tail) * Record.size else {
      return nil
    }
    return UnsafeRawBufferPointer(start: self + 1, count: Int(pointee.bLow))
  }
}
