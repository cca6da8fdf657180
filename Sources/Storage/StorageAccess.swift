/// Limits of one operation of a device.
struct StorageAccess: Equatable, Sendable {
  /// Alignment of direct I/O in bytes, valid for memory pages and all common devices.
  static let alignment: UInt64 = 4096
  /// Maximum blocks of an NVMe command with a range of its own.
  private static let commandBlocks: UInt64 = 1 << 16

  /// Its operations are NVMe commands.
  var isPassedThrough = false
  /// Aligned operations can bypass the page cache.
  var isDirect = false
  /// Maximum bytes per transfer.
  var stepBytes: UInt64 = 1 << 30
  /// Maximum bytes per zero operation.
  var zeroBytes: UInt64 = 1 << 30
  /// Maximum bytes per deallocate operation.
  var deallocateBytes: UInt64 = 1 << 62
  /// Whether deallocated blocks read as zeros; if not they must not be deallocated, since hosts are promised zeros.
  var deallocatesToZeros = true

  init() {}

  /// For a namespace with passthrough.
  init(_ format: NVMeFormat, _ limits: NVMeLimits) {
    let blockBytes: UInt64 = 1 << UInt64(format.blockShift)
    isPassedThrough = true
    stepBytes = max(limits.transferBytes, blockBytes)
    zeroBytes = max(min(limits.zeroBytes, StorageAccess.commandBlocks * blockBytes), blockBytes)
    deallocateBytes = UInt64(UInt32.max) * blockBytes
    deallocatesToZeros = format.deallocatesToZeros
  }
}
