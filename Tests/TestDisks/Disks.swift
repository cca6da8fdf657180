import Foundation
import Glibc

/// A file system of its own, where that is allowed; it goes with its last file.
public final class MountedFileSystem {
  public let path: String

  public init?(_ type: String, _ options: String = "") {
    path = NSTemporaryDirectory() + "/nvmepf-mount-\(UUID().uuidString)"
    guard mkdir(path, 0o700) == 0, mount(type, path, type, 0, options) == 0 else {
      rmdir(path)
      return nil
    }
  }

  deinit {
    umount2(path, Int32(MNT_DETACH))
    rmdir(path)
  }
}

/// A block device on a file, where that is allowed.
public final class LoopDevice {
  public let path: String

  public init?(_ file: String) {
    guard let output = run("losetup", "--find", "--show", file), output.hasPrefix("/dev/") else { return nil }
    path = output
  }

  deinit { _ = run("losetup", "--detach", path) }
}

/// An ext4 in a file of a directory, whose writes can be made to hang, where that is allowed.
public final class FreezableFileSystem {
  public let path: String
  private var isFrozen = false

  public init?(in directory: String) {
    path = directory + "/mounted"
    let image = directory + "/image"
    guard mkdir(path, 0o700) == 0, creat(image, 0o600) >= 0, truncate(image, 16 << 20) == 0,
      run("mkfs.ext4", "-q", image) != nil, run("mount", "-o", "loop", image, path) != nil
    else { return nil }
  }

  deinit {
    thaw()
    umount2(path, Int32(MNT_DETACH))
  }

  public func freeze() -> Bool {
    isFrozen = run("fsfreeze", "--freeze", path) != nil
    return isFrozen
  }

  public func thaw() {
    if isFrozen, run("fsfreeze", "--unfreeze", path) != nil { isFrozen = false }
  }
}

/// - Returns: what it printed; nil where it failed.
private func run(_ command: String...) -> String? {
  let pipe = Pipe()
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["PATH=/usr/sbin:/sbin:/usr/bin:/bin"] + command
  process.standardOutput = pipe
  process.standardError = FileHandle.nullDevice
  guard (try? process.run()) != nil else { return nil }
  let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  return process.terminationStatus == 0 ? output.trimmingCharacters(in: .whitespacesAndNewlines) : nil
}
