import CPlatform
import Endpoint
import Glibc
import NVMe
import Platform
import Recording
import Storage
import Synchronization
import Target

/// The engine's port to a real host: shared memory, event descriptors and backends.
///
/// The host is not trusted. Every address is looked up in the map before it is touched, and what was read is copied
/// once and never looked at again.
struct LivePort<Time: TimeSource>: RecordablePort, ~Copyable {
  private let time: Time
  var memory = MemoryMap()
  /// The doorbell page that the host has mapped.
  var doorbells: UnsafeMutablePointer<Atomic<UInt32>>
  /// By namespace identifier.
  private let backends: UnsafeMutablePointer<NamespaceBackend>
  var interrupts: InterruptLines
  private var timers = TimerList()
  private var delays = DelayQueue()
  /// Opened with the first namespace on a file or device.
  private let storage: UnsafeMutablePointer<StorageRequests>?
  /// The devices behind namespaces, for a flush of all.
  private var devices: [UInt32: StorageDevice] = [:]
  /// By slot: the requests that are not done at once.
  private let deferred: UnsafeMutablePointer<IORequest>
  /// By namespace identifier: how many of those there are.
  private let deferrals: UnsafeMutablePointer<UInt32>
  /// What the host sent to be compared.
  private var compared: UnsafeMutableRawPointer?
  /// What could not be reached last, for who asks why the controller has stopped.
  var unreached: Unreached?
  /// The engine waits for what it has abandoned.
  private var isSettling = false

  init(
    time: Time, doorbells: UnsafeMutablePointer<Atomic<UInt32>>, vectors: Int, storage: consuming StorageRequests? = nil
  ) {
    if let storage {
      let place = UnsafeMutablePointer<StorageRequests>.allocate(capacity: 1)
      place.initialize(to: storage)
      self.storage = place
    } else {
      self.storage = nil
    }
    self.time = time
    self.doorbells = doorbells
    backends = .allocate(capacity: Int(Subsystem.namespacesLimit) + 1)
    backends.initialize(repeating: .null, count: Int(Subsystem.namespacesLimit) + 1)
    interrupts = InterruptLines(vectors: vectors)
    deferred = .allocate(capacity: Controller.slots)
    deferrals = .allocate(capacity: Int(Subsystem.namespacesLimit) + 1)
    deferrals.initialize(repeating: 0, count: Int(Subsystem.namespacesLimit) + 1)
  }

  deinit {
    if let storage {
      storage.deinitialize(count: 1)
      storage.deallocate()
    }
    backends.deallocate()
    deferred.deallocate()
    deferrals.deallocate()
    compared?.deallocate()
  }

  /// What lies behind a namespace, before it is attached.
  mutating func setBackend(_ nsid: UInt32, _ backend: NamespaceBackend) {
    backends[Int(nsid)] = backend
    if case .storage(let device) = backend { devices[nsid] = device.takeUnretainedValue() }
  }

  /// Whether commands of a namespace that was detached are still under way: its identifier cannot be used again.
  func isBusy(_ nsid: UInt32) -> Bool { deferrals[Int(nsid)] > 0 }

  /// A namespace was detached; what is under way in it goes on.
  mutating func removeBackend(_ nsid: UInt32) {
    guard let device = devices.removeValue(forKey: nsid) else { return }
    storage!.pointee.detach(device)
  }

