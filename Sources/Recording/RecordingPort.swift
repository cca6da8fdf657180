import Endpoint
import Events
import NVMe
import Target

/// A port that can be recorded.
public protocol RecordablePort: Port, ~Copyable {
  /// The request's data on this side; nil if the backend does not keep them.
  mutating func payload(of request: IORequest) -> UnsafeRawBufferPointer?
  /// Write a completion queue entry except the part that makes it visible.
  /// - Returns: where the rest belongs; nil if host memory is not accessible.
  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer?
  /// Make a prepared entry visible by writing its last dword, with the phase tag.
  mutating func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer)

  /// Whether it injects faults; if not, the calls below cost nothing.
  static var injects: Bool { get }
  /// A pass begins: what is due happens.
  mutating func beginPass()
  /// The next fault that was injected and is not recorded yet; its time is set by the recorder.
  mutating func nextFault() -> Event.Fault?
}

extension RecordablePort where Self: ~Copyable {
  @inline(__always)
  public static var injects: Bool { false }
  @inline(__always)
  public func beginPass() {}
  @inline(__always)
  public func nextFault() -> Event.Fault? { nil }
}

/// Records the calls of another port.
///
/// The stamp of an observation is taken after the load that observed it, the stamp of a publication before the store
/// that publishes it, so cause precedes effect.
public struct RecordingPort<Inner: RecordablePort & ~Copyable, R: Recorder & ~Copyable>: Port, ~Copyable {
  public var inner: Inner
  public var recorder: R

  /// The newest time stamp.
  private var last: UInt64 = 0
  /// When the engine turned to its current command.
  private var commandBegin: UInt64 = 0
  private var passBegin: UInt64 = 0
  private var previousPassBegin: UInt64 = 0
  /// By slot: the command of a request that did not complete immediately.
  private let pending: UnsafeMutablePointer<Name>

  private struct Name: BitwiseCopyable {
    var qid: QueueID
    var cid: CommandID
  }

  public init(_ inner: consuming Inner, _ recorder: consuming R) {
    self.inner = inner
    self.recorder = recorder
    pending = .allocate(capacity: Controller.slots)
    last = self.recorder.time.ticks()
    passBegin = last
    previousPassBegin = last
  }

  deinit { pending.deallocate() }

  /// Begin a pass of the poll loop.
  /// - Returns: the current tick; 0 without a recording.
  @inline(__always)
  public mutating func beginPass() -> UInt64 {
    if Inner.injects {
      inner.beginPass()
      noteFaults()
    }
    guard R.isOn else { return 0 }
    previousPassBegin = passBegin
    passBegin = recorder.time.ticks()
    return passBegin
  }

  /// The time at which a stage begins.
  @inline(__always)
  private func now() -> UInt64 { R.isOn ? recorder.time.ticks() : 0 }

  /// Take a time stamp. Returns the ticks since `begin`.
  @inline(__always)
  private mutating func stamp(since begin: UInt64) -> UInt32 {
    last = recorder.time.ticks()
    return UInt32(truncatingIfNeeded: min(last &- begin, UInt64(UInt32.max)))
  }

  /// Record an event without duration at the current time.
  @inline(__always)
  private mutating func note(_ event: some RecordedEvent) {
    guard R.isOn else { return }
    last = recorder.time.ticks()
    append(event)
  }

  /// Record an event that ends at the newest time stamp.
  @inline(__always)
  private mutating func append(_ event: some RecordedEvent) {
    var event = event
    event.time = last
    recorder.append(event.record)
  }

  /// Record the faults that the inner port has injected since.
  @inline(__always)
  private mutating func noteFaults() {
    guard Inner.injects else { return }
    while let fault = inner.nextFault() { note(fault) }
  }

  // MARK: From outside

  public mutating func registerWritten(offset: UInt64, width: Int, value: UInt64) {
    inner.registerWritten(offset: offset, width: width, value: value)
    note(Event.RegisterWrite(width: UInt8(width), offset: offset, value: value))
  }

  public mutating func registerRead(offset: UInt64, width: Int, value: UInt64) {
    inner.registerRead(offset: offset, width: width, value: value)
    note(Event.RegisterRead(width: UInt8(width), offset: offset, value: value))
  }

  public mutating func willReset(_ reason: ResetReason) {
    inner.willReset(reason)
    note(Event.Reset(reason: .init(rawValue: reason.rawValue)))
  }

