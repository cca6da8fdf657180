import Backends
import CPlatform
import Endpoint
import Glibc
import NVMe
import Platform
import Recording
import Synchronization
import Target

/// The engine's port to a real host: shared memory, event descriptors and backends.
///
/// The host is untrusted. Every address is looked up in the map before an access, and every value is copied once and
/// not read again.
struct LivePort<Time: TimeSource>: RecordablePort, ~Copyable {
  private let time: Time
  var memory = MemoryMap()
  /// The doorbell page that the host has mapped.
  var doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  var backends: NamespaceBackends<Time>
  var interrupts: InterruptLines
  private var timers = TimerList()
  /// The last inaccessible address, to explain why the controller has stopped.
  var unreached: Unreached?

  init(
    time: Time, doorbells: UnsafeMutablePointer<Atomic<UInt32>>, vectors: Int, storage: StorageHandover? = nil
  ) {
    self.time = time
    self.doorbells = doorbells
    backends = NamespaceBackends(time: time, storage: storage)
    interrupts = InterruptLines(vectors: vectors)
  }

  // MARK: From outside

  func registerWritten(offset: UInt64, width: Int, value: UInt64) {}
  func registerRead(offset: UInt64, width: Int, value: UInt64) {}
  func willReset(_ reason: ResetReason) {}
  func willChange(_ namespace: Namespace, isAttached: Bool) {}

  // MARK: Doorbells

  @inline(__always)
  mutating func doorbell(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    doorbells[doorbell.index].load(ordering: .acquiring)
  }

  mutating func clear(_ doorbell: Doorbell) { doorbells[doorbell.index].store(0, ordering: .releasing) }

  // MARK: Commands

  @inline(__always)
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    guard copyEntries(address, count, into: entries) else {
      unreached = Unreached(what: "cannot fetch from submission queue", qid: qid, address: address)
      return false
    }
    return true
  }

  /// A single entry, the common case, needs no call.
  @inline(__always)
  private mutating func copyEntries(
    _ address: PCIAddress, _ count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    guard count == 1, let source = memory.translate(address, SubmissionEntry.size, forWriting: false) else {
      return memory.read(address, into: entries, count: count * SubmissionEntry.size)
    }
    entries.pointee = source.loadUnaligned(as: SubmissionEntry.self)
    return !memory.isLost
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    memory.read(address, into: bytes.baseAddress!, count: bytes.count)
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    memory.write(address, bytes.baseAddress!, count: bytes.count)
  }

  @inline(__always)
  func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) {}

  // MARK: Data

  @inline(__always)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let count = Int(segment.length)
    let data = backends.data(of: request)
    return switch (data, direction) {
    case (let data?, .toHost): memory.write(segment.address, data + Int(offset), count: count)
    case (let data?, .fromHost): memory.read(segment.address, into: data + Int(offset), count: count)
    case (nil, _): memory.reaches(segment.address, count: count, forWriting: direction == .toHost)
    }
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    memory.reaches(segment.address, count: Int(segment.length), forWriting: direction == .toHost)
  }

  func transferred(_ direction: Direction, _ request: IORequest) {}

  @inline(__always)
  mutating func payload(of request: IORequest) -> UnsafeRawBufferPointer? {
    backends.data(of: request).map { UnsafeRawBufferPointer(start: $0, count: Int(request.byteCount)) }
  }

  // MARK: Backends

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status? { backends.execute(request) }
  @inline(__always)
  mutating func completion() -> (slot: Int32, status: Status)? { backends.completion() }
  mutating func cancel(_ request: IORequest) -> Bool { backends.cancel(request) }
  @inline(__always)
  func release(_ request: IORequest) { backends.release(request) }
  mutating func abandonRequests() { backends.abandonAll() }

  // MARK: Time

  func clockMs() -> UInt64 { time.realtimeNs() / 1_000_000 }

  @inline(never)
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) {
    timers.arm(timer, afterUs: afterUs, nowNs: time.monotonicNs())
  }

  @inline(never)
  mutating func disarm(_ timer: EngineTimer) { timers.disarm(timer) }

  mutating func expired() -> EngineTimer? { timers.isEmpty ? nil : timers.expired(nowNs: time.monotonicNs()) }

  // MARK: Completion

  @inline(__always)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    guard let place = prepare(cqe, at: address, cqid: cqid) else { return false }
    show(cqe, at: place)
    return true
  }

  @inline(__always)
  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer? {
    if let place = memory.translate(address, CompletionEntry.size, forWriting: true) {
      place.storeBytes(of: cqe.dw0, toByteOffset: 0, as: UInt32.self)
      place.storeBytes(of: cqe.dw1, toByteOffset: 4, as: UInt32.self)
      place.storeBytes(of: cqe.dw2, toByteOffset: 8, as: UInt32.self)
      if !memory.isLost { return place }
    }
    unreached = Unreached(what: "cannot write to completion queue", qid: cqid, address: address)
    return nil
  }

  /// The phase tag is in the last dword, and the host may poll at any moment.
  @inline(__always)
  func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) {
    (place + 12).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(cqe.dw3, ordering: .releasing)
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) { interrupts.raise(vector) }
  func completionQueueFull(_ cqid: QueueID) {}
}

/// The port to a real host, or one that wraps it.
protocol LivePortHolder: RecordablePort, ~Copyable {
  var live: LivePort<MachineTime> { get set }
}

extension LivePort: LivePortHolder where Time == MachineTime {
  var live: LivePort<MachineTime> {
    @inline(__always) _read { yield self }
    @inline(__always) _modify { yield &self }
  }
}
