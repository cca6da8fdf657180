import Glibc

/// The client's memory that is mapped here. Its ranges never overlap.
struct DMATable: ~Copyable {
  private struct Entry {
    var address: UInt64
    var size: UInt64
    var base: UnsafeMutableRawPointer?
  }

  static let entriesMax = 4096
  private var entries: [Entry] = []

  deinit { for entry in entries { DMATable.release(entry) } }

  private static func release(_ entry: Entry) {
    if let base = entry.base { munmap(base, Int(entry.size)) }
  }

  /// - Parameter descriptor: shared memory; -1 for none. It is not kept.
  /// - Returns: an errno, 0 for success; and the mapping.
  mutating func map(
    address: UInt64, size: UInt64, writable: Bool, descriptor: Int32, offset: UInt64
  ) -> (Int32, DMAMapping?) {
    let pageMask: UInt64 = 4095
    guard size > 0, (address | size | offset) & pageMask == 0, size <= UInt64(Int.max),
      offset <= UInt64(Int.max) - size,
      !address.addingReportingOverflow(size - 1).overflow
    else { return (EINVAL, nil) }
    guard entries.count < DMATable.entriesMax else { return (ENOSPC, nil) }
    let last = address + (size - 1)
    guard !entries.contains(where: { $0.address <= last && address <= $0.address + ($0.size - 1) }) else {
      return (EEXIST, nil)
    }
    var base: UnsafeMutableRawPointer?
    if descriptor >= 0 {
      // Beyond the end of the file every access would be a SIGBUS.
      var status = stat()
      guard fstat(descriptor, &status) == 0, UInt64(max(0, status.st_size)) >= offset + size else {
        return (EINVAL, nil)
      }
      base = mmap(
        nil, Int(size), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, descriptor, off_t(offset))
      guard base != MAP_FAILED else { return (errno, nil) }
    }
    entries.append(Entry(address: address, size: size, base: base))
    return (0, DMAMapping(address: address, size: size, isWritable: writable, base: base))
  }

  /// Whether there is a mapping of exactly this range.
  func contains(address: UInt64, size: UInt64) -> Bool {
    entries.contains { $0.address == address && $0.size == size }
  }

  mutating func unmap(address: UInt64) {
    guard let index = entries.firstIndex(where: { $0.address == address }) else { return }
    DMATable.release(entries.remove(at: index))
  }

  var ranges: [(address: UInt64, size: UInt64)] { entries.map { ($0.address, $0.size) } }
}
