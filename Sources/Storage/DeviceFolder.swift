import CUring
import Glibc
import Platform

/// A device's attributes in sysfs.
struct DeviceFolder {
  /// With symbolic links resolved.
  let path: String

  init(path: String) { self.path = path }

  /// - Returns: nil without sysfs.
  init?(_ device: dev_t, isBlock: Bool) {
    let path = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { bytes in
      nvmepf_device_folder(UInt64(device), isBlock, bytes.baseAddress!)
      return String(cString: bytes.baseAddress!)
    }
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    self.init(path: String(cString: resolved))
  }

  /// The kind of metadata or protection information stored with the blocks; nil for none.
  var protection: String? {
    // A partition inherits it from its disk.
    let format = line("integrity/format") ?? line("../integrity/format")
    if let format, format != "none" { return format }
    if let bytes = line("metadata_bytes"), bytes != "0" { return "\(bytes) bytes of metadata" }
    return nil
  }

  /// Whether it is the character device of an NVMe namespace.
  var isNVMeNamespace: Bool {
    guard let slash = path.lastIndex(of: "/") else { return false }
    return path[slash...].hasPrefix("/ng") && access("\(path)/uevent", F_OK) == 0
  }

  /// The block device of the NVMe character device that this directory describes: nvme0n1 for ng0n1.
  var blockDevice: String? {
    guard let slash = path.lastIndex(of: "/"), path[slash...].hasPrefix("/ng") else { return nil }
    let name = "nvme" + path[slash...].dropFirst("/ng".count)
    return access("\(path[..<slash])/\(name)", F_OK) == 0 ? "/dev/\(name)" : nil
  }

  /// The first line of a file in it.
  private func line(_ name: String) -> String? {
    readText("\(path)/\(name)")?.split(separator: "\n").first.map(String.init)
  }
}
