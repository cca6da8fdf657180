import CPlatform
import Glibc

/// A file or device that was examined but not opened: opening something that is not storage could block or have effects
/// (a FIFO, a tape, a kernel file).
struct StoragePlace: ~Copyable {
  let path: String
  let isBlockDevice: Bool
  /// Refers to the examined file, whatever the path means later.
  private let descriptor: Int32

  /// - Throws: if it is not storage.
  init(_ path: String) throws(StorageError) {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | StoragePlace.pathOnly)
    guard descriptor >= 0 else { throw StorageDevice.failure(path, errno) }
    var status = stat()
    let isThere = fstat(descriptor, &status) == 0
    let kind = status.st_mode & S_IFMT
    let isStorage =
      switch kind {
      case S_IFREG: nvmepf_is_stored(descriptor)
      case S_IFBLK: true
      case S_IFCHR: DeviceFolder(status.st_rdev, isBlock: false)?.isNVMeNamespace ?? false
      default: false
      }
    guard isThere, isStorage else {
      close(descriptor)
      throw StoragePlace.refusal(path)
    }
    self.path = path
    self.descriptor = descriptor
    isBlockDevice = kind == S_IFBLK
  }

  deinit { close(descriptor) }

  static func refusal(_ path: String) -> StorageError {
    StorageError(
      description: "\(path) is not storage; use a file on a file system, a block device or an NVMe device (/dev/ng0n1)")
  }

  /// O_PATH, which Glibc does not export to Swift.
  private static let pathOnly: Int32 = nvmepf_open_path()

  /// - Returns: a descriptor, or a negative errno. It never blocks, not even on a lease of the file.
  func open(_ flags: Int32) -> Int32 {
    let opened = Glibc.open("/proc/self/fd/\(descriptor)", flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard opened >= 0 else { return -errno }
    // io_uring would fail with EAGAIN instead of waiting for the device.
    _ = fcntl(opened, F_SETFL, fcntl(opened, F_GETFL) & ~O_NONBLOCK)
    return opened
  }
}
