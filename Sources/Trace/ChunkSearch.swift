/// Finds the intact chunks in damaged bytes, from first to last. It reads a byte at most twice, once to find headers and
/// once to check what a header spans, so its time is proportional to the size of the file, whatever the file holds.
struct ChunkSearch: ~Copyable {
  private static let windowBytes = 1 << 20

  private let scan: TraceScan
  /// Where the next chunk may begin.
  private var position: UInt64
  /// Bytes of the file from `windowStart`, in which headers are found.
  private var window = ByteBuffer(capacity: windowBytes)
  private var windowStart: UInt64 = 0
  private var body = ByteBuffer(capacity: windowBytes)
  /// Bytes that were read so far, the measure of the work.
  private(set) var bytesRead: UInt64 = 0

  /// - Parameter start: where the damaged bytes begin.
  init(_ scan: TraceScan, from start: UInt64) {
    self.scan = scan
    // Chunks begin at multiples of eight.
    position = (start + 7) & ~7
    body.advance(ChunkSearch.windowBytes)
  }

  /// - Returns: nil when there is none up to the end of the file.
  mutating func next() throws(TraceError) -> ChunkPlace? {
    while position < scan.size, scan.size - position >= UInt64(ChunkHeader.size) {
      guard try hasHeader() else { return nil }
      let start = Int(position - windowStart)
      let bytes = UnsafeRawBufferPointer(rebasing: window.bytes[start...])
      guard let header = ChunkHeader(bytes), header.length <= scan.size - position else {
        position += ChunkSearch.distanceToMagic(bytes)
        continue
      }
      let place = ChunkPlace(offset: position, header: header)
      bytesRead += header.length
      // The header's checksum vouches for the length: where the body is damaged, all that the header spans is.
      position = place.end
      if scan.bodyIsWhole(place, &body) { return place }
    }
    return nil
  }

  /// Have the window hold a whole header's bytes at `position`.
  /// - Returns: false when the file became shorter.
  private mutating func hasHeader() throws(TraceError) -> Bool {
    let windowEnd = windowStart + UInt64(window.count)
    if position >= windowStart, position < windowEnd, windowEnd - position >= UInt64(ChunkHeader.size) { return true }
    let count = Int(min(UInt64(ChunkSearch.windowBytes), scan.size - position))
    window.removeAll()
    window.advance(count)
    windowStart = position
    bytesRead += UInt64(count)
    return try readFully(scan.descriptor, window.base, count, at: position, path: scan.path)
  }

  /// Bytes from the first of `bytes` to the next place where a header can begin.
  private static func distanceToMagic(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var offset = 8
    while offset + 8 <= bytes.count, bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self) != ChunkHeader.magic {
      offset += 8
    }
    return UInt64(offset)
  }
}
