import CPlatform
import Glibc

/// The client's memory that is mapped in this process. Its ranges never overlap.
struct DMATable: ~Copyable {
  private struct Entry {
    var address: UInt64
    var size: UInt64
    /// Its mapping; empty if the client gave no descriptor.
    var mapping: UnsafeMutableRawBufferPointer
  }

  static let entriesMax = 4096
  private var entries: [Entry] = []

  deinit { for entry in entries { DMATable.release(entry) } }

  private static func release(_ entry: Entry) {
    if let base = entry.mapping.baseAddress { munmap(base, entry.mapping.count) }
  }

  /// - Parameter descriptor: shared memory; -1 for none. The caller keeps it.
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
    var mapping = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    if descriptor >= 0 {
      let error = DMATable.map(descriptor, offset, size, writable, &mapping)
      guard error == 0 else { return (error, nil) }
      base = mapping.baseAddress! + Int(offset % nvmepf_mapping_alignment(descriptor))
    }
    entries.append(Entry(address: address, size: size, mapping: mapping))
    return (0, DMAMapping(address: address, size: size, isWritable: writable, base: base, mapping: mapping))
  }

  /// Map a piece of a file, extended to whole pages of the file.
  /// - Returns: an errno, 0 for success.
  private static func map(
    _ descriptor: Int32, _ offset: UInt64, _ size: UInt64, _ writable: Bool,
    _ mapping: inout UnsafeMutableRawBufferPointer
  ) -> Int32 {
    // Any access beyond the end of the file would be a SIGBUS.
    var status = stat()
    guard fstat(descriptor, &status) == 0, UInt64(max(0, status.st_size)) >= offset + size else { return EINVAL }
    // If another program or machine supplies the pages, an access could block for ever.
    let alignment = nvmepf_mapping_alignment(descriptor)
    guard alignment > 0 else { return EOPNOTSUPP }
    let begin = offset / alignment * alignment
    let count = (offset + size - begin + alignment - 1) / alignment * alignment
    let access = writable ? PROT_READ | PROT_WRITE : PROT_READ
    let base = mmap(nil, Int(count), access, MAP_SHARED, descriptor, off_t(begin))
    guard let base, base != MAP_FAILED else { return errno }
    mapping = UnsafeMutableRawBufferPointer(start: base, count: Int(count))
    return 0
  }

  /// Whether there is a mapping of exactly this range.
  func contains(address: UInt64, size: UInt64) -> Bool {
    entries.contains { $0.address == address && $0.size == size }
  }

  mutating func unmap(address: UInt64) {
    guard let index = entries.firstIndex(where: { $0.address == address }) else { return }
    DMATable.release(entries.remove(at: index))
  }

  /// Whether the client shares any of its memory.
  var isShared: Bool { entries.contains { $0.mapping.baseAddress != nil } }

  var ranges: [(address: UInt64, size: UInt64)] { entries.map { ($0.address, $0.size) } }
}
