import Backends
import CPlatform
import Glibc
import NVMe
import Synchronization

/// The doorbell page that one client maps. The client cannot truncate the file under the engine's polls.
final class DoorbellPage: @unchecked Sendable {
  static let size = 4096

  /// An area of a region has the same offset in the file as in the region.
  let file: Int32
  let doorbells: UnsafeMutablePointer<Atomic<UInt32>>

  /// Zero the page.
  init() throws(EndpointError) {
    let place = off_t(Register.doorbells)
    file = nvmepf_sealed_memfd("nvmepf-doorbells", UInt64(place) + UInt64(DoorbellPage.size))
    guard file >= 0 else { throw DoorbellPage.failure(-file) }
    let page = mmap(nil, DoorbellPage.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, place)
    guard let page, page != MAP_FAILED else {
      let error = errno
      close(file)
      throw DoorbellPage.failure(error)
    }
    doorbells = page.assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  deinit {
    munmap(doorbells, DoorbellPage.size)
    close(file)
  }

  private static func failure(_ error: Int32) -> EndpointError {
    EndpointError(description: "no memory for the doorbells: \(String(cString: strerror(error)))")
  }
}
