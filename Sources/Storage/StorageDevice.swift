import CUring
import Glibc

/// Why storage cannot be used: one line with the path and what to do.
public struct StorageError: Error, CustomStringConvertible, Sendable {
  public let description: String

  public init(description: String) { self.description = description }
}

/// An open regular file, block device or NVMe character device.
public final class StorageDevice: Sendable {
  public let path: String
  /// Its size.
  public let bytes: UInt64
  /// It was asked for, or there is no other way.
  public let isReadOnly: Bool
  /// Bytes of the smallest piece that it takes.
  public let logicalBlockBytes: UInt32
  /// Whether what is aligned passes the page cache by.
  public let isDirect: Bool
  public let kind: Kind

  public enum Kind: Equatable, Sendable {
    case file, blockDevice
    /// Commands are passed through to this namespace.
    case nvme(nsid: UInt32)
  }

  /// For what is aligned, and for the rest.
  let directDescriptor: Int32
  let bufferedDescriptor: Int32

  /// - Parameter buffered: through the page cache, whatever could be direct.
  public init(path: String, readOnly: Bool = false, buffered: Bool = false) throws(StorageError) {
    self.path = path
    let opened = try StorageDevice.open(path, readOnly: readOnly)
    bufferedDescriptor = opened.descriptor
    isReadOnly = opened.isReadOnly
    let facts: (kind: Kind, bytes: UInt64, blockBytes: UInt32)
    do throws(StorageError) {
      facts = try StorageDevice.inspect(path, opened.descriptor)
    } catch {
      close(opened.descriptor)
      throw error
    }
    (kind, bytes, logicalBlockBytes) = facts
    var direct: Int32 = -1
    if !buffered, kind == .file || kind == .blockDevice {
      direct = Glibc.open(path, (opened.isReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | nvmepf_open_direct())
    }
    isDirect = direct >= 0
    directDescriptor = direct >= 0 ? direct : opened.descriptor
  }

  deinit {
    if isDirect { close(directDescriptor) }
    close(bufferedDescriptor)
  }

  /// Bytes to which everything direct is aligned: what memory pages and all common devices agree on.
  static let directAlignment: UInt64 = 4096

  /// Most that one operation may move: devices that commands are passed through to have a limit that is not asked for.
  var stepBytes: UInt64 { isPassedThrough ? 128 << 10 : 1 << 30 }

  /// Whether commands are passed through: then an operation's result is an NVMe status.
  public var isPassedThrough: Bool { if case .nvme = kind { true } else { false } }

  /// The descriptor for a piece at `offset` of `count` bytes.
  func descriptor(offset: UInt64, count: UInt64) -> Int32 {
    (offset | count) % StorageDevice.directAlignment == 0 ? directDescriptor : bufferedDescriptor
  }

  private static func open(_ path: String, readOnly: Bool) throws(StorageError) -> (
    descriptor: Int32, isReadOnly: Bool
  ) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw failure(path, errno) }
    // Of a block device only one may have the use: neither a mounted file system nor another endpoint.
    let exclusive = status.st_mode & S_IFMT == S_IFBLK ? O_EXCL : 0
    if !readOnly {
      let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC | exclusive)
      if descriptor >= 0 { return (try lock(path, descriptor, LOCK_EX), false) }
      guard errno == EROFS || errno == EACCES || errno == EPERM else { throw failure(path, errno) }
    }
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(path, errno) }
    return (try lock(path, descriptor, LOCK_SH), true)
  }

  private static func lock(_ path: String, _ descriptor: Int32, _ kind: Int32) throws(StorageError) -> Int32 {
    guard flock(descriptor, kind | LOCK_NB) == 0 else {
      close(descriptor)
      throw StorageError(description: "\(path) is in use by another endpoint")
    }
    return descriptor
  }

  private static func failure(_ path: String, _ error: Int32) -> StorageError {
    let remedy =
      switch error {
      case ENOENT: "; truncate --size 1G \(path) makes one"
      case EBUSY: "; is it mounted?"
      default: ""
      }
    return StorageError(description: "cannot open \(path): \(String(cString: strerror(error)))\(remedy)")
  }

  private static func inspect(_ path: String, _ descriptor: Int32) throws(StorageError) -> (Kind, UInt64, UInt32) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      guard status.st_size > 0 else {
        throw StorageError(description: "\(path) is empty; truncate --size 1G \(path) gives it a size")
      }
      return (.file, UInt64(status.st_size), 512)
    case S_IFBLK:
      var bytes: UInt64 = 0
      var blockBytes: UInt32 = 0
      let error = nvmepf_block_device_size(descriptor, &bytes, &blockBytes)
      guard error == 0 else { throw failure(path, -error) }
      guard bytes > 0 else { throw StorageError(description: "\(path) has no medium") }
      return (.blockDevice, bytes, blockBytes)
    case S_IFCHR: return try identify(path, descriptor)
    default: throw StorageError(description: "\(path) is neither a file nor a block device nor an NVMe device")
    }
  }

  /// Size and format of the namespace behind an NVMe character device (NVM Command Set 1.1, 4.1.5.1).
  private static func identify(_ path: String, _ descriptor: Int32) throws(StorageError) -> (Kind, UInt64, UInt32) {
    var nsid: UInt32 = 0
    var data = [UInt8](repeating: 0, count: 4096)
    let result = nvmepf_nvme_identify_namespace(descriptor, &nsid, &data)
    guard result == 0 else {
      throw StorageError(
        description: "\(path) is not an NVMe namespace: "
          + (result < 0 ? String(cString: strerror(-result)) : "Identify failed with status \(result)"))
    }
    let blocks = data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    let format = 128 + 4 * Int(data[26] & 0xf)
    let metadataBytes = Int(data[format]) | Int(data[format + 1]) << 8
    let blockShift = data[format + 2]
    guard (9...16).contains(blockShift), blocks > 0, blocks <= UInt64.max >> 17 else {
      throw StorageError(description: "\(path) has a size or a format that makes no sense")
    }
    guard metadataBytes == 0 else {
      throw StorageError(
        description: "\(path) is formatted with \(metadataBytes) bytes of metadata, which are not supported")
    }
    return (.nvme(nsid: nsid), blocks << blockShift, 1 << UInt32(blockShift))
  }
}
