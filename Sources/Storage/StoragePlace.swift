import CPlatform
import Glibc

/// A file or device that was looked at and not yet opened: opening what is no storage could wait for ever, or do
/// something (a FIFO, a tape, a file of the kernel's).
struct StoragePlace: ~Copyable {
  let path: String
  let isBlockDevice: Bool
  /// Leads to the very file that was looked at, whatever the path means later.
  private let descriptor: Int32

  /// - Throws: where it is not storage.
  init(_ path: String) throws(StorageError) {
    self.path = path
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
    self.descriptor = descriptor
    isBlockDevice = kind == S_IFBLK
  }

  deinit { close(descriptor) }

  static func refusal(_ path: String) -> StorageError {
    StorageError(
      description: "\(path) is no storage: name a file on a file system, a block device or an NVMe device (/dev/ng0n1)")
  }

  /// O_PATH, which Glibc does not show.
  private static let pathOnly: Int32 = nvmepf_open_path()

  /// - Returns: a descriptor, or a negative errno. It never waits, not even for a lease on the file.
  func open(_ flags: Int32) -> Int32 {
    let opened = Glibc.open("/proc/self/fd/\(descriptor)", flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard opened >= 0 else { return -errno }
    // io_uring would fail with EAGAIN instead of waiting for the device.
    _ = fcntl(opened, F_SETFL, fcntl(opened, F_GETFL) & ~O_NONBLOCK)
    return opened
  }
}
