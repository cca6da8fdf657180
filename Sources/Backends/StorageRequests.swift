import Endpoint
import NVMe
import Storage
import Target

/// The engine's requests to files and devices: maps slots to requests of the storage queue.
struct StorageRequests: ~Copyable {
  private var queue: StorageQueue
  /// By slot: the request that holds its data; -1 for none.
  private let requestOfSlot: UnsafeMutablePointer<Int32>
  /// By request.
  private let slotOfRequest: UnsafeMutablePointer<Int32>
  /// By slot: the status so far.
  private let status: UnsafeMutablePointer<Status>
  private let ranges: UnsafeMutablePointer<StorageRange>
  /// By slot: the devices of a flush of all, and how many of them it has started.
  private var flushes: [Int32: (devices: [StorageDevice], begun: Int)] = [:]
  /// Devices of detached namespaces, kept until the last of their own requests is done.
  private var detached: [StorageDevice] = []

  /// Requests abandoned by a reset occupy the kernel for a while, in addition to those of the slots.
  private static let requestsMax = 2 * Controller.slots

  /// - Parameter maxTransferBytes: of one command.
  init(maxTransferBytes: UInt32) throws(StorageError) {
    self.init(
      try StorageQueue(requestsMax: StorageRequests.requestsMax, bufferBytes: Int(max(maxTransferBytes, 64 << 10))))
  }

  private init(_ queue: consuming StorageQueue) {
    self.queue = queue
    requestOfSlot = .allocate(capacity: Controller.slots)
    requestOfSlot.initialize(repeating: -1, count: Controller.slots)
    slotOfRequest = .allocate(capacity: StorageRequests.requestsMax)
    slotOfRequest.initialize(repeating: -1, count: StorageRequests.requestsMax)
    status = .allocate(capacity: Controller.slots)
    status.initialize(repeating: .success, count: Controller.slots)
    ranges = .allocate(capacity: StorageQueue.rangesMax)
  }

  deinit {
    requestOfSlot.deallocate()
    slotOfRequest.deallocate()
    status.deallocate()
    ranges.deallocate()
  }

  var canPassThrough: Bool { queue.canPassThrough }

  /// The data buffer of a slot's request; nil if there are too many requests.
  mutating func buffer(_ slot: Int32) -> UnsafeMutableRawPointer? {
    if requestOfSlot[Int(slot)] < 0 {
      guard let request = queue.allocate() else { return nil }
      requestOfSlot[Int(slot)] = request
      slotOfRequest[Int(request)] = slot
    }
    return queue.buffer(requestOfSlot[Int(slot)])
  }

  /// Submit a request to its device.
  /// - Returns: a status if it was not even started.
  mutating func submit(_ request: IORequest, to device: StorageDevice) -> Status? {
    guard buffer(request.slot) != nil else { return .internalError }
    let shift = request.blockShift
    var count = 1
    let operation: StorageOperation
    ranges[0] = StorageRange(offset: request.byteOffset, count: request.byteCount)
    switch request.opcode {
    case .read: operation = .read
    case .write: operation = .write
    case .compare: operation = .compare
    case .verify: operation = .verify
    case .writeZeroes: operation = request.deallocates ? .zeroAndDeallocate : .writeZeroes
    case .flush:
      operation = .flush
      count = 0
    case .datasetManagement, .copy:
      operation = request.opcode == .copy ? .copy : .deallocate
      count = request.ranges.count
      guard count > 0, operation == .copy || device.canDeallocate else { return .success }
      for (index, range) in request.ranges.enumerated() {
        ranges[index] = StorageRange(offset: range.slba << shift, count: UInt64(range.blocks) << shift)
      }
    case .reservationRegister, .reservationReport, .reservationAcquire, .reservationRelease: return .invalidOpcode
    }
    status[Int(request.slot)] = .success
    queue.submit(
      requestOfSlot[Int(request.slot)], operation, on: device,
      ranges: UnsafeBufferPointer(start: ranges, count: count), destination: request.byteOffset,
      forceUnitAccess: request.forcesUnitAccess)
    return nil
  }

  /// Flush several devices, one after the other; this takes one request, however many there are.
  /// - Returns: a status if there is nothing to wait for.
  mutating func flush(_ slot: Int32, _ devices: [StorageDevice]) -> Status? {
    guard !devices.isEmpty else { return .success }
    guard buffer(slot) != nil else { return .internalError }
    status[Int(slot)] = .success
    flushes[slot] = (devices, 0)
    flushNext(slot)
    return nil
  }

