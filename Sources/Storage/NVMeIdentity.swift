import CUring
import Platform

/// Size and format of an NVMe namespace (NVM Command Set 1.1, 4.1.5.1).
struct NVMeFormat: Equatable {
  var blocks: UInt64
  /// As a power of two of bytes.
  var blockShift: UInt8
  /// Per block.
  var metadataBytes: UInt16
  /// Whether deallocated blocks read as zeros.
  var deallocatesToZeros: Bool

  /// - Parameter data: Identify Namespace.
  init(_ data: [UInt8]) {
    blocks = data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    var index = Int(data[26] & 0xf)  // FLBAS
    // With more formats than four bits can name, FLBAS has two more bits above (NLBAF is 0's based).
    if data[25] >= 16 { index |= Int(data[26] >> 5 & 3) << 4 }
    let format = 128 + 4 * index
    metadataBytes = UInt16(data[format]) | UInt16(data[format + 1]) << 8
    blockShift = data[format + 2]
    deallocatesToZeros = data[33] & 7 == 1  // DLFEAT
  }
}

/// Limits of one command of an NVMe controller (Base 2.1, 5.1.13.2.1; NVM Command Set 1.1, 4.1.5.2).
struct NVMeLimits: Equatable {
  /// Bytes of data; no request is larger than this.
  var transferBytes: UInt64 = 128 << 10
  /// Blocks of a Write Zeroes.
  var zeroBytes = UInt64.max

  /// Limits are powers of two of the controller's smallest page, which is at least this.
  private static let pageBytes: UInt64 = 4096

  /// - Parameters:
  ///   - controller: Identify Controller; nil if it failed.
  ///   - commandSet: Identify Controller of the NVM command set; nil if there is none.
  init(controller: [UInt8]?, commandSet: [UInt8]?) {
    if let mdts = controller?[77], let bytes = NVMeLimits.bytes(mdts) { transferBytes = min(transferBytes, bytes) }
    if let wzsl = commandSet?[1], let bytes = NVMeLimits.bytes(wzsl) { zeroBytes = bytes }
  }

  /// Nil for no limit.
  private static func bytes(_ shift: UInt8) -> UInt64? {
    (1...32).contains(shift) ? pageBytes << UInt64(shift) : nil
  }
}

/// Identifies the namespace of a character device.
struct NVMeIdentity {
  let nsid: UInt32
  let format: NVMeFormat
  let limits: NVMeLimits

  /// The first version whose controllers support Identify for a command set (Base 2.1, 3.1.4.2).
  private static let versionOfCommandSets: UInt32 = 0x1_04_00

  init(_ path: String, _ descriptor: Int32) throws(StorageError) {
    let id = nvmepf_nvme_namespace(descriptor)
    guard id >= 0 else {
      throw StorageError(description: "\(path) is not an NVMe namespace: \(SystemError(code: -id))")
    }
    nsid = UInt32(id)
    var data = [UInt8](repeating: 0, count: 4096)
    let result = nvmepf_nvme_identify(descriptor, nsid, 0, &data)
    guard result == 0 else {
      let why = result < 0 ? "\(SystemError(code: -result))" : "Identify failed with status \(result)"
      throw StorageError(description: "\(path) is not an NVMe namespace: \(why)")
    }
    format = NVMeFormat(data)
    let controller = nvmepf_nvme_identify(descriptor, 0, 1, &data) == 0 ? data : nil
    let version = controller?.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 80, as: UInt32.self) } ?? 0
    let knowsCommandSets = version >= NVMeIdentity.versionOfCommandSets
    let hasLimits = knowsCommandSets && nvmepf_nvme_identify(descriptor, 0, 6, &data) == 0
    limits = NVMeLimits(controller: controller, commandSet: hasLimits ? data : nil)
  }
}
