import Glibc
import NVMe

/// One operation for the kernel.
enum StorageStep: BitwiseCopyable, Equatable {
  /// `isDirect`: aligned, so that it can pass the page cache by.
  case read(offset: UInt64, count: UInt64, isDirect: Bool)
  /// `isThrough`: on the medium when it is done.
  case write(offset: UInt64, count: UInt64, isDirect: Bool, isThrough: Bool)
  case zero(offset: UInt64, count: UInt64, deallocates: Bool)
  case deallocate(offset: UInt64, count: UInt64)
  /// Of a range; of everything where it is empty.
  case sync(offset: UInt64, count: UInt64)

  static let syncAll = StorageStep.sync(offset: 0, count: 0)
}

/// How blocks become zero. What a device cannot do is tried the next way; the last is always possible.
private enum Zeroing: BitwiseCopyable {
  case deallocating, inPlace, writing
}

/// A request on its way: which step is next, and what the one before has brought.
struct StorageRequest: BitwiseCopyable {
  var operation = StorageOperation.flush
  var device: Unmanaged<StorageDevice>?
  var rangeCount = 0
  /// Of a copy: where the next bytes go.
  var destination: UInt64 = 0
  var forcesUnitAccess = false

  var isInFlight = false
  var isAbandoned = false
  var isDone = false
  var status = Status.success
  /// The request whose buffer holds what a comparison has read; -1 for none.
  var twin: Int32 = -1

  /// An operation of it has ended.
  private(set) var hasBegun = false
  /// The range that is being worked on, and how much of it is done.
  private var range = 0
  private var done: UInt64 = 0
  /// Of a copy: bytes of the piece in the buffer, how many of them are read, how many written.
  private var piece: UInt64 = 0
  private var filled: UInt64 = 0
  private var emptied: UInt64 = 0
  private var zeroing = Zeroing.inPlace
  /// The file system wants more alignment than is common.
  private var avoidsDirect = false
  /// A write was not through: with Force Unit Access it is made durable at its end.
  private var isCached = false
  private var isSynced = false
  private(set) var step = StorageStep.syncAll
  /// Where the step's data lie in the buffer.
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

  /// What goes through the page cache is synchronised by a step of its own: an error of data written before, which the
  /// kernel tells of once, must not be taken for one of this write.
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

  /// Of what the request is about, where that is one range.
  private func syncOwn(_ ranges: UnsafeMutablePointer<StorageRange>) -> StorageStep {
    guard reads || operation == .write else { return .syncAll }
    return .sync(offset: ranges[0].offset, count: ranges[0].count)
  }

  // MARK: What it has brought

  /// - Parameter result: bytes, or a negative errno.
  mutating func take(
    _ result: Int32, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawBufferPointer,
    _ twin: UnsafeRawPointer?
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
      takeSync()
    case .zero(_, let count, _):
      if result >= 0 { return advance(by: count, ranges) }
      guard StorageRequest.cannot(result) else { return fail(-result, writing: true) }
      zeroOtherwise(buffer)
    case .deallocate(_, let count):
      // A hint: what cannot be deallocated keeps its data.
      guard result >= 0 || StorageRequest.cannot(result) else { return fail(-result, writing: true) }
      advance(by: count, ranges)
    case .read(_, let count, _):
      // Nothing more where there should be: the file has become shorter.
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: false) }
      takeRead(min(UInt64(result), count), ranges, buffer.baseAddress!, twin)
    case .write(_, let count, _, _):
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: true) }
      takeWritten(min(UInt64(result), count), ranges)
    }
  }

  /// A device that answers with a status has done all of the step or nothing.
  mutating func take(
    status result: Status, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawBufferPointer,
    _ twin: UnsafeRawPointer?
  ) {
    hasBegun = true
    guard result.isSuccess else { return takeFailure(result, ranges, buffer) }
    switch step {
    case .sync: takeSync()
    case .zero(_, let count, _), .deallocate(_, let count): advance(by: count, ranges)
    case .read(_, let count, _): takeRead(count, ranges, buffer.baseAddress!, twin)
    case .write(_, let count, _, _): takeWritten(count, ranges)
    }
  }

  /// Commands that a device need not have are had here.
  private mutating func takeFailure(
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

  /// Whether the error says that a device or file system does not have the operation.
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

  /// What is read with Force Unit Access is on the medium before (NVM Command Set 1.1, 3.3.4).
  private var mustSyncFirst: Bool { forcesUnitAccess && reads && !isSynced }
  private var reads: Bool { operation == .read || operation == .compare || operation == .verify }

  private mutating func takeSync() {
    if mustSyncFirst, status.isSuccess { isSynced = true } else { isDone = true }
  }

  private mutating func takeRead(
    _ count: UInt64, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawPointer,
    _ twin: UnsafeRawPointer?
  ) {
    if operation == .copy {
      filled += count
      return
    }
    advance(by: count, ranges)
    if isDone, operation == .compare, let twin, memcmp(twin, buffer, Int(ranges[0].count)) != 0 {
      status = .compareFailure
    }
  }

  private mutating func takeWritten(_ count: UInt64, _ ranges: UnsafeMutablePointer<StorageRange>) {
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
    // What was not through is made durable at its end.
    isDone = range == rangeCount && !(forcesUnitAccess && isCached)
  }

  private mutating func fail(_ error: Int32, writing: Bool) {
    status = .of(error, writing: writing)
    isDone = true
  }
}

extension Status {
  /// What an error of the operating system is to a host.
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
