import CUring
import Glibc
import NVMe

/// A byte range of a device.
public struct StorageRange: BitwiseCopyable, Equatable, Sendable {
  /// First byte.
  public var offset: UInt64
  /// Bytes.
  public var count: UInt64

  public init(offset: UInt64, count: UInt64) {
    self.offset = offset
    self.count = count
  }
}

/// Operations on a device's bytes.
public enum StorageOperation: UInt8, BitwiseCopyable, Sendable {
  /// Read into the request's buffer.
  case read
  /// Write from the request's buffer.
  case write
  /// Compare with the request's buffer.
  case compare
  /// Read and discard.
  case verify
  /// Make all earlier writes durable.
  case flush
  /// Write zeros; keep the space, or deallocate it if possible.
  case writeZeroes, zeroAndDeallocate
  /// A hint: deallocate the space, which then reads as zeros, or do nothing.
  case deallocate
  /// Copy the ranges, in order, to the destination.
  case copy
}

/// Requests in flight on one io_uring, each with a buffer. One thread owns it, and nothing in it blocks except
/// `deinit`.
public struct StorageQueue: ~Copyable {
  /// Maximum ranges of a request.
  public static let rangesMax = 256

  private let ring: OpaquePointer
  private let requestsMax: Int
  private let bufferBytes: Int
  private let requests: UnsafeMutablePointer<StorageRequest>
  /// `rangesMax` per request.
  private let ranges: UnsafeMutablePointer<StorageRange>
  private let buffers: UnsafeMutableRawBufferPointer
  private var free: [Int32]
  /// Operations in the ring that have not been submitted to the kernel.
  private var untold = 0
  /// Requests submitted and not yet returned by `completion`.
  public private(set) var inFlight = 0
  /// Requests whose completion nobody waits for.
  public private(set) var abandoned = 0
  /// Operations so far that make writes durable: syncs, and writes through to the medium.
  private(set) var syncs = 0
  private(set) var writesThrough = 0

  /// - Parameters:
  ///   - requestsMax: maximum number of requests at once.
  ///   - bufferBytes: size of each buffer; whole pages.
  public init(requestsMax: Int, bufferBytes: Int) throws(StorageError) {
    precondition(requestsMax > 0 && bufferBytes > 0 && bufferBytes % 4096 == 0)
    self.requestsMax = requestsMax
    self.bufferBytes = bufferBytes
    let size = requestsMax * bufferBytes
    let base = mmap(
      nil, size, PROT_READ | PROT_WRITE, Int32(MAP_PRIVATE) | Int32(MAP_ANONYMOUS) | Int32(MAP_NORESERVE), -1, 0)
    guard let base, base != MAP_FAILED else {
      throw StorageError(description: "no room for buffers: \(String(cString: strerror(errno)))")
    }
    var error: Int32 = 0
    guard let ring = nvmepf_uring_create(256, UInt32(max(requestsMax, 256)), &error) else {
      munmap(base, size)
      let remedy =
        error == EPERM || error == ENOSYS
        ? "; files and devices need it: sysctl kernel.io_uring_disabled=0, or a sandbox that allows it" : ""
      throw StorageError(
        description: "io_uring is not available: \(String(cString: strerror(error)))\(remedy)",
        isOutOfDescriptors: error == EMFILE || error == ENFILE)
    }
    self.ring = ring
    buffers = UnsafeMutableRawBufferPointer(start: base, count: size)
    requests = .allocate(capacity: requestsMax)
    requests.initialize(repeating: StorageRequest(), count: requestsMax)
    ranges = .allocate(capacity: requestsMax * StorageQueue.rangesMax)
    // Allocated from the end, so that the first buffers are reused.
    free = (0..<Int32(requestsMax)).reversed()
  }

  /// Waits until the kernel no longer writes into the buffers.
  deinit {
    _ = nvmepf_uring_submit(ring)
    var left = inFlight + abandoned
    while left > 0 {
      nvmepf_uring_wait(ring)
      var tag: UInt64 = 0
      var result: Int32 = 0
      // Each has one operation in flight; no other follows.
      while nvmepf_uring_complete(ring, &tag, &result) { left -= 1 }
    }
    nvmepf_uring_destroy(ring)
    munmap(buffers.baseAddress, buffers.count)
    requests.deallocate()
    ranges.deallocate()
  }

  /// Whether passthrough to NVMe devices is possible.
  public var canPassThrough: Bool { nvmepf_uring_can_pass_through(ring) }

  /// Allocate a request; nil if all are in use.
  public mutating func allocate() -> Int32? { free.popLast() }

