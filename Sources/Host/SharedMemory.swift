import CPlatform
import Glibc
import Platform

/// Memory accessible to the device, at the PCI address that equals its address in this process.
public final class SharedMemory: @unchecked Sendable {
  public let base: UnsafeMutableRawPointer
  /// Size in bytes, whole pages.
  public let count: Int
  let descriptor: Int32

  static let pageBytes = 4096

  /// At least `count` bytes of zeros.
  init(count: Int) throws(HostError) {
    let rounded = max(count, 1).addingReportingOverflow(SharedMemory.pageBytes - 1)
    guard !rounded.overflow else { throw HostError("no \(count) bytes of memory can be shared") }
    self.count = rounded.partialValue & ~(SharedMemory.pageBytes - 1)
    let descriptor = nvmepf_memfd("nvmepf-host")
    guard descriptor >= 0 else { throw HostError("cannot create shared memory: \(SystemError(code: -descriptor))") }
    guard ftruncate(descriptor, off_t(self.count)) == 0,
      let base = mmap(nil, self.count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else {
      let error = errno
      close(descriptor)
      throw HostError("cannot make \(count) bytes of shared memory: \(SystemError(code: error))")
    }
    self.base = base
    self.descriptor = descriptor
  }

  deinit {
    munmap(base, count)
    close(descriptor)
  }

  /// The PCI address at which the device sees it: the same as the virtual address.
  public var address: UInt64 { UInt64(UInt(bitPattern: base)) }
}
