import Glibc

/// Identifies a file and its state.
struct FileIdentity: Hashable {
  private let device: UInt64
  private let inode: UInt64
  private let size: Int64
  private let changed: Int
  private let changedNs: Int
  let owner: uid_t

  private init(_ status: stat) {
    (device, inode, size) = (UInt64(status.st_dev), UInt64(status.st_ino), Int64(status.st_size))
    (changed, changedNs) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
    owner = status.st_uid
  }

  init?(_ descriptor: Int32) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return nil }
    self.init(status)
  }

  init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  /// Whether both paths lead to one file; true if either cannot be examined.
  static func isSame(_ first: String, _ second: String) -> Bool {
    guard let first = FileIdentity(path: first), let second = FileIdentity(path: second) else { return true }
    return first.device == second.device && first.inode == second.inode
  }
}