  /// The request's data buffer: `bufferBytes`, page aligned.
  @inline(__always)
  public func buffer(_ request: Int32) -> UnsafeMutableRawPointer {
    buffers.baseAddress! + Int(request) * bufferBytes
  }

  /// Free the request and its buffer.
  public mutating func release(_ request: Int32) {
    if requests[Int(request)].comparand >= 0 { free.append(requests[Int(request)].comparand) }
    requests[Int(request)] = StorageRequest()
    free.append(request)
  }

  /// Abandon the request: it is released when the kernel has finished with it.
  public mutating func abandon(_ request: Int32) {
    guard requests[Int(request)].isInFlight else { return release(request) }
    requests[Int(request)].isAbandoned = true
    inFlight -= 1
    abandoned += 1
  }

  /// Cancel a request of which the kernel has not started any operation.
  /// - Returns: whether it can have no effect any more; it is then released like an abandoned one.
  public mutating func cancel(_ request: Int32) -> Bool {
    guard requests[Int(request)].isInFlight, !requests[Int(request)].hasBegun,
      nvmepf_uring_cancel(ring, UInt64(request))
    else { return false }
    abandon(request)
    return true
  }

  /// Start a request; `kick` submits it to the kernel.
  /// - Parameters:
  ///   - device: must live until the request is complete or abandoned.
  ///   - sources: one range; for read, write and compare at most as long as the buffer; several for deallocate and
  ///     copy.
  ///   - destination: of a copy, in bytes.
  ///   - forceUnitAccess: written data is on the medium when the request completes.
  public mutating func submit(
    _ request: Int32, _ operation: StorageOperation, on device: StorageDevice,
    ranges sources: UnsafeBufferPointer<StorageRange>, destination: UInt64 = 0, forceUnitAccess: Bool = false
  ) {
    precondition(sources.count <= StorageQueue.rangesMax && !requests[Int(request)].isInFlight)
    let place = ranges + Int(request) * StorageQueue.rangesMax
    if let base = sources.baseAddress { place.update(from: base, count: sources.count) }
    requests[Int(request)] = StorageRequest(
      operation: operation, device: Unmanaged.passUnretained(device), rangeCount: sources.count,
      destination: destination, forcesUnitAccess: forceUnitAccess)
    requests[Int(request)].isInFlight = true
    inFlight += 1
    if forceUnitAccess, device.hasLostWrites { requests[Int(request)].status = .writeFault }
    if operation == .compare { requests[Int(request)].comparand = allocate() ?? -1 }
    if operation == .compare, requests[Int(request)].comparand < 0 {
      requests[Int(request)].status = .internalError
    }
    proceed(request)
  }

  /// Requests in flight on a device.
  public func inFlight(on device: StorageDevice) -> Int {
    (0..<requestsMax).count { requests[$0].isInFlight && isOf(device, Int32($0)) }
  }

  /// Whether a request belongs to this device.
  public func isOf(_ device: StorageDevice, _ request: Int32) -> Bool {
    requests[Int(request)].device?.toOpaque() == Unmanaged.passUnretained(device).toOpaque()
  }

  /// Submit all new operations to the kernel.
  @inline(__always)
  public mutating func kick() {
    guard untold > 0 else { return }
    // If the kernel has no room now, the rest is submitted at the next call.
    if nvmepf_uring_submit(ring) { untold = 0 }
  }

  /// The next finished request. Starts the next operation of requests that need several.
  public mutating func completion() -> (request: Int32, status: Status)? {
    var tag: UInt64 = 0
    var result: Int32 = 0
    while nvmepf_uring_complete(ring, &tag, &result) {
      let request = Int32(truncatingIfNeeded: tag)
      // Its device may be gone.
      if requests[Int(request)].isAbandoned {
        abandoned -= 1
        release(request)
        continue
      }
      finishStep(result, of: request)
      guard requests[Int(request)].isDone else {
        proceed(request)
        continue
      }
      requests[Int(request)].isInFlight = false
      inFlight -= 1
      return (request, requests[Int(request)].status)
    }
    return nil
  }

  // MARK: Steps

  /// Start the next operation of a request.
  private mutating func proceed(_ request: Int32) {
    untold += 1
    let pointer = requests + Int(request)
    let place = ranges + Int(request) * StorageQueue.rangesMax
    pointer.pointee.device!._withUnsafeGuaranteedRef { device in
      let step = pointer.pointee.nextStep(place, bufferBytes: UInt64(bufferBytes), device.access)
      let holder = pointer.pointee.operation == .compare ? pointer.pointee.comparand : request
      let data = buffer(max(holder, 0)) + Int(pointer.pointee.bufferOffset)
      nvmepf_uring_set_async(ring, device.mayBlock)
      if case .nvme(let nsid) = device.kind {
        submitCommand(step, nsid, device, data, UInt64(request))
      } else {
        submit(step, device, data, UInt64(request))
      }
      count(step)
    }
  }

