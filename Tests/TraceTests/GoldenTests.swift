@_spi(Places) import Events
import Testing
import Text

@testable import Trace

/// The bytes of the smallest trace. They change only with the format version.
@Suite struct GoldenTests {
  let scratch = Scratch()

  private func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { $0.hexDigits(2) }.joined()
  }

  @Test("The fixed part of a header has the bytes that the format page says")
  func header() throws {
    var header = TraceHeader(
      id: TraceID(high: 0x0011_2233_4455_6677, low: 0x8899_aabb_ccdd_eeff),
      scale: TickScale(start: 0x1234, multiplier: 1 << 31), startMonotonic: 5, startRealtime: 6,
      metadata: [("key", "value")])
    header.schema = TraceSchema(kinds: [KindLayout(EventKind.reset.description)])
    let buffer = try header.encoded()
    #expect(
      hexadecimal(buffer.bytes)
        == [
          "4e5650540d0a1a0a", "0100", "0100", "78000000", "7766554433221100", "ffeeddccbbaa9988", "3412000000000000",
          "0000008000000000", "0500000000000000", "0600000000000000", "00000000", "01000000", "03000000", "05000000",
          "6b6579", "76616c7565", "0100", "0a", "00", "00", "01", "05", "7265736574", "0900", "01", "00", "06",
          "726561736f6e", "0000000000", "27cc3807",
        ].joined())
  }

  @Test("A chunk has the bytes that the format page says")
  func chunk() throws {
    var slots = Slots()
    for number in 0..<3 as Range<UInt64> {
      slots.append(Record(time: 1000 + 50 * number, kind: .doorbell, qid: 1, a: number + 1, b: 40))
    }
    slots.append(Record(time: 1200, kind: .reset, flags: 2))
    let builder = ChunkBuilder(scale: .identity)
    _ = try slots.records.withUnsafeBufferPointer { try builder.append($0, slotsMax: 9, stopAtCheckpoint: false) }
    var header = ChunkHeader(StreamID(source: .host, stream: 3), sequence: 4, firstEvent: 5, ringEnd: 6)
    var file = try TraceFile(creating: scratch("chunk"))
    try ChunkEncoder().append(builder, &header, to: &file)
    #expect(
      hexadecimal(try readFile(scratch("chunk")))
        == [
          "4e565043", "0300", "02", "00", "0400000000000000", "0500000000000000", "04000000", "04000000",
          "e803000000000000",
          "b004000000000000", "0600000000000000", "0000000000000000", "00000000", "0200000000000000", "30000000",
          "eb9b2579", "bc4b6251",
          // How many events of which kind
          "02 03 03000000 0a 01000000",
          // Their order: stored
          "20 01 02 0303030a",
          // Doorbell, time: zigzag of the distance from 50
          "22 21 3200000000000000 02 630000",
          // Flags: all 0
          "00",
          // Qid: all 1
          "01 01",
          // Value: differences, all 1
          "21 21 00 02",
          // Poll: all 40
          "01 28",
          // Reset, time: 100
          "01 64",
          // Reason: 2
          "01 02",
          // Zeros up to a multiple of 8
          "000000",
        ].joined().filter { $0 != " " })
  }
}
