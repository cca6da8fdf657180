import CPlatform
import CUring
import Glibc
import Platform
import Synchronization

/// Why storage cannot be used: one line with the path and a remedy.
public struct StorageError: Error, CustomStringConvertible, Sendable {
  public let description: String
  /// The process or the system has run out of file descriptors.
  public let isOutOfDescriptors: Bool

  public init(description: String, isOutOfDescriptors: Bool = false) {
    self.description = description
    self.isOutOfDescriptors = isOutOfDescriptors
  }
}

/// An open regular file, block device or NVMe character device.
public final class StorageDevice: Sendable {
  public let path: String
  /// Size in bytes.
  public let bytes: UInt64
  /// Requested, or the only possibility.
  public let isReadOnly: Bool
  /// Bytes of its smallest unit.
  public let logicalBlockBytes: UInt32
  public let kind: Kind

  /// How its blocks are accessed.
  public enum Kind: Equatable, Sendable {
    case file, blockDevice
    /// Passthrough to this namespace.
    case nvme(nsid: UInt32)
  }

  /// For aligned operations, and for the rest.
  let directDescriptor: Int32
  let bufferedDescriptor: Int32
  /// Holds the block device of an NVMe character device, to prevent mounting it; -1 for none.
  private let claim: Int32
  let access: StorageAccess
  /// Its file system may block the submitter of an operation, as a file system in user space does.
  let mayBlock: Bool
  /// Written data may be lost.
  private let lostWrites = Atomic<Bool>(false)

  /// - Parameter buffered: use the page cache, even if direct I/O is possible.
  public init(path: String, readOnly: Bool = false, buffered: Bool = false) throws(StorageError) {
    self.path = path
    let place = try StoragePlace(path)
    let opened = try StorageDevice.open(place, readOnly: readOnly)
    bufferedDescriptor = opened.descriptor
    isReadOnly = opened.isReadOnly
    var access: StorageAccess
    let direct: Int32
    do throws(StorageError) {
      (kind, bytes, logicalBlockBytes, access) = try StorageDevice.inspect(path, opened.descriptor)
      let isClaimed = access.isPassedThrough && !opened.isReadOnly
      claim = isClaimed ? try StorageDevice.claim(path, opened.descriptor) : -1
      direct = buffered || access.isPassedThrough ? -1 : try StorageDevice.openDirect(place, opened.isReadOnly)
    } catch {
      close(opened.descriptor)
      throw error
    }
    access.isDirect = direct >= 0
    mayBlock = !nvmepf_never_blocks(opened.descriptor)
    self.access = access
    directDescriptor = direct >= 0 ? direct : opened.descriptor
  }

  deinit {
    let descriptors = [isDirect ? directDescriptor : -1, claim, bufferedDescriptor].filter { $0 >= 0 }
    let close: @Sendable () -> Void = { for descriptor in descriptors { Glibc.close(descriptor) } }
    // A file system that does not answer must not block the removal of a namespace.
    if mayBlock { WorkerThread.runDetached(name: "nvmepf-close", close) } else { close() }
  }

  /// Whether aligned operations bypass the page cache.
  public var isDirect: Bool { access.isDirect }

  /// Whether commands are passed through; an operation's result is then an NVMe status.
  public var isPassedThrough: Bool { access.isPassedThrough }

  /// Whether deallocating has an effect: deallocated blocks must read as zeros.
  public var canDeallocate: Bool { access.deallocatesToZeros }

  // MARK: Errors that stay

  /// Whether written data failed to reach the medium: durability can no longer be promised.
  var hasLostWrites: Bool { lostWrites.load(ordering: .relaxed) }

  /// The kernel reports a write-back error only once; a later sync succeeds. So the first failure makes all later syncs
  /// fail.
  /// - Parameter result: result of a sync by the kernel; a device with passthrough reports for itself.
  /// - Returns: the result of the sync.
  func settleSync(_ result: Int32) -> Int32 {
    if result == -EINTR || result == -EAGAIN || isPassedThrough { return result }
    if result < 0 { lostWrites.store(true, ordering: .relaxed) }
    return result >= 0 && hasLostWrites ? -EIO : result
  }

  // MARK: Opening

  private static func open(_ place: borrowing StoragePlace, readOnly: Bool) throws(StorageError) -> (
    descriptor: Int32, isReadOnly: Bool
  ) {
    let path = place.path
    // A block device allows only one user: neither a mounted file system nor another endpoint.
    let exclusive = place.isBlockDevice ? O_EXCL : 0
    if !readOnly {
      let descriptor = place.open(O_RDWR | exclusive)
      if descriptor >= 0 { return (try lock(path, descriptor, LOCK_EX), false) }
      guard -descriptor == EROFS || -descriptor == EACCES || -descriptor == EPERM else {
        throw failure(path, -descriptor)
      }
    }
    let descriptor = place.open(O_RDONLY)
    guard descriptor >= 0 else { throw failure(path, -descriptor) }
    return (try lock(path, descriptor, LOCK_SH), true)
  }

