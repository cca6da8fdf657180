import CPlatform
import NVMe

/// The host memory accessible to the controller: ranges of PCI addresses and their addresses in this process.
///
/// One thread owns it. Ranges never overlap; a lookup in the same range as the previous one costs two compares.
///
/// The host can remove its memory by truncating it. On a thread that called `guardThread` such an access fails, and so
/// does every later one until all ranges are removed.
struct MemoryMap: ~Copyable {
  typealias Range = nvmepf_range

  /// More ranges than any guest's memory map needs.
  static let rangesMax = 4096

  private var ranges: UnsafeMutablePointer<Range>
  private(set) var count = 0 { didSet { guarded.pointee.count = count } }
  private var recent = 0
  private let guarded: UnsafeMutablePointer<nvmepf_guard>

  init() {
    ranges = .allocate(capacity: MemoryMap.rangesMax)
    guarded = .allocate(capacity: 1)
    guarded.initialize(to: nvmepf_guard(ranges: ranges, count: 0, is_lost: false))
  }

  deinit {
    nvmepf_guard_thread(nil)
    guarded.deallocate()
    ranges.deallocate()
  }

  /// Catch this thread's accesses to memory that is gone. Called by the thread that uses the map until it ends.
  func guardThread() { nvmepf_guard_thread(guarded) }

  /// Whether an access found its memory gone.
  @inline(__always)
  var isLost: Bool { nvmepf_is_lost(guarded) }

  /// - Returns: false if the range is empty, wraps, overlaps another, or the map is full.
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

  /// Remove every range that begins within the given one.
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
    if kept == 0 { guarded.pointee.is_lost = false }
  }

  /// The address of `length` bytes at `address`, all in one range; nil if they are not accessible.
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

  // MARK: What may lie in several ranges

  /// Copy bytes from host memory, once.
  /// - Returns: false if not all of them are accessible: nothing was copied, or the copy is invalid.
  @inline(__always)
  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawPointer, count: Int) -> Bool {
    guard let source = translate(address, count, forWriting: false) else {
      return forEachPiece(address, count, forWriting: false) { source, offset, count in
        (bytes + offset).copyMemory(from: source, byteCount: count)
      }
    }
    bytes.copyMemory(from: source, byteCount: count)
    return !isLost
  }

  /// Copy bytes to host memory.
  /// - Returns: false if not all of them are accessible.
  @inline(__always)
  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawPointer, count: Int) -> Bool {
    guard let target = translate(address, count, forWriting: true) else {
      return forEachPiece(address, count, forWriting: true) { target, offset, count in
        target.copyMemory(from: bytes + offset, byteCount: count)
      }
    }
    target.copyMemory(from: bytes, byteCount: count)
    return !isLost
  }

  /// Whether all of the bytes are accessible.
  @inline(__always)
  mutating func reaches(_ address: PCIAddress, count: Int, forWriting: Bool) -> Bool {
    translate(address, count, forWriting: forWriting) != nil
      || forEachPiece(address, count, forWriting: forWriting) { _, _, _ in }
  }

  /// Adjacent ranges behave as one: hosts use memory across the boundaries of their mappings.
  @inline(never)
  private mutating func forEachPiece(
    _ address: PCIAddress, _ count: Int, forWriting: Bool,
    _ body: (_ place: UnsafeMutableRawPointer, _ offset: Int, _ count: Int) -> Void
  ) -> Bool {
    // Check all of it before copying anything.
    for moves in [false, true] {
      var offset = 0
      while offset < count {
        let begin = address.rawValue &+ UInt64(offset)
        guard begin >= address.rawValue, let place = translate(PCIAddress(begin), 1, forWriting: forWriting) else {
          return false
        }
        let rest = ranges[recent].length - (begin - ranges[recent].address)
        let length = Int(min(rest, UInt64(count - offset)))
        if moves { body(place, offset, length) }
        offset += length
      }
    }
    return !isLost
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
