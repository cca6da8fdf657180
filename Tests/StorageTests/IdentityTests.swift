import Foundation
import Glibc
import Testing

@testable import Storage

@Suite("Identities of devices")
struct IdentityTests {
  /// Identify Namespace with its formats: metadata and block shift.
  private func identity(_ flbas: UInt8, formats: Int, _ format: Int, metadata: UInt16, shift: UInt8) -> [UInt8] {
    var data = [UInt8](repeating: 0, count: 4096)
    data[0] = 100
    data[25] = UInt8(formats - 1)
    data[26] = flbas
    data[128 + 4 * format] = UInt8(metadata & 0xff)
    data[128 + 4 * format + 1] = UInt8(metadata >> 8)
    data[128 + 4 * format + 2] = shift
    return data
  }

  @Test("NVM 4.1.5.1: FLBAS names the format with six bits where there are more than sixteen, else with four")
  func findsFormat() {
    let few = NVMeFormat(identity(0x63, formats: 4, 3, metadata: 0, shift: 12))
    #expect(few.blocks == 100 && few.blockShift == 12 && few.metadataBytes == 0)
    let many = NVMeFormat(identity(0x43, formats: 64, 0x23, metadata: 0x108, shift: 9))
    #expect(many.blockShift == 9 && many.metadataBytes == 0x108)
    let extended = NVMeFormat(identity(0x11, formats: 17, 1, metadata: 8, shift: 12))
    #expect(extended.blockShift == 12 && extended.metadataBytes == 8, "bit 4 is where the metadata lies")
  }

  @Test("NVM 4.1.5.1: only DLFEAT 001b promises zeros")
  func findsDeallocation() {
    for (dlfeat, isZero) in [(0, false), (1, true), (2, false), (8, false), (9, true)] as [(UInt8, Bool)] {
      var data = identity(0, formats: 1, 0, metadata: 0, shift: 9)
      data[33] = dlfeat
      #expect(NVMeFormat(data).deallocatesToZeros == isZero)
    }
  }

  @Test("Base 5.1.13.2.1: MDTS and WZSL limit commands, 0 does not")
  func findsLimits() {
    func limits(mdts: UInt8, wzsl: UInt8) -> NVMeLimits {
      var (controller, commandSet) = ([UInt8](repeating: 0, count: 4096), [UInt8](repeating: 0, count: 4096))
      (controller[77], commandSet[1]) = (mdts, wzsl)
      return NVMeLimits(controller: controller, commandSet: commandSet)
    }
    #expect(limits(mdts: 0, wzsl: 0) == NVMeLimits(controller: nil, commandSet: nil))
    #expect(limits(mdts: 4, wzsl: 8).transferBytes == 64 << 10)
    #expect(limits(mdts: 9, wzsl: 8).transferBytes == 128 << 10)
    #expect(limits(mdts: 4, wzsl: 8).zeroBytes == 1 << 20)
    #expect(limits(mdts: 255, wzsl: 255) == NVMeLimits(controller: nil, commandSet: nil))
  }

  /// A folder as sysfs has it.
  private func withFolder(_ files: [String: String], _ body: (String) throws -> Void) throws {
    let root = NSTemporaryDirectory() + "/nvmepf-sysfs-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: root) }
    for (name, text) in files {
      let url = URL(fileURLWithPath: "\(root)/\(name)")
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    }
    try body(root)
  }

  @Test("metadata and protection information of a block device are found, a partition's on its disk")
  func findsProtection() throws {
    try withFolder(["a/integrity/format": "T10-DIF-TYPE1-CRC\n", "a/a1/partition": "1\n"]) { root in
      #expect(DeviceFolder(path: root + "/a").protection == "T10-DIF-TYPE1-CRC")
      #expect(DeviceFolder(path: root + "/a/a1").protection == "T10-DIF-TYPE1-CRC")
    }
    try withFolder(["a/integrity/format": "none\n", "a/metadata_bytes": "8\n", "b/metadata_bytes": "0\n", "c/dev": ""])
    {
      root in
      #expect(DeviceFolder(path: root + "/a").protection == "8 bytes of metadata")
      #expect(DeviceFolder(path: root + "/b").protection == nil)
      #expect(DeviceFolder(path: root + "/c").protection == nil)
    }
  }

  @Test("the block device beside an NVMe character device is found, if there is one")
  func findsBlockDevice() throws {
    try withFolder(["nvme0/ng0n1/dev": "", "nvme0/nvme0n1/dev": "", "nvme0/ng0n2/dev": ""]) { root in
      #expect(DeviceFolder(path: root + "/nvme0/ng0n1").blockDevice == "/dev/nvme0n1")
      #expect(DeviceFolder(path: root + "/nvme0/ng0n2").blockDevice == nil)
      #expect(DeviceFolder(path: root + "/nvme0/nvme0n1").blockDevice == nil)
    }
  }
}
