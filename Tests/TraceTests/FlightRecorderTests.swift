import Chance
@_spi(Places) import Events
import Glibc
import Testing

@testable import Trace

@Suite struct FlightRecorderTests {
  let scratch = Scratch()

  /// Engine events with a checkpoint every 300, and how many of them are in the file by now.
  private func record(events: Int, keepBytes: UInt64) throws -> (recording: Recording, slots: Slots) {
    var random = SeededGenerator(seed: 9)
    var options = TraceWriter.Options()
    options.keepBytes = keepBytes
    let recording = try Recording(scratch("t.nvpt"), options: options)
    var producer = RingProducer(try recording.ring(.engine), whenFull: .drop)
    var slots = Slots()
    for event in 0..<events {
      let time = UInt64(event) * 100
      if event % 300 == 0 {
        slots.append(Record(time: time, kind: .checkpoint, flags: Record.carriesBytesFlag, b: 1), [7])
      }
      appendRandom(.registerWrite, time: time, to: &slots, &random)
    }
    producer.append(slots, draining: recording.writer)
    return (recording, slots.inNanoseconds(.identity))
  }

  private func blocksUsed(_ path: String) -> Int {
    var status = stat()
    stat(path, &status)
    return Int(status.st_blocks) * 512
  }

  @Test("The newest events are kept from a checkpoint on, within the requested size")
  func keepsNewest() throws {
    let (recording, slots) = try record(events: 60_000, keepBytes: 100_000)
    let summary = recording.writer.finish()
    #expect(summary.error == nil)
    #expect(summary.bytes < 110_000)
    let reader = try TraceReader(path: recording.path)
    #expect(reader.isComplete)
    #expect(reader.totals.lost == 0)
    #expect(reader.chunks[0].header.beginsWithCheckpoint)
    #expect(reader.chunks[0].header.firstEvent > 0)
    let kept = try decodeAll(reader, stream: 0).records
    #expect(kept.count > 3000)
    #expect(kept[...] == slots.records.suffix(kept.count))
  }

  @Test("During the recording the oldest events use no disk space")
  func givesRoomBack() throws {
    let (recording, _) = try record(events: 60_000, keepBytes: 100_000)
    #expect(blocksUsed(recording.path) < 300_000)
    _ = recording.writer.finish()
  }

  @Test("A killed flight recorder's trace is readable and repairable after its hole")
  func killed() throws {
    let (recording, slots) = try record(events: 60_000, keepBytes: 100_000)
    // A kill takes the recorder's lock away.
    unlink(recording.directory.file("lock"))
    let copy = scratch("copy.nvpt")
    try #require(try run(["cp", "--sparse=always", recording.path, copy]).status == 0)
    let unfinished = try TraceReader(path: copy)
    #expect(unfinished.damage == nil)
    #expect(unfinished.chunks[0].header.firstEvent > 0)
    #expect(unfinished.totals.lost == 0)

    let report = try TraceRepair.repair(copy)
    let reader = try TraceReader(path: copy)
    #expect(reader.isComplete)
    #expect(report.chunksKept == unfinished.chunks.count)
    let kept = try decodeAll(reader, stream: 0).records
    #expect(kept[...] == slots.records.suffix(kept.count))
    _ = recording.writer.finish()
  }
}
