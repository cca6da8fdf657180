import CPlatform
import Glibc
import Testing

@testable import Trace

/// Finding chunks in damaged bytes takes work in proportion to the bytes, whatever they are. A byte may be read twice, and
/// where a header lies across the end of a window, once more.
@Suite struct ChunkSearchTests {
  let scratch = Scratch()
  private static let bytes = 4 << 20

  /// What a search finds in a trace whose header is followed by `damage`, and the bytes it read for each of the file's.
  private func search(_ damage: [UInt8]) throws -> (found: Int, factor: Double) {
    let path = scratch("t.nvpt")
    let header = TraceHeader(id: .random(), scale: .identity, startMonotonic: 0, startRealtime: 0, metadata: [])
    let encoded = try header.encoded()
    try writeFile(path, Array(encoded.bytes) + damage)
    let file = open(path, O_RDONLY)
    defer { close(file) }
    let scan = try TraceScan(file, path)
    var search = ChunkSearch(scan, from: scan.headerLength)
    var found = 0
    while try search.next() != nil { found += 1 }
    return (found, Double(search.bytesRead) / Double(damage.count))
  }

  /// The bytes of a chunk's header; without a body, its checksum is right when `isWhole`.
  private func chunk(isWhole: Bool) -> [UInt8] {
    var header = ChunkHeader(StreamID(source: .host, stream: 0), sequence: 0, firstEvent: 0, ringEnd: 1)
    (header.events, header.slots, header.bodyCRC) = (1, 1, isWhole ? 0 : 1)
    return [UInt8](unsafeUninitializedCapacity: ChunkHeader.size) { bytes, count in
      header.store(to: bytes.baseAddress!)
      count = ChunkHeader.size
    }
  }

  private func repeated(_ piece: [UInt8]) -> [UInt8] {
    Array(repeatElement(piece, count: ChunkSearchTests.bytes / piece.count).joined())
  }

  @Test("Bytes that look like the beginning of a header everywhere")
  func falseMagics() throws {
    let magic = withUnsafeBytes(of: ChunkHeader.magic.littleEndian) { Array($0) }
    let (found, factor) = try search(repeated(magic + [0, 0, 0, 0]))
    #expect(found == 0 && factor < 2.1)
  }

  @Test("Headers of chunks that are damaged")
  func damagedChunks() throws {
    let (found, factor) = try search(repeated(chunk(isWhole: false)))
    #expect(found == 0 && factor < 2.1)
  }

  @Test("The smallest chunks after a damaged one")
  func smallChunks() throws {
    let bytes = [UInt8](repeating: 0xff, count: 88) + repeated(chunk(isWhole: true))
    let (found, factor) = try search(bytes)
    #expect(found == ChunkSearchTests.bytes / ChunkHeader.size && factor < 2.1)
  }
}
