/// What a device takes in one operation.
struct StorageAccess: Equatable, Sendable {
  /// Bytes to which everything direct is aligned: what memory pages and all common devices agree on.
  static let alignment: UInt64 = 4096
  /// Blocks that one NVMe command with a range of its own can name.
  private static let commandBlocks: UInt64 = 1 << 16

  /// Its operations are NVMe commands.
  var isPassedThrough = false
  /// What is aligned can pass the page cache by.
  var isDirect = false
  /// Most that it moves.
  var stepBytes: UInt64 = 1 << 30
  /// Most that it makes zero.
  var zeroBytes: UInt64 = 1 << 30
  /// Most that it deallocates.
  var deallocateBytes: UInt64 = 1 << 62
  /// Whether deallocated blocks read as zeros; else they must not be deallocated, for hosts are told that they do.
  var deallocatesToZeros = true

  init() {}

  /// Of a namespace that commands are passed through to.
  init(_ format: NVMeFormat, _ limits: NVMeLimits) {
    let blockBytes: UInt64 = 1 << UInt64(format.blockShift)
    isPassedThrough = true
    stepBytes = max(limits.transferBytes, blockBytes)
    zeroBytes = max(min(limits.zeroBytes, StorageAccess.commandBlocks * blockBytes), blockBytes)
    deallocateBytes = UInt64(UInt32.max) * blockBytes
    deallocatesToZeros = format.deallocatesToZeros
  }
}
