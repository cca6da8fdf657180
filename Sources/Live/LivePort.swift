import CPlatform
import Endpoint
import Glibc
import NVMe
import Synchronization
import Target
import Trace

/// The engine's port to a real host: shared memory, event descriptors, backends, and the recorder.
///
/// The host is not trusted. Every address is looked up in the map before it is touched, and what was read is copied
/// once and never looked at again.
struct LivePort<R: Recorder & ~Copyable>: Port, ~Copyable {
  var recorder: R
  var memory = MemoryMap()
  /// The doorbell page that the host has mapped.
  private let doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  /// By namespace identifier.
  private let backends: UnsafeMutablePointer<NamespaceBackend>
  var interrupts: InterruptLines

  /// The newest time stamp of this thread; a stretch of work begins where the one before ended.
  private var last: UInt64 = 0
  private var passBegin: UInt64 = 0
  private var previousPassBegin: UInt64 = 0

  init(
    recorder: consuming R, doorbells: UnsafeMutablePointer<Atomic<UInt32>>,
    backends: UnsafeMutablePointer<NamespaceBackend>, vectors: Int
  ) {
    self.recorder = recorder
    self.doorbells = doorbells
    self.backends = backends
    interrupts = InterruptLines(vectors: vectors)
    last = nvmepf_ticks()
    passBegin = last
    previousPassBegin = last
  }

  /// A pass of the poll loop begins.
  /// - Returns: now, in ticks; 0 when nothing is recorded.
  @inline(__always)
  mutating func beginPass() -> UInt64 {
    guard R.isOn else { return 0 }
    previousPassBegin = passBegin
    passBegin = nvmepf_ticks()
    return passBegin
  }

  /// Ticks since the newest time stamp, which this one now is.
  @inline(__always)
  private mutating func stamp() -> UInt32 {
    let now = nvmepf_ticks()
    let span = now &- last
    last = now
    return UInt32(truncatingIfNeeded: min(span, UInt64(UInt32.max)))
  }

  // MARK: Registers and resets

