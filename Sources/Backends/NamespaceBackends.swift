import Endpoint
import NVMe
import Platform
import Storage
import Target

/// What lies behind the namespaces of one engine, and the requests that are not done at once, by the engine's slots.
///
/// The engine's thread owns it.
public struct NamespaceBackends<Time: TimeSource>: ~Copyable {
  private let time: Time
  /// By namespace identifier.
  private let backends: UnsafeMutablePointer<NamespaceBackend>
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
  /// The engine waits for what it has abandoned.
  private var isSettling = false

  public init(time: Time, storage: StorageHandover? = nil) {
    self.time = time
    self.storage = storage?.take()
    backends = .allocate(capacity: Int(Subsystem.namespacesLimit) + 1)
    backends.initialize(repeating: .null, count: Int(Subsystem.namespacesLimit) + 1)
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

  // MARK: Namespaces

  /// What lies behind a namespace, before it is attached.
  public mutating func set(_ nsid: UInt32, _ backend: NamespaceBackend) {
    backends[Int(nsid)] = backend
    if case .storage(let device) = backend { devices[nsid] = device.takeUnretainedValue() }
  }

  /// Whether commands of a namespace that was detached are still under way: its identifier cannot be used again.
  public func isBusy(_ nsid: UInt32) -> Bool { deferrals[Int(nsid)] > 0 }

  /// A namespace was detached; what is under way in it goes on.
  public mutating func remove(_ nsid: UInt32) {
    guard let device = devices.removeValue(forKey: nsid) else { return }
    storage!.pointee.detach(device)
  }

  // MARK: Requests

  /// Tell the kernel of what backends were given in this pass.
  @inline(__always)
  public func endPass() { storage?.pointee.kick() }

  /// Where a request's data lies on this side; nil where it is not kept.
  @inline(__always)
  public mutating func data(of request: IORequest) -> UnsafeMutableRawPointer? {
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

  /// - Returns: nil for a request that is not done at once.
  @inline(__always)
  public mutating func execute(_ request: IORequest) -> Status? {
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

  /// The next request that has been done; `Controller.abandonedSlot` once everything that was abandoned has settled.
  @inline(__always)
  public mutating func completion() -> (slot: Int32, status: Status)? {
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
  public mutating func cancel(_ request: IORequest) -> Bool {
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

  /// A request's data are not needed any more.
  @inline(__always)
  public func release(_ request: IORequest) { storage?.pointee.release(request.slot) }

  /// No completion of what is under way may come.
  public mutating func abandonAll() {
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
}
