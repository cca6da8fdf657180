import Glibc
import NVMe

/// One operation for the kernel.
enum StorageStep: BitwiseCopyable, Equatable {
  /// `isDirect`: aligned, so that it can bypass the page cache.
  case read(offset: UInt64, count: UInt64, isDirect: Bool)
  /// `isThrough`: on the medium on completion.
  case write(offset: UInt64, count: UInt64, isDirect: Bool, isThrough: Bool)
  case zero(offset: UInt64, count: UInt64, deallocates: Bool)
  case deallocate(offset: UInt64, count: UInt64)
  /// A range; everything if it is empty.
  case sync(offset: UInt64, count: UInt64)

  static let syncAll = StorageStep.sync(offset: 0, count: 0)
}

/// Ways to zero blocks, each tried if the device does not support the previous one; the last always works.
private enum Zeroing: BitwiseCopyable {
  case deallocating, inPlace, writing
}

/// The progress of a request: its next step and the results of earlier ones.
struct StorageRequest: BitwiseCopyable {
  var operation = StorageOperation.flush
  var device: Unmanaged<StorageDevice>?
  var rangeCount = 0
  /// Copy: destination of the next bytes.
  var destination: UInt64 = 0
  var forcesUnitAccess = false

  var isInFlight = false
  var isAbandoned = false
  var isDone = false
  var status = Status.success
  /// Compare: the request whose buffer receives the device's data; -1 for none.
  var comparand: Int32 = -1

  /// One of its operations has ended.
  private(set) var hasBegun = false
  /// The current range, and how much of it is done.
  private var range = 0
  private var done: UInt64 = 0
  /// Copy: bytes of the piece in the buffer, how many of them are read, how many written.
  private var piece: UInt64 = 0
  private var filled: UInt64 = 0
  private var emptied: UInt64 = 0
  private var zeroing = Zeroing.inPlace
  /// The file system requires more alignment than usual.
  private var avoidsDirect = false
  /// A write was not written through: Force Unit Access makes it durable at the end.
  private var isCached = false
  private var isSynced = false
  private(set) var step = StorageStep.syncAll
  /// Position of the step's data in the buffer.
  private(set) var bufferOffset: UInt64 = 0

  init() {}

  init(
    operation: StorageOperation, device: Unmanaged<StorageDevice>?, rangeCount: Int, destination: UInt64,
    forcesUnitAccess: Bool
  ) {
    self.operation = operation
    self.device = device
    self.rangeCount = rangeCount
    self.destination = destination
    self.forcesUnitAccess = forcesUnitAccess
    if operation == .zeroAndDeallocate { zeroing = .deallocating }
  }

  // MARK: The next step

  mutating func nextStep(
    _ ranges: UnsafeMutablePointer<StorageRange>, bufferBytes: UInt64, _ access: StorageAccess
  ) -> StorageStep {
    step = chooseStep(ranges, bufferBytes: bufferBytes, access)
    return step
  }

  private mutating func chooseStep(
    _ ranges: UnsafeMutablePointer<StorageRange>, bufferBytes: UInt64, _ access: StorageAccess
  ) -> StorageStep {
    guard status.isSuccess, operation != .flush else { return .syncAll }
    guard range < rangeCount, !mustSyncFirst else { return syncOwn(ranges) }
    let offset = ranges[range].offset + done
    let left = ranges[range].count - done
    bufferOffset = 0
    switch operation {
    case .read, .compare:
      bufferOffset = done
      return read(offset, left, access)
    case .write:
      bufferOffset = done
      return write(offset, left, access)
    case .verify: return read(offset, min(left, bufferBytes), access)
    case .deallocate:
      isCached = true
      return .deallocate(offset: offset, count: min(left, access.deallocateBytes))
    case .writeZeroes, .zeroAndDeallocate:
      if zeroing == .writing { return write(offset, min(left, bufferBytes), access) }
      isCached = true
      return .zero(offset: offset, count: min(left, access.zeroBytes), deallocates: zeroing == .deallocating)
    case .copy:
      if piece == 0 { piece = min(left, bufferBytes) }
      guard filled == piece else {
        bufferOffset = filled
        return read(offset + filled, piece - filled, access)
      }
      bufferOffset = emptied
      return write(destination + emptied, piece - emptied, access)
    case .flush: return .syncAll
    }
  }

  private func read(_ offset: UInt64, _ most: UInt64, _ access: StorageAccess) -> StorageStep {
    let count = min(most, access.stepBytes)
    return .read(offset: offset, count: count, isDirect: isDirect(offset | count, access))
  }

  /// Writes through the page cache are synchronised by a separate step: the kernel reports a write-back error only
  /// once, and an error of earlier data must not be attributed to this write.
  private mutating func write(_ offset: UInt64, _ most: UInt64, _ access: StorageAccess) -> StorageStep {
    let count = min(most, access.stepBytes)
    let isDirect = isDirect(offset | count, access)
    let isThrough = forcesUnitAccess && operation == .write && (isDirect || access.isPassedThrough)
    if !isThrough { isCached = true }
    return .write(offset: offset, count: count, isDirect: isDirect, isThrough: isThrough)
  }

  private func isDirect(_ place: UInt64, _ access: StorageAccess) -> Bool {
    access.isDirect && !avoidsDirect && place % StorageAccess.alignment == 0
  }

