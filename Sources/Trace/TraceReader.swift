import CPlatform
import Glibc

/// Reads a trace. Nothing in the file is trusted, and memory stays within what one chunk may need.
public final class TraceReader {
  /// A chunk and where its body lies.
  public struct Chunk: Sendable {
    public let header: ChunkHeader
    /// Of its header in the file.
    public let offset: UInt64
  }

  public let path: String
  public let header: TraceHeader
  public private(set) var chunks: [Chunk] = []
  /// The file was closed: it has an index, and all of it is there.
  public private(set) var isComplete = false
  /// What is wrong behind the last of `chunks`.
  public private(set) var damage: TraceError?
  /// Bytes of the file.
  public let bytes: UInt64
  /// Bytes up to the end of the last whole chunk.
  public private(set) var intactBytes: UInt64

  let schema: Schema
  private let descriptor: Int32

  public init(path: String) throws(TraceError) {
    self.path = path
    // A pipe must be refused, not waited for.
    descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system("cannot read \(path)", errno) }
    do throws(TraceError) {
      (header, schema, bytes, intactBytes) = try TraceReader.readHeader(descriptor, path)
    } catch {
      close(descriptor)
      throw error
    }
    if !readIndex() { scan() }
  }

  deinit { close(descriptor) }

  private static func read(_ descriptor: Int32, _ offset: UInt64, _ count: Int) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: count)
    var filled = 0
    while filled < count {
      let got = buffer.withUnsafeMutableBytes {
        pread(descriptor, $0.baseAddress! + filled, count - filled, off_t(offset) + off_t(filled))
      }
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { return nil }
      filled += got
    }
    return buffer
  }

  private static func readHeader(_ descriptor: Int32, _ path: String) throws(TraceError) -> (
    TraceHeader, Schema, UInt64, UInt64
  ) {
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw TraceError(.notATrace, "\(path) is not a file: name a trace that nvmepf record wrote")
    }
    guard let start = read(descriptor, 0, 16), start.integer(at: 0, as: UInt64.self) == Format.magic else {
      throw TraceError(.notATrace, "\(path) is not a trace of nvmepf")
    }
    let (major, minor): (UInt16, UInt16) = (start.integer(at: 8), start.integer(at: 10))
    guard major > 0 else { throw TraceError(.damaged, "\(path): the header, at byte 0, is damaged") }
    guard major == Format.major else {
      throw TraceError(
        .tooNew, "\(path) was written by a newer nvmepf (format \(major).\(minor)); this one reads \(Format.major).x")
    }
    let count = Int(start.integer(at: 12, as: UInt32.self))
    guard count >= 20, count <= Format.headerBytesMax, let whole = read(descriptor, 0, count),
      checksum(Array(whole[..<(count - 4)])) == whole.integer(at: count - 4, as: UInt32.self)
    else { throw TraceError(.damaged, "\(path): the header, at byte 0, is damaged") }
    do throws(TraceError) {
      let result = Result { () throws(TraceError) in
        try whole[16..<(count - 4)].withContiguousBytes { (bytes) throws(TraceError) in try TraceHeader.decode(bytes) }
      }
      let (header, schema) = try result.get()
      guard header.ticksPerSecond > 0 else { throw TraceError(.damaged, "its clock stands still") }
      return (header, schema, UInt64(status.st_size), UInt64(count))
    } catch {
      throw TraceError(.damaged, "\(path): the header, at byte 0, is damaged: \(error.description)")
    }
  }

  // MARK: Finding the chunks

  private func readIndex() -> Bool {
    guard bytes >= intactBytes + UInt64(Format.footerBytes + 12),
      let footer = TraceReader.read(descriptor, bytes - UInt64(Format.footerBytes), Format.footerBytes),
      footer.integer(at: 8, as: UInt64.self) == Format.footerMagic
    else { return false }
    let start = footer.integer(at: 0, as: UInt64.self)
    guard start >= intactBytes, start <= bytes - UInt64(Format.footerBytes) - 12,
      bytes - start - UInt64(Format.footerBytes) <= 1 << 28,
      let index = TraceReader.read(descriptor, start, Int(bytes - start) - Format.footerBytes),
      index.integer(at: 0, as: UInt32.self) == Format.indexMagic
    else { return false }
    let count = Int(index.integer(at: 4, as: UInt32.self))
    guard index.count == 12 + 8 * count,
      checksum(Array(index[..<(index.count - 4)])) == index.integer(at: index.count - 4, as: UInt32.self)
    else { return false }
    var found: [Chunk] = []
    var previousEnd = intactBytes
    for place in 0..<count {
      let offset: UInt64 = index.integer(at: 8 + 8 * place)
      guard offset >= previousEnd, let chunk = readChunk(at: offset), end(of: chunk) <= start else { return false }
      found.append(chunk)
      previousEnd = end(of: chunk)
    }
    chunks = found
    intactBytes = start
    isComplete = true
    return true
  }

  private func readChunk(at offset: UInt64) -> Chunk? {
    guard offset >= 16, offset <= bytes, bytes - offset >= UInt64(ChunkHeader.size),
      let start = TraceReader.read(descriptor, offset, ChunkHeader.size), let header = ChunkHeader(start),
      bytes - offset - UInt64(ChunkHeader.size) >= UInt64(header.bodyBytes)
    else { return nil }
    return Chunk(header: header, offset: offset)
  }

  private func end(of chunk: Chunk) -> UInt64 {
    chunk.offset + UInt64(ChunkHeader.size) + UInt64(chunk.header.bodyBytes)
  }

  /// Chunk by chunk, as far as they are whole: the file was not closed, or its end is gone.
  private func scan() {
    var offset = pastHoles(intactBytes)
    while offset < bytes {
      if isIndex(at: offset) { break }
      guard let chunk = readChunk(at: offset) else {
        damage = damaged(chunks.count, offset, "is cut short or damaged")
        return
      }
      guard body(of: chunk) != nil else {
        damage = damaged(chunks.count, offset, "fails its checksum")
        return
      }
      chunks.append(chunk)
      offset = end(of: chunk)
      intactBytes = offset
    }
    damage = TraceError(
      .damaged, "\(path): the recording was not closed after chunk \(chunks.count): nvmepf repair \(path)")
  }

  private func isIndex(at offset: UInt64) -> Bool {
    TraceReader.read(descriptor, offset, 4)?.integer(at: 0, as: UInt32.self) == Format.indexMagic
  }

  /// A flight recorder that was killed leaves holes where its oldest chunks were.
  private func pastHoles(_ offset: UInt64) -> UInt64 {
    var place = offset
    while place < bytes {
      let count = Int(min(1 << 16, bytes - place))
      guard let piece = TraceReader.read(descriptor, place, count) else { return place }
      if let nonzero = piece.firstIndex(where: { $0 != 0 }) { return place + UInt64(nonzero) }
      place += UInt64(count)
    }
    return place
  }

  private func damaged(_ number: Int, _ offset: UInt64, _ how: String) -> TraceError {
    TraceError(
      .damaged,
      "\(path): chunk \(number) at byte \(offset) \(how); \(number) chunks before it are intact: nvmepf repair \(path)")
  }

  // MARK: Contents

  /// The bytes of a chunk's body; nil when they fail their checksum.
  func body(of chunk: Chunk) -> [UInt8]? {
    guard
      let body = TraceReader.read(
        descriptor, chunk.offset + UInt64(ChunkHeader.size), Int(chunk.header.bodyBytes)),
      checksum(body) == chunk.header.bodyChecksum
    else { return nil }
    return body
  }

  /// The events of a chunk, times in nanoseconds; they stay valid until the decoder's next call.
  public func decode(_ number: Int, with decoder: ChunkDecoder) throws(TraceError) -> UnsafeBufferPointer<Record> {
    let chunk = chunks[number]
    guard let body = body(of: chunk) else { throw damaged(number, chunk.offset, "fails its checksum") }
    do throws(TraceError) {
      return try body[...].withContiguousBytes { (bytes) throws(TraceError) in
        try decoder.decode(bytes, chunk.header, schema)
      }
    } catch {
      throw damaged(number, chunk.offset, "cannot be decoded: \(error.description)")
    }
  }

  public struct Totals: Sendable {
    public var events: UInt64 = 0
    public var commands: UInt64 = 0
    public var lost: UInt64 = 0
    public var sources: [Source] = []
  }

  public var totals: Totals {
    var totals = Totals()
    for chunk in chunks {
      totals.events &+= UInt64(chunk.header.events)
      totals.commands &+= chunk.header.commands
      totals.lost &+= chunk.header.lost
      if !totals.sources.contains(chunk.header.source) { totals.sources.append(chunk.header.source) }
    }
    return totals
  }

  /// A stream: who saw it, its number, and which of several by the same number it is.
  public struct StreamID: Hashable, Sendable {
    public let source: Source
    public let stream: UInt16
  }

  /// The streams, and the numbers of their chunks in order.
  public var streams: [(id: StreamID, chunks: [Int])] {
    var order: [StreamID] = []
    var byStream: [StreamID: [Int]] = [:]
    for (number, chunk) in chunks.enumerated() {
      let id = StreamID(source: chunk.header.source, stream: chunk.header.stream)
      if byStream[id] == nil { order.append(id) }
      byStream[id, default: []].append(number)
    }
    return order.map { ($0, byStream[$0]!) }
  }

  /// The chunks of a stream, one at each call; nil at the end. They stay valid until the next call.
  public func source(of chunks: [Int]) -> () throws(TraceError) -> UnsafeBufferPointer<Record>? {
    let decoder = ChunkDecoder()
    var next = 0
    return { () throws(TraceError) in
      guard next < chunks.count else { return nil }
      next += 1
      return try self.decode(chunks[next - 1], with: decoder)
    }
  }
}

extension ArraySlice<UInt8> {
  /// Like `withUnsafeBytes`, with a typed error.
  func withContiguousBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try withUnsafeBytes { bytes in
      Swift.Result { () throws(Failure) in try body(bytes) }
    }.get()
  }
}

func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { nvmepf_crc32c(0, bytes.baseAddress, bytes.count) }