  /// Tell the kernel of what backends were given in this pass.
  @inline(__always)
  func endPass() { storage?.pointee.kick() }

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
      unreached = .submissionQueue(qid: qid.rawValue, address: address.rawValue)
      return false
    }
    return true
  }

  /// One entry, which is most of them, needs no call.
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

  /// Where a request's data lies on this side; nil where it is not kept.
  @inline(__always)
  private mutating func data(of request: IORequest) -> UnsafeMutableRawPointer? {
    switch backends[Int(request.nsid)] {
    case .storage: storage!.pointee.buffer(request.slot)
    case .null, .slow: nil
    case .memory(let backend):
      request.opcode == .compare ? compareBuffer() : backend.base + Int(request.byteOffset)
    }
  }

  /// Made when a host first compares.
  @inline(never)
  private mutating func compareBuffer() -> UnsafeMutableRawPointer {
    if let compared { return compared }
    let made = UnsafeMutableRawPointer.allocate(byteCount: Int(Subsystem.maxTransferLimit), alignment: 4096)
    compared = made
    return made
  }

  @inline(__always)
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    let count = Int(segment.length)
    let data = data(of: request)
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
    data(of: request).map { UnsafeRawBufferPointer(start: $0, count: Int(request.byteCount)) }
  }

  // MARK: Backends

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status? {
    switch request.nsid == .max ? .null : backends[Int(request.nsid)] {
    case .null:
      return request.nsid == .max ? flushAll(request) : .success
    case .storage(let device):
      putOff(request)
      guard let atOnce = device._withUnsafeGuaranteedRef({ storage!.pointee.submit(request, to: $0) }) else {
        return nil
      }
      deferrals[Int(request.nsid)] -= 1
      return atOnce
    case .memory(let backend): return backend.execute(request, data: compared)
    case .slow(let timer):
      putOff(request)
      delays.add(request.slot, dueNs: time.monotonicNs() &+ timer.next())
      return nil
    }
  }

  /// It will be done later.
  @inline(__always)
  private func putOff(_ request: IORequest) {
    deferred[Int(request.slot)] = request
    deferrals[Int(request.nsid)] += 1
  }

  /// A flush of every namespace: of those that have a device.
  @inline(never)
  private mutating func flushAll(_ request: IORequest) -> Status? {
    guard !devices.isEmpty else { return .success }
    deferred[Int(request.slot)] = request
    return storage!.pointee.flush(request.slot, Array(devices.values))
  }

  mutating func completion() -> (slot: Int32, status: Status)? {
    let next: (slot: Int32, status: Status)
    if !delays.isEmpty, let slot = delays.next(nowNs: time.monotonicNs()) {
      next = (slot, .success)
    } else if let completion = storage?.pointee.completion() {
      next = completion
    } else {
      return isSettling ? settle() : nil
    }
    let request = deferred[Int(next.slot)]
    if request.nsid != .max { deferrals[Int(request.nsid)] -= 1 }
    return next
  }

  /// A request whose service time runs has not begun, nor has one that waits in the kernel for a worker.
  mutating func cancel(_ request: IORequest) -> Bool {
    // A flush of all may have flushed some.
    guard request.nsid != .max else { return false }
    let isCancelled =
      switch backends[Int(request.nsid)] {
      case .slow: delays.remove(request.slot)
      case .storage: storage!.pointee.cancel(request.slot)
      case .null, .memory: false
      }
    guard isCancelled else { return false }
    deferrals[Int(request.nsid)] -= 1
    return true
  }

  @inline(__always)
  func release(_ request: IORequest) { storage?.pointee.release(request.slot) }

  mutating func abandonRequests() {
    delays.removeAll()
    deferrals.update(repeating: 0, count: Int(Subsystem.namespacesLimit) + 1)
    storage?.pointee.abandonAll()
    isSettling = true
  }

  /// Everything that was abandoned has settled: nil until then.
  @inline(never)
  private mutating func settle() -> (slot: Int32, status: Status)? {
    if let storage, !storage.pointee.settle() { return nil }
    isSettling = false
    return (Controller.abandonedSlot, .success)
  }

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
    unreached = .completionQueue(qid: cqid.rawValue, address: address.rawValue)
    return nil
  }

  /// The phase tag is in the last dword, and the host may look at any moment.
  @inline(__always)
  func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) {
    (place + 12).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(cqe.dw3, ordering: .releasing)
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) { interrupts.raise(vector) }
  func completionQueueFull(_ cqid: QueueID) {}
}