  /// Syncs the request's range if there is only one.
  private func syncOwn(_ ranges: UnsafeMutablePointer<StorageRange>) -> StorageStep {
    guard reads || operation == .write else { return .syncAll }
    return .sync(offset: ranges[0].offset, count: ranges[0].count)
  }

  // MARK: What it has brought

  /// - Parameter result: bytes, or a negative errno.
  mutating func finishStep(
    _ result: Int32, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawBufferPointer,
    _ comparand: UnsafeRawPointer?
  ) {
    hasBegun = true
    if result == -EINTR || result == -EAGAIN { return }
    if result == -EINVAL, isStepDirect {
      avoidsDirect = true
      return
    }
    switch step {
    case .sync:
      if result < 0 { fail(-result, writing: true) }
      finishSync()
    case .zero(_, let count, _):
      if result >= 0 { return advance(by: count, ranges) }
      guard StorageRequest.cannot(result) else { return fail(-result, writing: true) }
      zeroOtherwise(buffer)
    case .deallocate(_, let count):
      // Only a hint: blocks that cannot be deallocated keep their data.
      guard result >= 0 || StorageRequest.cannot(result) else { return fail(-result, writing: true) }
      advance(by: count, ranges)
    case .read(_, let count, _):
      // No more data where there should be: the file has become shorter.
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: false) }
      finishRead(min(UInt64(result), count), ranges, buffer.baseAddress!, comparand)
    case .write(_, let count, _, _):
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: true) }
      finishWrite(min(UInt64(result), count), ranges)
    }
  }

  /// A device that returns a status has completed all of the step or nothing.
  mutating func finishStep(
    status result: Status, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawBufferPointer,
    _ comparand: UnsafeRawPointer?
  ) {
    hasBegun = true
    guard result.isSuccess else { return handleFailure(result, ranges, buffer) }
    switch step {
    case .sync: finishSync()
    case .zero(_, let count, _), .deallocate(_, let count): advance(by: count, ranges)
    case .read(_, let count, _): finishRead(count, ranges, buffer.baseAddress!, comparand)
    case .write(_, let count, _, _): finishWrite(count, ranges)
    }
  }

  /// Replaces commands that a device does not support.
  private mutating func handleFailure(
    _ result: Status, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    switch step {
    case .zero where result.code == Status.invalidOpcode.code:
      zeroing = .writing
      clear(buffer)
    case .deallocate(_, let count)
    where result.code == Status.invalidOpcode.code || result.code == Status.commandSizeLimitExceeded.code:
      advance(by: count, ranges)
    default:
      status = result
      isDone = true
    }
  }

  /// Whether the error means that a device or file system does not support the operation.
  private static func cannot(_ result: Int32) -> Bool {
    result == -EOPNOTSUPP || result == -ENOTTY || result == -EINVAL
  }

  private var isStepDirect: Bool {
    switch step {
    case .read(_, _, let isDirect), .write(_, _, let isDirect, _): isDirect
    case .zero, .deallocate, .sync: false
    }
  }

  private mutating func zeroOtherwise(_ buffer: UnsafeMutableRawBufferPointer) {
    if zeroing == .deallocating {
      zeroing = .inPlace
    } else {
      zeroing = .writing
      clear(buffer)
    }
  }

  private func clear(_ buffer: UnsafeMutableRawBufferPointer) { memset(buffer.baseAddress!, 0, buffer.count) }

  /// Force Unit Access: data must be on the medium before it is read (NVM Command Set 1.1, 3.3.4).
  private var mustSyncFirst: Bool { forcesUnitAccess && reads && !isSynced }
  private var reads: Bool { operation == .read || operation == .compare || operation == .verify }

  private mutating func finishSync() {
    if mustSyncFirst, status.isSuccess { isSynced = true } else { isDone = true }
  }

  private mutating func finishRead(
    _ count: UInt64, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawPointer,
    _ comparand: UnsafeRawPointer?
  ) {
    if operation == .copy {
      filled += count
      return
    }
    advance(by: count, ranges)
    if isDone, operation == .compare, let comparand, memcmp(comparand, buffer, Int(ranges[0].count)) != 0 {
      status = .compareFailure
    }
  }

  private mutating func finishWrite(_ count: UInt64, _ ranges: UnsafeMutablePointer<StorageRange>) {
    guard operation == .copy else { return advance(by: count, ranges) }
    emptied += count
    guard emptied == piece else { return }
    destination += piece
    let all = piece
    (piece, filled, emptied) = (0, 0, 0)
    advance(by: all, ranges)
  }

  private mutating func advance(by count: UInt64, _ ranges: UnsafeMutablePointer<StorageRange>) {
    done += count
    guard done >= ranges[range].count else { return }
    done = 0
    range += 1
    // Data not written through is made durable at the end.
    isDone = range == rangeCount && !(forcesUnitAccess && isCached)
  }

  private mutating func fail(_ error: Int32, writing: Bool) {
    status = .of(error, writing: writing)
    isDone = true
  }
}

extension Status {
  /// The NVMe status for an operating system error.
  static func of(_ error: Int32, writing: Bool) -> Status {
    switch error {
    case ENOSPC, EDQUOT, EFBIG: .capacityExceeded
    case EROFS, EPERM, EBADF: writing ? .namespaceIsWriteProtected : .accessDenied
    case EACCES: .accessDenied
    case ENOMEM: .internalError
    default: writing ? .writeFault : .unrecoveredReadError
    }
  }
}
