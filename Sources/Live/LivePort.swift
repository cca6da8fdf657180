import CPlatform
import Endpoint
import Glibc
import NVMe
import Storage
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

  /// The newest time stamp of this thread; a stretch of work begins where the one before ended.
  private var last: UInt64 = 0
  private var passBegin: UInt64 = 0
  private var previousPassBegin: UInt64 = 0

  init(
    recorder: consuming R, doorbells: UnsafeMutablePointer<Atomic<UInt32>>, vectors: Int,
    storage: consuming StorageRequests? = nil
  ) {
    if let storage {
      let place = UnsafeMutablePointer<StorageRequests>.allocate(capacity: 1)
      place.initialize(to: storage)
      self.storage = place
    } else {
      self.storage = nil
    }
    self.recorder = recorder
    self.doorbells = doorbells
    backends = .allocate(capacity: Int(Subsystem.namespacesLimit) + 1)
    backends.initialize(repeating: .null, count: Int(Subsystem.namespacesLimit) + 1)
    interrupts = InterruptLines(vectors: vectors)
    deferred = .allocate(capacity: Controller.slots)
    deferrals = .allocate(capacity: Int(Subsystem.namespacesLimit) + 1)
    deferrals.initialize(repeating: 0, count: Int(Subsystem.namespacesLimit) + 1)
    last = nvmepf_ticks()
    passBegin = last
    previousPassBegin = last
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

  mutating func willChange(_ namespace: Namespace, isAttached: Bool) {
    guard R.isOn else { return }
    _ = stamp()
    withUnsafeTemporaryAllocation(byteCount: Namespace.encodedBytesMax, alignment: 8) { bytes in
      let count = namespace.encode(into: bytes)
      recorder.append(
        Record(
          time: last, kind: .namespace, flags: EventFlag.bytes | (isAttached ? EventFlag.attached : 0),
          a: Record.pair(namespace.nsid, UInt32(namespace.blockShift)), b: UInt64(count)),
        UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
  }

  /// The range was added to or taken from the memory map.
  mutating func noteMapping(_ kind: EventKind, address: UInt64, length: UInt64) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(Record(time: last, kind: kind, a: address, b: length))
  }

  /// Work has ended an idle stretch in which the thread gave its core to others, from `begin` in ticks.
  @inline(never)
  mutating func noteRest(since begin: UInt64, slept: Bool) {
    guard R.isOn else { return }
    _ = stamp()
    recorder.append(
      Record(time: last, kind: .rest, flags: slept ? EventFlag.slept : 0, a: passBegin &- min(begin, passBegin)))
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
  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    guard copyEntries(address, count, into: entries) else {
      unreached = .submissionQueue(qid: qid.rawValue, address: address.rawValue)
      if R.isOn {
        let record = Record(
          time: last, kind: .fetch, flags: EventFlag.failed, qid: qid.rawValue, a: UInt64(slot))
        recorder.append(record, entry: SubmissionEntry())
      }
      return false
    }
    if R.isOn {
      var span = stamp()
      for place in 0..<count {
        let record = Record(
          time: last, kind: .fetch, flags: place > 0 ? EventFlag.later : 0, qid: qid.rawValue,
          cid: entries[place].cid.rawValue, a: UInt64(slot) + UInt64(place), b: UInt64(span))
        recorder.append(record, entry: entries[place])
        span = 0
      }
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
    let isReached = memory.read(address, into: bytes.baseAddress!, count: bytes.count)
    note(.read, address, UnsafeRawBufferPointer(bytes), reached: isReached, qid, cid)
    return isReached
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    let isReached = memory.write(address, bytes.baseAddress!, count: bytes.count)
    note(.write, address, bytes, reached: isReached, qid, cid)
    return isReached
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
    let isReached =
      switch (data, direction) {
      case (let data?, .toHost): memory.write(segment.address, data + Int(offset), count: count)
      case (let data?, .fromHost): memory.read(segment.address, into: data + Int(offset), count: count)
      case (nil, _): memory.reaches(segment.address, count: count, forWriting: direction == .toHost)
      }
    // Where no data moves there is nothing to time.
    if R.isOn { note(segment, direction, request, reached: isReached, span: data == nil ? 0 : stamp()) }
    return isReached
  }

  @inline(__always)
  private mutating func note(
    _ segment: Segment, _ direction: Direction, _ request: IORequest, reached: Bool, span: UInt32
  ) {
    let flags = (direction == .fromHost ? EventFlag.fromHost : 0) | (reached ? 0 : EventFlag.failed)
    recorder.append(
      Record(
        time: last, kind: .segment, flags: flags, qid: request.qid.rawValue, cid: request.cid.rawValue,
        a: segment.address.rawValue, b: Record.pair(segment.length, span)))
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    let isReached = memory.reaches(segment.address, count: Int(segment.length), forWriting: direction == .toHost)
    if R.isOn, !isReached { note(segment, direction, request, reached: false, span: 0) }
    return isReached
  }

  @inline(__always)
  mutating func transferred(_ direction: Direction, _ request: IORequest) {
    guard R.isOn, let data = data(of: request) else { return }
    notePayload(direction, request, data)
  }

  @inline(never)
  private mutating func notePayload(_ direction: Direction, _ request: IORequest, _ data: UnsafeMutableRawPointer) {
    let flag = direction == .fromHost ? EventFlag.fromHost : 0
    // Pieces that a ring can hold; a digest alone needs no pieces.
    let pieceMax = recorder.keepsPayload ? 64 << 10 : Int(request.byteCount)
    var offset = 0
    while offset < Int(request.byteCount) {
      let count = min(pieceMax, Int(request.byteCount) - offset)
      let bytes = UnsafeRawBufferPointer(start: data + offset, count: count)
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

  // MARK: Backends

  @inline(__always)
  mutating func execute(_ request: IORequest) -> Status? {
    if R.isOn {
      recorder.append(
        Record(
          time: last, kind: .executeBegin, flags: request.opcode.rawValue, qid: request.qid.rawValue,
          cid: request.cid.rawValue, a: request.slba, b: Record.pair(request.blocks, request.nsid)))
    }
    let status: Status
    switch request.nsid == .max ? .null : backends[Int(request.nsid)] {
    case .null:
      guard let atOnce = request.nsid == .max ? flushAll(request) : .success else { return nil }
      status = atOnce
    case .storage(let device):
      putOff(request)
      guard let atOnce = device._withUnsafeGuaranteedRef({ storage!.pointee.submit(request, to: $0) }) else {
        return nil
      }
      deferrals[Int(request.nsid)] -= 1
      status = atOnce
    case .memory(let backend): status = backend.execute(request, data: compared)
    case .slow(let timer):
      putOff(request)
      delays.add(request.slot, afterNs: timer.next())
      return nil
    }
    if R.isOn { noteEnd(request, status, flags: 0) }
    return status
  }

  @inline(__always)
  private mutating func noteEnd(_ request: IORequest, _ status: Status, flags: UInt8) {
    _ = stamp()
    recorder.append(
      Record(
        time: last, kind: .executeEnd, flags: flags, qid: request.qid.rawValue, cid: request.cid.rawValue,
        a: UInt64(status.rawValue), b: flags == 0 ? 0 : UInt64(request.slot)))
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
    if let slot = delays.next() {
      next = (slot, .success)
    } else if let completion = storage?.pointee.completion() {
      next = completion
    } else {
      return isSettling ? settle() : nil
    }
    let request = deferred[Int(next.slot)]
    if request.nsid != .max { deferrals[Int(request.nsid)] -= 1 }
    if R.isOn { noteEnd(request, next.status, flags: EventFlag.later) }
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
    if R.isOn { noteEnd(request, .abortRequested, flags: EventFlag.later) }
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
    if R.isOn {
      var all = IORequest(
        opcode: .flush, nsid: .max, qid: .admin, cid: CommandID(.max), slba: 0, blocks: 0, blockShift: 0)
      all.slot = Controller.abandonedSlot
      noteEnd(all, .success, flags: EventFlag.later)
    }
    return (Controller.abandonedSlot, .success)
  }

  // MARK: Time

  mutating func clockMs() -> UInt64 {
    let ms = Clock.realtimeNs() / 1_000_000
    if R.isOn {
      _ = stamp()
      recorder.append(Record(time: last, kind: .time, a: ms))
    }
    return ms
  }

  @inline(never)
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) { timers.arm(timer, afterUs: afterUs) }

  @inline(never)
  mutating func disarm(_ timer: EngineTimer) { timers.disarm(timer) }

  mutating func expired() -> EngineTimer? {
    guard let timer = timers.expired() else { return nil }
    if R.isOn {
      _ = stamp()
      recorder.append(timer.record(time: last))
    }
    return timer
  }

  // MARK: Completion

  @inline(__always)
  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    var target = memory.translate(address, CompletionEntry.size, forWriting: true)
    if let place = target {
      place.storeBytes(of: cqe.dw0, toByteOffset: 0, as: UInt32.self)
      place.storeBytes(of: cqe.dw1, toByteOffset: 4, as: UInt32.self)
      place.storeBytes(of: cqe.dw2, toByteOffset: 8, as: UInt32.self)
      if memory.isLost { target = nil }
    }
    if R.isOn {
      // Before the entry can be seen: who sees it sees it later than this.
      _ = stamp()
      recorder.append(
        Record(
          time: last, kind: .completion, flags: target == nil ? EventFlag.failed : 0, qid: cqid.rawValue,
          cid: cqe.cid.rawValue, a: Record.pair(cqe.dw0, cqe.dw1), b: Record.pair(cqe.dw2, cqe.dw3)))
    }
    guard let target else {
      unreached = .completionQueue(qid: cqid.rawValue, address: address.rawValue)
      return false
    }
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
