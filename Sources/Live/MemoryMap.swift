import NVMe

/// The host's memory as the controller can reach it: ranges of PCI addresses and where they lie in this process.
///
/// One thread owns it. Ranges never overlap; a lookup that hits the same range as the one before costs two compares.
struct MemoryMap: ~Copyable {
  struct Range: BitwiseCopyable {
    var address: UInt64
    var length: UInt64
    /// nil where the host gave no descriptor: nothing is reachable there.
    var base: UnsafeMutableRawPointer?
    var writable: Bool
  }

  /// More than a guest's memory map ever needs.
  static let rangesMax = 4096

  private var ranges: UnsafeMutablePointer<Range>
  private(set) var count = 0
  private var recent = 0

  init() { ranges = .allocate(capacity: MemoryMap.rangesMax) }

  deinit { ranges.deallocate() }

  /// - Returns: false when the range is empty, wraps, overlaps another, or the map is full.
  mutating func add(_ range: Range) -> Bool {
    guard range.length > 0, range.address.addingReportingOverflow(range.length - 1).overflow == false,
      count < MemoryMap.rangesMax
    else { return false }
    for index in 0..<count where overlap(ranges[index], range) { return false }
    (ranges + count).initialize(to: range)
    count += 1
    return true
  }

  private func overlap(_ a: Range, _ b: Range) -> Bool {
    a.address <= b.address + (b.length - 1) && b.address <= a.address + (a.length - 1)
  }

  /// Forget every range that begins within the given one.
  mutating func remove(address: UInt64, length: UInt64) {
    var kept = 0
    for index in 0..<count {
      let start = ranges[index].address
      if start >= address && start - address < length { continue }
      ranges[kept] = ranges[index]
      kept += 1
    }
    count = kept
    recent = 0
  }

  mutating func removeAll() {
    count = 0
    recent = 0
  }

  /// Where `length` bytes at `address` lie, all of them in one range; nil where they cannot be reached.
  @inline(__always)
  mutating func translate(_ address: PCIAddress, _ length: Int, forWriting: Bool) -> UnsafeMutableRawPointer? {
    if recent < count, let found = ranges[recent].translate(address.rawValue, length, forWriting) { return found }
    return search(address, length, forWriting)
  }

  @inline(never)
  private mutating func search(_ address: PCIAddress, _ length: Int, _ forWriting: Bool) -> UnsafeMutableRawPointer? {
    for index in 0..<count {
      if let found = ranges[index].translate(address.rawValue, length, forWriting) {
        recent = index
        return found
      }
    }
    return nil
  }
}

extension MemoryMap.Range {
  @inline(__always)
  func translate(_ address: UInt64, _ count: Int, _ forWriting: Bool) -> UnsafeMutableRawPointer? {
    let offset = address &- self.address
    guard offset < length, UInt64(count) <= length &- offset, writable || !forWriting, let base else { return nil }
    return base + Int(offset)
  }
}
