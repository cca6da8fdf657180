import CPlatform
import Glibc
import Text

/// The content of a trace file: from its index if it was closed, else chunk by chunk up to the first incomplete one.
struct TraceScan {
  let header: TraceHeader
  let headerLength: UInt64
  let size: UInt64
  private(set) var chunks: [ChunkPlace] = []
  /// There is a valid index.
  private(set) var isComplete = false
  /// The clocks when the trace was closed; nil if it was not, or by a repair.
  private(set) var end: ClockSnapshot?
  private(set) var damage: TraceError?
  let descriptor: Int32
  let path: String

  init(_ descriptor: Int32, _ path: String) throws(TraceError) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw TraceError.system("cannot read \(path)", errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw TraceError(.notATrace, "\(path) is not a file") }
    (self.descriptor, self.path, size) = (descriptor, path, UInt64(status.st_size))
    (header, headerLength) = try TraceScan.header(descriptor, path)
    if try readIndex() { return }
    try scan()
  }

  static func damaged(_ path: String, chunk index: Int, at offset: UInt64, _ error: Malformed) -> TraceError {
    let before =
      switch index {
      case 0: "there is no chunk before it"
      case 1: "1 chunk before it is intact"
      default: "\(Quantity.count(index)) chunks before it are intact"
      }
    return TraceError(
      .damaged,
      "\(path): chunk \(Quantity.count(index + 1)) at byte \(Quantity.count(offset)) \(error.what); "
        + "\(before): nvmepf repair \(path)")
  }

  static func header(_ descriptor: Int32, _ path: String) throws(TraceError) -> (TraceHeader, UInt64) {
    var buffer = ByteBuffer(count: TraceHeader.fixedLength)
    guard try readFully(descriptor, buffer.base, TraceHeader.fixedLength, at: 0, path: path) else {
      throw TraceError(.notATrace, "\(path) is not a trace of nvmepf")
    }
    let length = try TraceHeader.length(buffer.bytes, path: path)
    buffer.resize(to: length)
    guard try readFully(descriptor, buffer.base, length, at: 0, path: path) else {
      throw TraceError(.damaged, "\(path): the header is truncated, and nothing follows it")
    }
    return (try TraceHeader(buffer.bytes, path: path), UInt64(length))
  }

  private mutating func readIndex() throws(TraceError) -> Bool {
    let footerSize = UInt64(TraceIndex.footerSize)
    guard size >= headerLength + footerSize else { return false }
    var buffer = ByteBuffer(count: TraceIndex.footerSize)
    guard try readFully(descriptor, buffer.base, buffer.count, at: size - footerSize, path: path),
      let footer = TraceIndex.footer(buffer.bytes), footer.indexOffset >= headerLength,
      footer.indexLength <= UInt64(TraceIndex.headerSize + TraceIndex.chunksMax * TraceIndex.entrySize),
      footer.indexOffset <= size, size - footer.indexOffset == footer.indexLength + footerSize
    else { return false }
    buffer.resize(to: Int(footer.indexLength))
    guard try readFully(descriptor, buffer.base, buffer.count, at: footer.indexOffset, path: path),
      let chunks = TraceIndex.chunks(buffer.bytes, within: headerLength..<footer.indexOffset)
    else { return false }
    (self.chunks, end, isComplete) = (chunks, footer.end, true)
    return true
  }

  private mutating func scan() throws(TraceError) {
    var position = try firstChunk()
    var buffer = ByteBuffer(count: 1 << 20)
    while position < size {
      do throws(Malformed) {
        guard chunks.count < TraceIndex.chunksMax else { throw Malformed("is one too many") }
        guard size - position >= UInt64(ChunkHeader.size),
          (try? readFully(descriptor, buffer.base, ChunkHeader.size, at: position, path: path)) == true
        else { throw Malformed("is truncated") }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer.bytes.prefix(ChunkHeader.size))
        guard let header = ChunkHeader(bytes) else {
          if bytes.load(as: UInt32.self) == TraceIndex.magic {
            damage = TraceError(
              .damaged,
              "\(path): the index at byte \(Quantity.count(position)) is damaged; all "
                + "\(Quantity.count(chunks.count)) chunks before it are intact: nvmepf repair \(path)")
            return
          }
          throw Malformed("fails its checksum")
        }
        guard header.length <= size - position else { throw Malformed("is truncated") }
        let place = ChunkPlace(offset: position, header: header)
        guard bodyIsWhole(place, &buffer) else { throw Malformed("fails its checksum") }
        chunks.append(place)
        position = place.end
      } catch {
        damage = TraceScan.damaged(path, chunk: chunks.count, at: position, error)
        return
      }
    }
  }

  /// Position of the first chunk: after the header, and after the hole that a flight recorder left there.
  func firstChunk() throws(TraceError) -> UInt64 {
    if !header.isFlightRecorder { return headerLength }
    var position = headerLength
    let buffer = ByteBuffer(count: 4096)
    while position < size {
      let data = nvmepf_next_data(descriptor, position)
      if data < 0 { return data == -Int64(ENXIO) ? size : headerLength }
      position = max(position, UInt64(data) & ~7)
      let count = Int(min(4096, size - position))
      guard try readFully(descriptor, buffer.base, count, at: position, path: path) else { return size }
      if let used = UnsafeRawBufferPointer(rebasing: buffer.bytes.prefix(count)).firstIndex(where: { $0 != 0 }) {
        return position + UInt64(used & ~7)
      }
      position += UInt64(count)
    }
    return size
  }

  func bodyIsWhole(_ place: ChunkPlace, _ buffer: inout ByteBuffer) -> Bool {
    var crc: UInt32 = 0
    var position = place.offset + UInt64(ChunkHeader.size)
    while position < place.end {
      let count = Int(min(UInt64(buffer.count), place.end - position))
      guard (try? readFully(descriptor, buffer.base, count, at: position, path: path)) == true else { return false }
      crc = nvmepf_crc32c(crc, buffer.base, count)
      position += UInt64(count)
    }
    return crc == place.header.bodyCRC
  }
}
