import Endpoint
import NVMe
import Platform
import Storage
import Target

/// The backends of one engine's namespaces, and the requests that they have not completed, by the engine's slots.
///
/// The engine's thread owns it.
public struct NamespaceBackends<Time: TimeSource>: ~Copyable {
  private let time: Time
  /// By namespace identifier.
  private let backends: UnsafeMutablePointer<NamespaceBackend>
  private var delays = DelayQueue()
  /// Created with the first namespace on a file or device.
  private let storage: UnsafeMutablePointer<StorageRequests>?
  /// The devices of namespaces, for a flush of all.
  private var devices: [UInt32: StorageDevice] = [:]
  /// By slot: the requests in progress.
  private let deferred: UnsafeMutablePointer<IORequest>
  /// By namespace identifier: the number of requests in progress.
  private let deferrals: UnsafeMutablePointer<UInt32>
  /// The host's data for a compare.
  private var compared: UnsafeMutableRawPointer?
  /// The engine waits for abandoned requests.
  private var isSettling = false

  public init(time: Time, storage: StorageHandover? = nil) {
    self.time = time
    self.storage = storage?.receive()
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

  /// Set a namespace's backend before it is attached.
  public mutating func set(_ nsid: UInt32, _ backend: NamespaceBackend) {
    backends[Int(nsid)] = backend
    if case .storage(let device) = backend { devices[nsid] = device.takeUnretainedValue() }
  }

  /// Whether commands of a detached namespace are still in flight: its identifier cannot be used yet.
  public func isBusy(_ nsid: UInt32) -> Bool { deferrals[Int(nsid)] > 0 }

  /// A namespace was detached; its requests in flight continue.
  public mutating func remove(_ nsid: UInt32) {
    guard let device = devices.removeValue(forKey: nsid) else { return }
    storage!.pointee.detach(device)
  }

  // MARK: Requests

  /// Submit the requests of this pass to the kernel.
  @inline(__always)
  public func endPass() { storage?.pointee.kick() }

  /// The request's data on this side; nil if the backend does not keep it.
  @inline(__always)
  public mutating func data(of request: IORequest) -> UnsafeMutableRawPointer? {
    switch backends[Int(request.nsid)] {
    case .storage: storage!.pointee.buffer(request.slot)
    case .null, .slow: nil
    case .memory(let backend):
      request.opcode == .compare ? compareBuffer() : backend.base + Int(request.byteOffset)
    }
  }

  /// Allocated at the first compare.
  @inline(never)
  private mutating func compareBuffer() -> UnsafeMutableRawPointer {
    if let compared { return compared }
    let made = UnsafeMutableRawPointer.allocate(byteCount: Int(Subsystem.maxTransferLimit), alignment: 4096)
    compared = made
    return made
  }

  /// - Returns: nil for a request that does not complete immediately.
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

  /// It will complete later.
  @inline(__always)
  private func putOff(_ request: IORequest) {
    deferred[Int(request.slot)] = request
    deferrals[Int(request.nsid)] += 1
  }

  /// Flush every namespace that has a device.
  @inline(never)
  private mutating func flushAll(_ request: IORequest) -> Status? {
    guard !devices.isEmpty else { return .success }
    deferred[Int(request.slot)] = request
    return storage!.pointee.flush(request.slot, Array(devices.values))
  }

  /// The next completed request; `Controller.abandonedSlot` once all abandoned requests have settled.
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
    // A flush of all may have flushed some devices.
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

  /// The request's data is no longer needed.
  @inline(__always)
  public func release(_ request: IORequest) { storage?.pointee.release(request.slot) }

  /// Abandon all requests in progress: none of them may complete.
  public mutating func abandonAll() {
    delays.removeAll()
    deferrals.update(repeating: 0, count: Int(Subsystem.namespacesLimit) + 1)
    storage?.pointee.abandonAll()
    isSettling = true
  }

  /// Nil until all abandoned requests have settled.
  @inline(never)
  private mutating func settle() -> (slot: Int32, status: Status)? {
    if let storage, !storage.pointee.settle() { return nil }
    isSettling = false
    return (Controller.abandonedSlot, .success)
  }
}