  private mutating func count(_ step: StorageStep) {
    switch step {
    case .sync: syncs += 1
    case .write(_, _, _, true): writesThrough += 1
    case .read, .write, .zero, .deallocate: break
    }
  }

  @inline(__always)
  private func submit(_ step: StorageStep, _ device: StorageDevice, _ data: UnsafeMutableRawPointer, _ tag: UInt64) {
    switch step {
    case .read(let offset, let count, let isDirect):
      let descriptor = isDirect ? device.directDescriptor : device.bufferedDescriptor
      nvmepf_uring_read(ring, descriptor, data, UInt32(count), offset, tag)
    case .write(let offset, let count, let isDirect, let isThrough):
      let descriptor = isDirect ? device.directDescriptor : device.bufferedDescriptor
      nvmepf_uring_write(
        ring, descriptor, data, UInt32(count), offset, isThrough ? nvmepf_write_through() : 0, tag)
    case .zero(let offset, let count, let deallocates):
      let mode = deallocates ? nvmepf_deallocate_mode() : nvmepf_zero_mode()
      nvmepf_uring_allocate(ring, device.bufferedDescriptor, mode, offset, count, tag)
    case .deallocate(let offset, let count):
      nvmepf_uring_allocate(ring, device.bufferedDescriptor, nvmepf_deallocate_mode(), offset, count, tag)
    case .sync(let offset, let count):
      nvmepf_uring_sync(ring, device.bufferedDescriptor, offset, UInt32(count), tag)
    }
  }

  /// The same as an NVMe command (NVM Command Set 1.1, 3.3).
  private func submitCommand(
    _ step: StorageStep, _ nsid: UInt32, _ device: StorageDevice, _ data: UnsafeMutableRawPointer, _ tag: UInt64
  ) {
    let shift = UInt64(device.logicalBlockBytes.trailingZeroBitCount)
    func send(_ opcode: IOOpcode, bytes: UInt64 = 0, _ cdw10: UInt32 = 0, _ cdw11: UInt32 = 0, _ cdw12: UInt32 = 0) {
      nvmepf_uring_command(
        ring, device.bufferedDescriptor, opcode.rawValue, nsid, bytes > 0 ? data : nil, UInt32(bytes),
        [cdw10, cdw11, cdw12, 0, 0, 0], tag)
    }
    func sendBlocks(_ opcode: IOOpcode, _ offset: UInt64, _ count: UInt64, bytes: UInt64, flags: UInt32 = 0) {
      let slba = offset >> shift
      send(
        opcode, bytes: bytes, UInt32(truncatingIfNeeded: slba), UInt32(slba >> 32), UInt32(count >> shift) - 1 | flags)
    }
    switch step {
    case .read(let offset, let count, _): sendBlocks(.read, offset, count, bytes: count)
    case .write(let offset, let count, _, let isThrough):
      sendBlocks(.write, offset, count, bytes: count, flags: isThrough ? 1 << 30 : 0)
    case .zero(let offset, let count, let deallocates):
      sendBlocks(.writeZeroes, offset, count, bytes: 0, flags: deallocates ? 1 << 25 : 0)
    case .deallocate(let offset, let count):
      // One range, and the attribute Deallocate.
      data.storeBytes(of: (count >> shift) << 32, as: UInt64.self)
      data.storeBytes(of: offset >> shift, toByteOffset: 8, as: UInt64.self)
      send(.datasetManagement, bytes: 16, 0, 1 << 2)
    case .sync: send(.flush)
    }
  }

  /// An operation of a request has ended.
  private mutating func finishStep(_ result: Int32, of request: Int32) {
    let pointer = requests + Int(request)
    let place = ranges + Int(request) * StorageQueue.rangesMax
    let data = UnsafeMutableRawBufferPointer(start: buffer(request), count: bufferBytes)
    let comparand = pointer.pointee.comparand >= 0 ? UnsafeRawPointer(buffer(pointer.pointee.comparand)) : nil
    pointer.pointee.device!._withUnsafeGuaranteedRef { device in
      if result >= 0, device.isPassedThrough {
        pointer.pointee.finishStep(status: Status(rawValue: UInt16(truncatingIfNeeded: result)), place, data, comparand)
      } else if case .sync = pointer.pointee.step {
        pointer.pointee.finishStep(device.settleSync(result), place, data, comparand)
      } else {
        pointer.pointee.finishStep(result, place, data, comparand)
      }
    }
  }
}
