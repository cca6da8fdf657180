import Chance
@_spi(Places) import Events
import Glibc
import Testing
import Text

@testable import Trace

/// `analysis/nvpt.py` was written from the format page: where it and this reader differ, one of the three is wrong.
@Suite struct SecondReaderTests {
  let scratch = Scratch()
  private static let reader = #filePath.replacing(
    "Tests/TraceTests/SecondReaderTests.swift", with: "analysis/nvpt.py")

  private static let hasReader = ["python3", "zstd"].allSatisfy { (try? run([$0, "--version"]).status) == 0 }

  @Test(
    "The reader in Python gives the same events",
    .enabled(if: SecondReaderTests.hasReader, "needs python3 and zstd: make setup"),
    arguments: 0..<3 as Range<UInt64>)
  func sameEvents(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let recording = try Recording(scratch("t.nvpt"))
    for source in [Source.engine, .host] {
      var producer = RingProducer(try recording.ring(source), whenFull: .drop)
      var slots = randomSlots(events: 100, &random)
      // Enough of one kind for planes that are compressed and columns that repeat.
      for number in 0..<400 as Range<UInt64> {
        var record = Record(time: 200_000 + 100 * number + random.next() % 64, kind: .segment, cid: UInt16(number % 32))
        record.a = number << 12
        slots.append(record)
        slots.append(Record(time: record.time + 7, kind: .map, cid: record.cid))
      }
      producer.append(slots, draining: recording.writer)
    }
    _ = recording.writer.finish()

    let python = try run(["python3", Self.reader, recording.path])
    #expect(python.status == 0)
    #expect(python.output.split(separator: "\n").map(String.init) == (try lines(recording.path)))
  }

  private func lines(_ path: String) throws -> [String] {
    let reader = try TraceReader(path: path)
    var decoded = try DecodedChunk()
    var lines: [String] = []
    for (index, chunk) in reader.chunks.enumerated() {
      try reader.decode(index, into: &decoded)
      let slots = decoded.slots
      var slot = 0
      while slot < slots.count {
        let record = slots[slot]
        let bytes = UnsafeRawPointer(slots.baseAddress! + slot)
        let layout = try #require(reader.schema[record.kind])
        var words = ["\(chunk.header.id.stream)", "\(record.time)", layout.name]
        words += layout.fields.map { "\($0.name)=\($0.value(in: bytes))" }
        if layout.carriesBytes && record.flags & Record.carriesBytesFlag != 0 && record.bLow > 0 {
          words.append(
            UnsafeRawBufferPointer(start: bytes + 32, count: Int(record.bLow))
              .map { $0.hexDigits(2) }.joined())
        }
        lines.append(words.joined(separator: " "))
        slot += 1 + Int(record.tail)
      }
    }
    return lines
  }
}