  mutating func registerWritten(offset: UInt64, width: Int, value: UInt64) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: .registerWrite, flags: UInt8(width), a: offset, b: value))
  }

  mutating func registerRead(offset: UInt64, width: Int, value: UInt64) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: .registerRead, flags: UInt8(width), a: offset, b: value))
  }

  mutating func willReset(_ reason: ResetReason) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: .reset, flags: reason.rawValue))
  }

  /// The range was added to or taken from the memory map.
  mutating func noteMapping(_ kind: EventKind, address: UInt64, length: UInt64) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: kind, a: address, b: length))
  }

  // MARK: Doorbells

  @inline(__always)
  mutating func doorbell(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    let value = doorbells[doorbell.index].load(ordering: .acquiring)
    if value != seen, R.isOn { note(doorbell, value) }
    return value
  }

  @inline(__always)
  private mutating func note(_ doorbell: Doorbell, _ value: UInt32) {
    last = nvmepf_ticks_after_loads()
    let sincePoll = UInt32(truncatingIfNeeded: min(last &- previousPassBegin, UInt64(UInt32.max)))
    recorder.append(
      Record(
        time: last, kind: .doorbell, flags: doorbell.isCompletionHead ? EventFlag.completionQueue : 0,
        qid: doorbell.qid.rawValue, a: UInt64(value), b: UInt64(sincePoll)))
  }

  mutating func clear(_ doorbell: Doorbell) { doorbells[doorbell.index].store(0, ordering: .releasing) }

  // MARK: Commands

  @inline(__always)
  mutating func fetch(_ address: PCIAddress, qid: QueueID, slot: UInt32) -> SubmissionEntry? {
    guard let source = memory.translate(address, SubmissionEntry.size, forWriting: false) else {
      if R.isOn {
        let record = Record(
          time: last, kind: .fetch, flags: EventFlag.failed, qid: qid.rawValue, a: UInt64(slot))
        recorder.append(record, entry: SubmissionEntry())
      }
      return nil
    }
    let sqe = source.loadUnaligned(as: SubmissionEntry.self)
    if R.isOn {
      let span = stamp()
      let record = Record(
        time: last, kind: .fetch, qid: qid.rawValue, cid: sqe.cid.rawValue, a: UInt64(slot), b: UInt64(span))
      recorder.append(record, entry: sqe)
    }
    return sqe
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    let source = memory.translate(address, bytes.count, forWriting: false)
    if let source { bytes.copyMemory(from: UnsafeRawBufferPointer(start: source, count: bytes.count)) }
    note(.read, address, UnsafeRawBufferPointer(bytes), reached: source != nil, qid, cid)
    return source != nil
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    let target = memory.translate(address, bytes.count, forWriting: true)
    if let target { target.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count) }
    note(.write, address, bytes, reached: target != nil, qid, cid)
    return target != nil
  }

  private mutating func note(
    _ kind: EventKind, _ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, reached: Bool, _ qid: QueueID,
    _ cid: CommandID
  ) {
    guard R.isOn else { return }
    let span = stamp()
    let flags = reached ? EventFlag.bytes : EventFlag.failed
    let record = Record(
      time: last, kind: kind, flags: flags, qid: qid.rawValue, cid: cid.rawValue, a: address.rawValue,
      b: Record.pair(UInt32(bytes.count), span))
    if reached { recorder.append(record, bytes) } else { recorder.append(record) }
  }

  @inline(__always)
  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {
    guard R.isOn else { return }
    let span = stamp()
    recorder.append(
      Record(
        time: last, kind: .map, qid: qid.rawValue, cid: cid.rawValue,
        a: Record.pair(UInt32(truncatingIfNeeded: segments), length), b: UInt64(span)))
  }

  // MARK: Data

  @inline(__always)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let hostBytes = memory.translate(segment.address, Int(segment.length), forWriting: direction == .toHost)
    let storage = backends[Int(request.nsid)].storage
    if let hostBytes, let storage {
      let blocks = storage + Int(request.byteOffset + offset)
      switch direction {
      case .toHost: hostBytes.copyMemory(from: blocks, byteCount: Int(segment.length))
      case .fromHost: blocks.copyMemory(from: hostBytes, byteCount: Int(segment.length))
      }
    }
    if R.isOn {
      // Where no data moves there is nothing to time.
      let span = storage == nil ? 0 : stamp()
      let flags = (direction == .fromHost ? EventFlag.fromHost : 0) | (hostBytes == nil ? EventFlag.failed : 0)
      recorder.append(
        Record(
          time: last, kind: .segment, flags: flags, qid: request.qid.rawValue, cid: request.cid.rawValue,
          a: segment.address.rawValue, b: Record.pair(segment.length, span)))
    }
    return hostBytes != nil
  }

  @inline(__always)
  mutating func transferred(_ direction: Direction, _ request: IORequest) {
    guard R.isOn, let storage = backends[Int(request.nsid)].storage else { return }
    notePayload(direction, request, storage)
  }

  @inline(never)
  private mutating func notePayload(_ direction: Direction, _ request: IORequest, _ storage: UnsafeMutableRawPointer) {
    let flag = direction == .fromHost ? EventFlag.fromHost : 0
    // Pieces that a ring can hold; a digest alone needs no pieces.
    let pieceMax = recorder.keepsPayload ? 64 << 10 : Int(request.byteCount)
    var offset = 0
    while offset < Int(request.byteCount) {
      let count = min(pieceMax, Int(request.byteCount) - offset)
      let bytes = UnsafeRawBufferPointer(start: storage + Int(request.byteOffset) + offset, count: count)
      let digest = nvmepf_crc32c(0, bytes.baseAddress!, count)
      _ = stamp()
      let record = Record(
        time: last, kind: .payload, flags: flag | (recorder.keepsPayload ? EventFlag.bytes : 0),
        qid: request.qid.rawValue, cid: request.cid.rawValue, a: Record.pair(digest, UInt32(offset)),
        b: UInt64(count))
      if recorder.keepsPayload { recorder.append(record, bytes) } else { recorder.append(record) }
      offset += count
    }
  }

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status {
    if R.isOn {
      recorder.append(
        Record(
          time: last, kind: .executeBegin, flags: request.opcode.rawValue, qid: request.qid.rawValue,
          cid: request.cid.rawValue, a: request.slba, b: Record.pair(request.blocks, request.nsid)))
    }
    let status = request.nsid == .max ? Status.success : backends[Int(request.nsid)].execute(request)
    if R.isOn {
      _ = stamp()
      recorder.append(
        Record(
          time: last, kind: .executeEnd, qid: request.qid.rawValue, cid: request.cid.rawValue,
          a: UInt64(status.rawValue)))
    }
    return status
  }

  // MARK: Completion

  @inline(__always)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    let target = memory.translate(address, CompletionEntry.size, forWriting: true)
    if R.isOn {
      // Before the entry can be seen: who sees it sees it later than this.
      _ = stamp()
      recorder.append(
        Record(
          time: last, kind: .completion, flags: target == nil ? EventFlag.failed : 0, qid: cqid.rawValue,
          cid: cqe.cid.rawValue, a: Record.pair(cqe.dw0, cqe.dw1), b: Record.pair(cqe.dw2, cqe.dw3)))
    }
    guard let target else { return false }
    target.storeBytes(of: cqe.dw0, toByteOffset: 0, as: UInt32.self)
    target.storeBytes(of: cqe.dw1, toByteOffset: 4, as: UInt32.self)
    target.storeBytes(of: cqe.dw2, toByteOffset: 8, as: UInt32.self)
    // The phase tag is in here, and the host may look at any moment.
    (target + 12).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(cqe.dw3, ordering: .releasing)
    return true
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    interrupts.raise(vector)
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(
      Record(time: last, kind: .interrupt, qid: cqid.rawValue, a: UInt64(vector), b: UInt64(entries)))
  }

  mutating func completionQueueFull(_ cqid: QueueID) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: .completionQueueFull, qid: cqid.rawValue))
  }
}
