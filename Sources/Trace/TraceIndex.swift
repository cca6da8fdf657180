import CPlatform
import Glibc

/// A chunk and its position in the file.
public struct ChunkPlace: Equatable, Sendable {
  /// Bytes from the beginning of the file.
  public let offset: UInt64
  public let header: ChunkHeader
  /// Offset of the first byte after the chunk.
  public var end: UInt64 { offset + header.length }
}

/// The end of a closed trace: the index of its chunks, and the footer that locates the index.
enum TraceIndex {
  static let magic: UInt32 = 0x4950_564e  // "NVPI"
  static let footerMagic: UInt32 = 0x4550_564e  // "NVPE"
  static let headerSize = 16
  static let entrySize = 8 + ChunkHeader.size
  static let footerSize = 64
  /// An index of this many chunks fits into memory several times over.
  static let chunksMax = 1 << 21

  /// Contents of the footer in addition to the index.
  struct Footer {
    var indexOffset: UInt64
    var indexLength: UInt64
    /// Nil if a repair closed the trace.
    var end: ClockSnapshot?
  }

  /// Bytes of index and footer.
  static func length(chunks: Int) -> Int { headerSize + chunks * entrySize + footerSize }

  static func encoded(_ chunks: [ChunkPlace], at offset: UInt64, end: ClockSnapshot?) -> ByteBuffer {
    let length = headerSize + chunks.count * entrySize
    var buffer = ByteBuffer(capacity: length + footerSize)
    buffer.append(magic)
    buffer.append(UInt32(0))
    buffer.append(UInt64(chunks.count))
    for chunk in chunks {
      buffer.append(chunk.offset)
      buffer.reserve(ChunkHeader.size)
      chunk.header.store(to: buffer.end)
      buffer.advance(ChunkHeader.size)
    }
    buffer.set(nvmepf_crc32c(0, buffer.base + 8, length - 8), at: 4)
    buffer.append(footerMagic)
    buffer.append(UInt32(0))
    buffer.append(offset)
    buffer.append(UInt64(length))
    buffer.append(end?.ticks ?? 0)
    buffer.append(end?.monotonic ?? 0)
    buffer.append(end?.realtime ?? 0)
    buffer.append(UInt64(end == nil ? 1 : 0))
    buffer.append(UInt32(0))
    buffer.append(nvmepf_crc32c(0, buffer.base + length, footerSize - 4))
    return buffer
  }

  /// - Returns: nil if these are not the last bytes of a closed trace.
  static func footer(_ bytes: UnsafeRawBufferPointer) -> Footer? {
    guard bytes.count == footerSize,
      bytes.loadUnaligned(fromByteOffset: footerSize - 4, as: UInt32.self)
        == nvmepf_crc32c(0, bytes.baseAddress, footerSize - 4),
      bytes.loadUnaligned(as: UInt32.self) == footerMagic
    else { return nil }
    func word(_ offset: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    let end = ClockSnapshot(ticks: word(24), monotonic: word(32), realtime: word(40))
    return Footer(indexOffset: word(8), indexLength: word(16), end: word(48) & 1 == 0 ? end : nil)
  }

  /// The chunks of an index, in file order.
  /// - Returns: nil if it is damaged or locates chunks outside `range`.
  static func chunks(_ bytes: UnsafeRawBufferPointer, within range: Range<UInt64>) -> [ChunkPlace]? {
    guard bytes.count >= headerSize, bytes.loadUnaligned(as: UInt32.self) == magic,
      bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
        == nvmepf_crc32c(0, bytes.baseAddress! + 8, bytes.count - 8)
    else { return nil }
    let count = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    guard count <= UInt64(chunksMax), bytes.count == headerSize + Int(count) * entrySize else { return nil }
    var chunks: [ChunkPlace] = []
    chunks.reserveCapacity(Int(count))
    var position = range.lowerBound
    for number in 0..<Int(count) {
      let entry = UnsafeRawBufferPointer(rebasing: bytes[(headerSize + number * entrySize)...])
      let offset = entry.loadUnaligned(as: UInt64.self)
      guard offset >= position, offset <= range.upperBound,
        let header = ChunkHeader(UnsafeRawBufferPointer(rebasing: entry.dropFirst(8))),
        header.length <= range.upperBound - offset
      else { return nil }
      position = offset + header.length
      chunks.append(ChunkPlace(offset: offset, header: header))
    }
    return chunks
  }
}

extension TraceError {
  static func tooManyChunks(_ path: String) -> TraceError {
    TraceError(.system(EFBIG), "\(path): a trace has at most \(TraceIndex.chunksMax) chunks")
  }
}
