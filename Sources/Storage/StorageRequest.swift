import Glibc
import NVMe

/// One operation for the kernel.
enum StorageStep: BitwiseCopyable {
  case read(offset: UInt64, count: UInt64)
  case write(offset: UInt64, count: UInt64, through: Bool)
  case zero(offset: UInt64, count: UInt64, deallocates: Bool)
  case sync
}

extension StorageStep {
  /// The first bytes of it, where it is longer.
  func atMost(_ limit: UInt64) -> StorageStep {
    switch self {
    case .read(let offset, let count): .read(offset: offset, count: min(count, limit))
    case .write(let offset, let count, let through): .write(offset: offset, count: min(count, limit), through: through)
    case .zero(let offset, let count, let deallocates):
      .zero(offset: offset, count: min(count, limit), deallocates: deallocates)
    case .sync: .sync
    }
  }
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

  /// The range that is being worked on, and how much of it is done.
  private var range = 0
  private var done: UInt64 = 0
  /// Of a copy: bytes of the piece in the buffer, how many of them are read, how many written.
  private var piece: UInt64 = 0
  private var filled: UInt64 = 0
  private var emptied: UInt64 = 0
  /// The device cannot zero by itself: the buffer holds zeros to write.
  private var writesZeros = false
  private var isSynced = false
  private var step = StorageStep.sync
  /// Where the step's data lie in the buffer.
  private(set) var bufferOffset: UInt64 = 0

  init() {}

  init(
    operation: StorageOperation, device: Unmanaged<StorageDevice>, rangeCount: Int, destination: UInt64,
    forcesUnitAccess: Bool
  ) {
    self.operation = operation
    self.device = device
    self.rangeCount = rangeCount
    self.destination = destination
    self.forcesUnitAccess = forcesUnitAccess
  }

  // MARK: The next step

  /// - Parameter stepBytes: most that one operation may move.
  mutating func nextStep(_ ranges: UnsafeMutablePointer<StorageRange>, bufferBytes: UInt64, stepBytes: UInt64)
    -> StorageStep
  {
    step = chooseStep(ranges, bufferBytes: bufferBytes).atMost(stepBytes)
    return step
  }

  private mutating func chooseStep(_ ranges: UnsafeMutablePointer<StorageRange>, bufferBytes: UInt64) -> StorageStep {
    guard status.isSuccess, operation != .flush, range < rangeCount else {
      return .sync
    }
    if mustSyncFirst { return .sync }
    let offset = ranges[range].offset + done
    let left = ranges[range].count - done
    bufferOffset = 0
    switch operation {
    case .read, .compare:
      bufferOffset = done
      return .read(offset: offset, count: left)
    case .write:
      bufferOffset = done
      return .write(offset: offset, count: left, through: forcesUnitAccess)
    case .verify: return .read(offset: offset, count: min(left, bufferBytes))
    case .writeZeroes, .deallocate:
      guard writesZeros else { return .zero(offset: offset, count: left, deallocates: operation == .deallocate) }
      return .write(offset: offset, count: min(left, bufferBytes), through: false)
    case .copy:
      if piece == 0 { piece = min(left, bufferBytes) }
      guard filled == piece else {
        bufferOffset = filled
        return .read(offset: offset + filled, count: piece - filled)
      }
      bufferOffset = emptied
      return .write(offset: destination + emptied, count: piece - emptied, through: false)
    case .flush: return .sync
    }
  }

  // MARK: What it has brought

  /// - Parameter result: bytes, or a negative errno.
  mutating func take(
    _ result: Int32, _ ranges: UnsafeMutablePointer<StorageRange>, bufferBytes: UInt64,
    _ buffer: UnsafeMutableRawPointer, _ twin: UnsafeRawPointer?
  ) {
    if result == -EINTR || result == -EAGAIN { return }
    switch step {
    case .sync:
      if result < 0 { fail(-result, writing: true) }
      takeSync()
    case .zero(_, let count, _):
      if result == -EOPNOTSUPP || result == -ENOTTY || result == -EINVAL {
        writesZeros = true
        memset(buffer, 0, Int(bufferBytes))
      } else if result < 0 {
        fail(-result, writing: true)
      } else {
        advance(by: count, ranges)
      }
    case .read(_, let count):
      // Nothing more where there should be: the file has become shorter.
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: false) }
      takeRead(min(UInt64(result), count), ranges, buffer, twin)
    case .write(_, let count, _):
      guard result > 0 else { return fail(result < 0 ? -result : EIO, writing: true) }
      takeWritten(min(UInt64(result), count), ranges)
    }
  }

  /// A device that answers with a status has done all of the step or nothing.
  mutating func take(
    status result: Status, _ ranges: UnsafeMutablePointer<StorageRange>, _ buffer: UnsafeMutableRawPointer,
    _ twin: UnsafeRawPointer?
  ) {
    guard result.isSuccess else {
      status = result
      isDone = true
      return
    }
    switch step {
    case .sync: takeSync()
    case .zero(_, let count, _): advance(by: count, ranges)
    case .read(_, let count): takeRead(count, ranges, buffer, twin)
    case .write(_, let count, _): takeWritten(count, ranges)
    }
  }

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
    // A write has been through already; what else changes the device is made durable at its end.
    let mustSync = forcesUnitAccess && operation != .write && !reads
    isDone = range == rangeCount && !mustSync
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
