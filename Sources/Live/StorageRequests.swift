import Endpoint
import NVMe
import Storage
import Target

/// The engine's requests to files and devices: which of the storage queue's requests belong to which slot.
struct StorageRequests: ~Copyable {
  private var queue: StorageQueue
  /// By slot: the request that holds its data; -1 for none.
  private let requestOfSlot: UnsafeMutablePointer<Int32>
  /// By request.
  private let slotOfRequest: UnsafeMutablePointer<Int32>
  /// By slot: requests that must complete before it does, and the first failure among them.
  private let pending: UnsafeMutablePointer<(count: Int, status: Status)>
  private let ranges: UnsafeMutablePointer<StorageRange>
  /// Devices that were detached while something was under way, kept until nothing is.
  private var detached: [StorageDevice] = []

  /// What a reset leaves with the kernel holds requests for a while, beside those of the slots.
  private static let requestsMax = 2 * Controller.slots

  /// - Parameter maxTransferBytes: of one command.
  init(maxTransferBytes: UInt32) throws(StorageError) {
    queue = try StorageQueue(
      requestsMax: StorageRequests.requestsMax, bufferBytes: Int(max(maxTransferBytes, 64 << 10)))
    requestOfSlot = .allocate(capacity: Controller.slots)
    requestOfSlot.initialize(repeating: -1, count: Controller.slots)
    slotOfRequest = .allocate(capacity: StorageRequests.requestsMax)
    slotOfRequest.initialize(repeating: -1, count: StorageRequests.requestsMax)
    pending = .allocate(capacity: Controller.slots)
    pending.initialize(repeating: (0, .success), count: Controller.slots)
    ranges = .allocate(capacity: StorageQueue.rangesMax)
  }

  deinit {
    requestOfSlot.deallocate()
    slotOfRequest.deallocate()
    pending.deallocate()
    ranges.deallocate()
  }

  var canPassThrough: Bool { queue.canPassThrough }

  /// Where the data of a slot's request is; nil when there are too many requests.
  mutating func buffer(_ slot: Int32) -> UnsafeMutableRawPointer? {
    if requestOfSlot[Int(slot)] < 0 {
      guard let request = queue.take() else { return nil }
      requestOfSlot[Int(slot)] = request
      slotOfRequest[Int(request)] = slot
    }
    return queue.buffer(requestOfSlot[Int(slot)])
  }

  /// Hand a request to its device.
  /// - Returns: a status where it is not even begun.
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
    case .writeZeroes: operation = request.deallocates ? .deallocate : .writeZeroes
    case .flush:
      operation = .flush
      count = 0
    case .datasetManagement, .copy:
      operation = request.opcode == .copy ? .copy : .deallocate
      count = request.ranges.count
      guard count > 0 else { return .success }
      for (index, range) in request.ranges.enumerated() {
        ranges[index] = StorageRange(offset: range.slba << shift, count: UInt64(range.blocks) << shift)
      }
    case .reservationRegister, .reservationReport, .reservationAcquire, .reservationRelease: return .invalidOpcode
    }
    pending[Int(request.slot)] = (1, .success)
    queue.submit(
      requestOfSlot[Int(request.slot)], operation, on: device,
      ranges: UnsafeBufferPointer(start: ranges, count: count), destination: request.byteOffset,
      forceUnitAccess: request.forcesUnitAccess)
    return nil
  }

  /// Flush several devices as one request.
  /// - Returns: a status where there is nothing to wait for.
  mutating func flush(_ slot: Int32, _ devices: [StorageDevice]) -> Status? {
    pending[Int(slot)] = (0, .success)
    for device in devices {
      guard let request = queue.take() else { return .internalError }
      slotOfRequest[Int(request)] = slot
      pending[Int(slot)].count += 1
      queue.submit(request, .flush, on: device, ranges: UnsafeBufferPointer(start: nil, count: 0))
    }
    return devices.isEmpty ? .success : nil
  }

  /// Tell the kernel of what was submitted.
  @inline(__always)
  mutating func kick() { queue.kick() }

  /// The next slot whose requests are all complete.
  mutating func completion() -> (slot: Int32, status: Status)? {
    while let (request, status) = queue.completion() {
      let slot = slotOfRequest[Int(request)]
      // What belongs to no slot's data is of no more use.
      if requestOfSlot[Int(slot)] != request { free(request) }
      pending[Int(slot)].count -= 1
      if !status.isSuccess { pending[Int(slot)].status = status }
      if pending[Int(slot)].count == 0 { return (slot, pending[Int(slot)].status) }
    }
    if queue.inFlight == 0, !detached.isEmpty { detached = [] }
    return nil
  }

  private mutating func free(_ request: Int32) {
    slotOfRequest[Int(request)] = -1
    queue.release(request)
  }

  /// A slot's data are not needed any more.
  @inline(__always)
  mutating func release(_ slot: Int32) {
    let request = requestOfSlot[Int(slot)]
    guard request >= 0 else { return }
    requestOfSlot[Int(slot)] = -1
    free(request)
  }

  /// No completion of what is under way may come.
  mutating func abandonAll() {
    for request in 0..<StorageRequests.requestsMax where slotOfRequest[request] >= 0 {
      requestOfSlot[Int(slotOfRequest[request])] = -1
      slotOfRequest[request] = -1
      queue.abandon(Int32(request))
    }
  }

  /// A device is no namespace's any more.
  mutating func detach(_ device: StorageDevice) { if queue.inFlight > 0 { detached.append(device) } }
}

/// Carries storage requests to the thread that will own them.
final class StorageHandover: @unchecked Sendable {
  private var requests: StorageRequests?

  /// Whether commands can be passed through to NVMe devices.
  let canPassThrough: Bool

  init(maxTransferBytes: UInt32) throws(StorageError) {
    let made = try StorageRequests(maxTransferBytes: maxTransferBytes)
    canPassThrough = made.canPassThrough
    requests = consume made
  }

  func take() -> StorageRequests? { requests.take() }
}