  /// - Returns: -1 if only the page cache can access it.
  private static func openDirect(_ place: borrowing StoragePlace, _ isReadOnly: Bool) throws(StorageError) -> Int32 {
    let descriptor = place.open((isReadOnly ? O_RDONLY : O_RDWR) | nvmepf_open_direct())
    // Out of descriptors: fail, rather than silently use the page cache.
    guard -descriptor != EMFILE && -descriptor != ENFILE else { throw failure(place.path, -descriptor) }
    return max(descriptor, -1)
  }

  private static func lock(_ path: String, _ descriptor: Int32, _ kind: Int32) throws(StorageError) -> Int32 {
    guard flock(descriptor, kind | LOCK_NB) == 0 else {
      close(descriptor)
      throw StorageError(description: "\(path) is in use by another endpoint")
    }
    return descriptor
  }

  /// Open the block device of an NVMe character device exclusively, as mounting it would.
  private static func claim(_ path: String, _ descriptor: Int32) throws(StorageError) -> Int32 {
    var status = stat()
    guard fstat(descriptor, &status) == 0,
      let block = DeviceFolder(status.st_rdev, isBlock: false)?.blockDevice
    else { return -1 }
    let claim = Glibc.open(block, O_RDONLY | O_CLOEXEC | O_EXCL)
    guard claim >= 0 || errno != EMFILE && errno != ENFILE else { throw failure(block, errno) }
    guard claim >= 0 || errno != EBUSY else {
      throw StorageError(description: "cannot open \(path): \(block) is in use; is it mounted?")
    }
    return claim
  }

  static func failure(_ path: String, _ error: Int32) -> StorageError {
    let remedy =
      switch error {
      case ENOENT where !isSystemPath(path): "; truncate --size 1G \(path) makes one"
      case EBUSY: "; is it mounted?"
      case EMFILE: "; each needs two of them, and ulimit -Hn sets how many there are"
      default: ""
      }
    return StorageError(
      description: "cannot open \(path): \(SystemError(code: error))\(remedy)",
      isOutOfDescriptors: error == EMFILE || error == ENFILE)
  }

  /// A name in /dev is not created as a file.
  private static func isSystemPath(_ path: String) -> Bool {
    ["/dev/", "/proc/", "/sys/"].contains { path.hasPrefix($0) } && !path.hasPrefix("/dev/shm/")
  }

  private typealias Facts = (kind: Kind, bytes: UInt64, blockBytes: UInt32, access: StorageAccess)

  private static func inspect(_ path: String, _ descriptor: Int32) throws(StorageError) -> Facts {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      guard status.st_size > 0 else {
        throw StorageError(description: "\(path) is empty; truncate --size 1G \(path) gives it a size")
      }
      return (.file, UInt64(status.st_size), 512, StorageAccess())
    case S_IFBLK: return try inspectBlockDevice(path, descriptor, status.st_rdev)
    case S_IFCHR: return try identify(path, descriptor)
    default: throw StoragePlace.refusal(path)
    }
  }

  private static func inspectBlockDevice(_ path: String, _ descriptor: Int32, _ device: dev_t) throws(StorageError)
    -> Facts
  {
    var bytes: UInt64 = 0
    var blockBytes: UInt32 = 0
    let error = nvmepf_block_device_size(descriptor, &bytes, &blockBytes)
    guard error == 0 else { throw failure(path, -error) }
    guard bytes > 0 else { throw StorageError(description: "\(path) has no medium") }
    if let protection = DeviceFolder(device, isBlock: true)?.protection {
      throw unsupported(path, "metadata or protection information (\(protection))")
    }
    return (.blockDevice, bytes, blockBytes, StorageAccess())
  }

  private static func identify(_ path: String, _ descriptor: Int32) throws(StorageError) -> Facts {
    let identity = try NVMeIdentity(path, descriptor)
    let format = identity.format
    guard (9...16).contains(format.blockShift), format.blocks > 0, format.blocks <= UInt64.max >> 17 else {
      throw StorageError(description: "\(path) has an invalid size or format")
    }
    guard format.metadataBytes == 0 else { throw unsupported(path, "\(format.metadataBytes) bytes of metadata") }
    return (
      .nvme(nsid: identity.nsid), format.blocks << format.blockShift, 1 << UInt32(format.blockShift),
      StorageAccess(format, identity.limits)
    )
  }

  private static func unsupported(_ path: String, _ format: String) -> StorageError {
    StorageError(description: "\(path) is formatted with \(format), which is not supported")
  }
}