  private mutating func flushNext(_ slot: Int32) {
    let (devices, begun) = flushes[slot]!
    flushes[slot]!.begun += 1
    queue.submit(
      requestOfSlot[Int(slot)], .flush, on: devices[begun], ranges: UnsafeBufferPointer(start: nil, count: 0))
  }

  /// Submit the new requests to the kernel.
  @inline(__always)
  mutating func kick() { queue.kick() }

  /// Cancel a slot's request if the kernel has not started it.
  /// - Returns: whether it can have no effect any more; it then has no completion.
  mutating func cancel(_ slot: Int32) -> Bool {
    let request = requestOfSlot[Int(slot)]
    guard request >= 0, queue.cancel(request) else { return false }
    requestOfSlot[Int(slot)] = -1
    slotOfRequest[Int(request)] = -1
    return true
  }

  /// The next slot whose requests are all complete.
  mutating func completion() -> (slot: Int32, status: Status)? {
    let abandoned = queue.abandoned
    // A cancelled request leaves without a completion.
    defer { if !detached.isEmpty, queue.abandoned < abandoned { forgetDetached() } }
    while let (request, result) = queue.completion() {
      let slot = slotOfRequest[Int(request)]
      if !detached.isEmpty { noteDone(request) }
      if !result.isSuccess { status[Int(slot)] = result }
      if let (devices, begun) = flushes[slot] {
        if begun < devices.count {
          flushNext(slot)
          continue
        }
        flushes[slot] = nil
      }
      return (slot, status[Int(slot)])
    }
    return nil
  }

  @inline(never)
  private mutating func noteDone(_ request: Int32) {
    guard let place = detached.firstIndex(where: { queue.isOf($0, request) }) else { return }
    if queue.inFlight(on: detached[place]) == 0 { detached.remove(at: place) }
  }

  private mutating func free(_ request: Int32) {
    slotOfRequest[Int(request)] = -1
    queue.release(request)
  }

  /// A slot's data is no longer needed.
  @inline(__always)
  mutating func release(_ slot: Int32) {
    let request = requestOfSlot[Int(slot)]
    guard request >= 0 else { return }
    requestOfSlot[Int(slot)] = -1
    free(request)
  }

  /// Abandon all requests: none of them may complete. The kernel continues them; `settle` tells when they are done.
  mutating func abandonAll() {
    flushes = [:]
    for request in 0..<StorageRequests.requestsMax where slotOfRequest[request] >= 0 {
      requestOfSlot[Int(slotOfRequest[request])] = -1
      slotOfRequest[request] = -1
      queue.abandon(Int32(request))
    }
  }

  /// Whether no abandoned request can take effect any more.
  mutating func settle() -> Bool {
    guard queue.abandoned == 0 else { return false }
    forgetDetached()
    return true
  }

  private mutating func forgetDetached() { detached.removeAll { queue.inFlight(on: $0) == 0 } }

  /// The device's namespace was detached: it gets no new requests, except from a flush of all in progress, which keeps
  /// its devices itself.
  mutating func detach(_ device: StorageDevice) { if queue.inFlight(on: device) > 0 { detached.append(device) } }
}

/// Passes storage requests to the thread that will own them.
public final class StorageHandover: @unchecked Sendable {
  private var requests: StorageRequests?

  /// Whether passthrough to NVMe devices is possible.
  let canPassThrough: Bool

  private init(maxTransferBytes: UInt32) throws(StorageError) {
    let made = try StorageRequests(maxTransferBytes: maxTransferBytes)
    canPassThrough = made.canPassThrough
    requests = consume made
  }

  /// - Returns: the reason, if files and devices are not available.
  public static func make(maxTransferBytes: UInt32) -> OpenNamespace.Storage {
    Result { () throws(StorageError) in try StorageHandover(maxTransferBytes: maxTransferBytes) }
  }

  /// - Returns: memory that the caller frees; nil if it was already returned.
  func receive() -> UnsafeMutablePointer<StorageRequests>? {
    guard let taken = requests.take() else { return nil }
    let place = UnsafeMutablePointer<StorageRequests>.allocate(capacity: 1)
    place.initialize(to: taken)
    return place
  }
}
