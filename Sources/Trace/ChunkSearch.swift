/// Finds the intact chunks in damaged bytes, from first to last. It reads each byte at most twice, to find headers and
/// to check chunks, so its time is proportional to the size of the file, whatever its content.
struct ChunkSearch: ~Copyable {
  private static let windowBytes = 1 << 20

  private let scan: TraceScan
  /// Earliest position of the next chunk.
  private var position: UInt64
  /// Bytes of the file from `windowStart`, searched for headers.
  private var window = ByteBuffer(capacity: windowBytes)
  private var windowStart: UInt64 = 0
  private var body = ByteBuffer(count: windowBytes)
  /// Bytes read so far, a measure of the work.
  private(set) var bytesRead: UInt64 = 0

  /// - Parameter start: start of the damaged bytes.
  init(_ scan: TraceScan, from start: UInt64) {
    self.scan = scan
    // Chunks begin at multiples of eight.
    position = (start + 7) & ~7
  }

  /// - Returns: nil if there is none up to the end of the file.
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
      // The header's checksum guarantees its length: if the body is damaged, so is the whole chunk.
      position = place.end
      if scan.bodyIsWhole(place, &body) { return place }
    }
    return nil
  }

  /// Read a whole header at `position` into the window.
  /// - Returns: false if the file has become shorter.
  private mutating func hasHeader() throws(TraceError) -> Bool {
    let windowEnd = windowStart + UInt64(window.count)
    if position >= windowStart, position < windowEnd, windowEnd - position >= UInt64(ChunkHeader.size) { return true }
    let count = Int(min(UInt64(ChunkSearch.windowBytes), scan.size - position))
    window.resize(to: count)
    windowStart = position
    bytesRead += UInt64(count)
    return try readFully(scan.descriptor, window.base, count, at: position, path: scan.path)
  }

  /// Distance from the start of `bytes` to the next possible header.
  private static func distanceToMagic(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var offset = 8
    while offset + 8 <= bytes.count, bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self) != ChunkHeader.magic {
      offset += 8
    }
    return UInt64(offset)
  }
}