  public mutating func willChange(_ namespace: Namespace, isAttached: Bool) {
    inner.willChange(namespace, isAttached: isAttached)
    guard R.isOn else { return }
    last = recorder.time.ticks()
    withUnsafeTemporaryAllocation(byteCount: Namespace.encodedBytesMax, alignment: 8) { bytes in
      let count = namespace.encode(into: bytes)
      let event = Event.Namespace(
        time: last, flags: isAttached ? [.bytes, .attached] : .bytes, nsid: namespace.nsid,
        blockshift: UInt32(namespace.blockShift), length: UInt32(count))
      recorder.append(event.record, UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
  }

  /// A range of host memory was added to the map.
  public mutating func didMap(address: UInt64, length: UInt64) { note(Event.DmaMap(address: address, length: length)) }

  /// A range of host memory was removed from the map.
  public mutating func didUnmap(address: UInt64, length: UInt64) {
    note(Event.DmaUnmap(address: address, length: length))
  }

  /// Work ended an idle period in which the thread yielded its core.
  /// - Parameter begin: tick of the first yield.
  @inline(never)
  public mutating func didRest(since begin: UInt64, slept: Bool) {
    note(Event.Rest(flags: slept ? .slept : [], span: passBegin &- min(begin, passBegin)))
  }

  // MARK: Doorbells

  @inline(__always)
  public mutating func doorbell(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    let value = inner.doorbell(doorbell, last: seen)
    noteFaults()
    if value != seen, R.isOn { noteDoorbell(doorbell, value) }
    return value
  }

  @inline(__always)
  private mutating func noteDoorbell(_ doorbell: Doorbell, _ value: UInt32) {
    last = recorder.time.ticksAfterLoads()
    let sincePoll = UInt32(truncatingIfNeeded: min(last &- previousPassBegin, UInt64(UInt32.max)))
    append(
      Event.Doorbell(
        flags: doorbell.isCompletionHead ? .completionHead : [], qid: doorbell.qid.rawValue, value: value,
        poll: sincePoll))
  }

  @inline(__always)
  public mutating func clear(_ doorbell: Doorbell) { inner.clear(doorbell) }

  // MARK: Commands

  @inline(__always)
  public mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    let begin = now()
    let isFetched = inner.fetch(address, qid: qid, slot: slot, count: count, into: entries)
    noteFaults()
    guard isFetched else {
      if R.isOn {
        _ = stamp(since: begin)
        let event = Event.Fetch(time: last, flags: .failed, qid: qid.rawValue, slot: slot)
        recorder.append(event.record, entry: SubmissionEntry())
      }
      return false
    }
    guard R.isOn else { return true }
    var span = stamp(since: begin)
    for place in 0..<count {
      let event = Event.Fetch(
        time: last, flags: place > 0 ? .joined : [], qid: qid.rawValue, cid: entries[place].cid.rawValue,
        slot: slot &+ UInt32(truncatingIfNeeded: place), span: span)
      recorder.append(event.record, entry: entries[place])
      span = 0
    }
    return true
  }

  public mutating func read(
    _ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID
  ) -> Bool {
    let begin = now()
    let isReached = inner.read(address, into: bytes, qid: qid, cid: cid)
    noteFaults()
    guard R.isOn else { return isReached }
    let span = stamp(since: begin)
    let event = Event.Read(
      time: last, flags: isReached ? .bytes : .failed, qid: qid.rawValue, cid: cid.rawValue, address: address.rawValue,
      length: UInt32(bytes.count), span: span)
    append(event.record, UnsafeRawBufferPointer(bytes), isReached)
    return isReached
  }

  public mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    let begin = now()
    let isReached = inner.write(address, bytes, qid: qid, cid: cid)
    guard R.isOn else { return isReached }
    let span = stamp(since: begin)
    let event = Event.Write(
      time: last, flags: isReached ? .bytes : .failed, qid: qid.rawValue, cid: cid.rawValue, address: address.rawValue,
      length: UInt32(bytes.count), span: span)
    append(event.record, bytes, isReached)
    return isReached
  }

  private mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer, _ areKept: Bool) {
    if areKept { recorder.append(record, bytes) } else { recorder.append(record) }
  }

  @inline(__always)
  public mutating func begins(qid: QueueID, cid: CommandID) {
    inner.begins(qid: qid, cid: cid)
    noteFaults()
    commandBegin = now()
  }

  @inline(__always)
  public mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    inner.mapped(qid: qid, cid: cid, segments: segments, length: length)
    noteFaults()
    guard R.isOn else { return }
    let span = stamp(since: commandBegin)
    append(
      Event.Map(
        qid: qid.rawValue, cid: cid.rawValue, segments: UInt32(truncatingIfNeeded: segments), length: length,
        span: span))
  }

  // MARK: Data

  @inline(__always)
  public mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment)
    -> Bool
  {
    // Without data there is nothing to time.
    let isTimed = R.isOn && inner.payload(of: request) != nil
    let begin = isTimed ? recorder.time.ticks() : 0
    let isReached = inner.transfer(direction, request, offset: offset, segment)
    noteFaults()
    if R.isOn { noteSegment(segment, direction, request, isReached, isTimed ? stamp(since: begin) : 0) }
    return isReached
  }

  public mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    let isReached = inner.reaches(direction, request, segment)
    if R.isOn, !isReached { noteSegment(segment, direction, request, false, 0) }
    return isReached
  }

  @inline(__always)
  private mutating func noteSegment(
    _ segment: Segment, _ direction: Direction, _ request: IORequest, _ isReached: Bool, _ span: UInt32
  ) {
    var flags: Event.Segment.Flags = direction == .fromHost ? .fromHost : []
    if !isReached { flags.insert(.failed) }
    append(
      Event.Segment(
        flags: flags, qid: request.qid.rawValue, cid: request.cid.rawValue, address: segment.address.rawValue,
        length: segment.length, span: span))
  }

  @inline(__always)
  public mutating func transferred(_ direction: Direction, _ request: IORequest) {
    inner.transferred(direction, request)
    guard R.isOn, let data = inner.payload(of: request) else { return }
    notePayload(direction, request, data)
  }

  @inline(never)
  private mutating func notePayload(_ direction: Direction, _ request: IORequest, _ data: UnsafeRawBufferPointer) {
    var flags: Event.Payload.Flags = direction == .fromHost ? .fromHost : []
    if recorder.keepsPayload { flags.insert(.bytes) }
    // Pieces that fit a ring; a digest alone needs no pieces.
    let pieceMax = recorder.keepsPayload ? 64 << 10 : data.count
    var offset = 0
    while offset < data.count {
      let bytes = UnsafeRawBufferPointer(rebasing: data[offset..<min(offset + pieceMax, data.count)])
      let begin = now()
      let digest = recorder.digest(bytes, direction, request)
      let span = stamp(since: begin)
      let event = Event.Payload(
        time: last, flags: flags, qid: request.qid.rawValue, cid: request.cid.rawValue, digest: digest,
        offset: UInt32(offset), length: UInt32(bytes.count), span: span)
      append(event.record, bytes, recorder.keepsPayload)
      offset += bytes.count
    }
  }

  // MARK: Backends

  @inline(__always)
  public mutating func execute(_ request: IORequest) -> Status? {
    guard R.isOn else { return inner.execute(request) }
    note(
      Event.ExecuteBegin(
        opcode: request.opcode.rawValue, qid: request.qid.rawValue, cid: request.cid.rawValue, slba: request.slba,
        blocks: request.blocks, nsid: request.nsid))
    let result = inner.execute(request)
    noteFaults()
    guard let status = result else {
      pending[Int(request.slot)] = Name(qid: request.qid, cid: request.cid)
      return nil
    }
    note(
      Event.ExecuteEnd(qid: request.qid.rawValue, cid: request.cid.rawValue, status: UInt32(status.rawValue)))
    return status
  }

  public mutating func completion() -> (slot: Int32, status: Status)? {
    let completed = inner.completion()
    noteFaults()
    guard let next = completed else { return nil }
    if R.isOn {
      let isAll = next.slot == Controller.abandonedSlot
      noteLater(isAll ? Name(qid: .admin, cid: CommandID(.max)) : pending[Int(next.slot)], next.slot, next.status)
    }
    return next
  }

  public mutating func cancel(_ request: IORequest) -> Bool {
    guard inner.cancel(request) else { return false }
    if R.isOn { noteLater(Name(qid: request.qid, cid: request.cid), request.slot, .abortRequested) }
    return true
  }

  private mutating func noteLater(_ name: Name, _ slot: Int32, _ status: Status) {
    note(
      Event.ExecuteEnd(
        flags: .later, qid: name.qid.rawValue, cid: name.cid.rawValue, status: UInt32(status.rawValue),
        slot: UInt32(bitPattern: slot)))
  }

  @inline(__always)
  public mutating func release(_ request: IORequest) { inner.release(request) }

  public mutating func abandonRequests() { inner.abandonRequests() }

  // MARK: Time

  public mutating func clockMs() -> UInt64 {
    let ms = inner.clockMs()
    note(Event.Time(ms: ms))
    return ms
  }

  public mutating func arm(_ timer: EngineTimer, afterUs: UInt64) { inner.arm(timer, afterUs: afterUs) }

  public mutating func disarm(_ timer: EngineTimer) { inner.disarm(timer) }

  public mutating func expired() -> EngineTimer? {
    guard let timer = inner.expired() else { return nil }
    switch timer {
    case .aggregation(let cqid): note(Event.Timer(timer: .aggregation, cqid: cqid.rawValue))
    case .keepAlive: note(Event.Timer(timer: .keepAlive))
    case .configuration: note(Event.Timer(timer: .configuration))
    }
    return timer
  }

  // MARK: Completion

  @inline(__always)
  public mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    guard R.isOn else { return inner.post(cqe, at: address, cqid: cqid) }
    let place = inner.prepare(cqe, at: address, cqid: cqid)
    noteFaults()
    // Stamp the entry before it becomes visible.
    note(
      Event.Completion(
        flags: place == nil ? .failed : [], cqid: cqid.rawValue, cid: cqe.cid.rawValue, dw0: cqe.dw0, dw1: cqe.dw1,
        dw2: cqe.dw2, dw3: cqe.dw3))
    guard let place else { return false }
    inner.show(cqe, at: place)
    noteFaults()
    return true
  }

  public mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    inner.interrupt(vector: vector, cqid: cqid, entries: entries)
    noteFaults()
    note(Event.Interrupt(cqid: cqid.rawValue, vector: UInt32(vector), entries: entries))
  }

  public mutating func completionQueueFull(_ cqid: QueueID) {
    inner.completionQueueFull(cqid)
    note(Event.CompletionQueueFull(cqid: cqid.rawValue))
  }
}
