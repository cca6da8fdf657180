import Chance
@_spi(Places) import Events
import Testing

@testable import Trace

@Suite struct SelectionTests {
  private let scratch = Scratch()

  /// Eight chunks with a checkpoint and 500 doorbells of one queue each, a microsecond apart; another stream with events
  /// in between.
  private func recording() throws -> TraceReader {
    let recording = try Recording(scratch("t.nvpt"))
    var engine = RingProducer(try recording.ring(.engine, capacity: 1 << 14), whenFull: .drop)
    var host = RingProducer(try recording.ring(.host), whenFull: .drop)
    var slots = Slots()
    for chunk in 0..<8 as Range<UInt64> {
      let begin = chunk * 500_000
      slots.append(Record(time: begin, kind: .checkpoint, flags: Record.carriesBytesFlag, b: 5), [1, 2, 3, 4, 5])
      for event in 0..<500 as Range<UInt64> {
        slots.append(Record(time: begin + event * 1000, kind: .doorbell, qid: UInt16(60 + chunk), a: event))
      }
    }
    engine.append(slots, draining: recording.writer)
    var others = Slots()
    for event in 0..<100 as Range<UInt64> {
      others.append(Record(time: event * 40_000, kind: .completion, qid: 3, cid: UInt16(event)))
    }
    host.append(others, draining: recording.writer)
    _ = recording.writer.finish()
    return try TraceReader(path: recording.path)
  }

  private func events(_ reader: TraceReader, _ selection: ChunkSelection) throws -> [Record] {
    var events = try MergedEvents(reader, selection)
    var records: [Record] = []
    while let (record, _) = try events.next() { records.append(record.pointee) }
    return records
  }

  private func selection(_ change: (inout ChunkSelection) -> Void) -> ChunkSelection {
    var selection = ChunkSelection()
    change(&selection)
    return selection
  }

  @Test("Only the chunks of a queue are read, and all its events are found", arguments: 60..<68 as Range<UInt16>)
  func queue(qid: UInt16) throws {
    let reader = try recording()
    let found = try events(reader, selection { $0.qid = qid })
    let all = try events(reader, ChunkSelection())
    #expect(found.filter { $0.queue == qid } == all.filter { $0.queue == qid })
    // The chunk of the queue and, 64 queues apart, that of its namesake; no gap for those that were left out.
    #expect(found.count == (qid == 67 ? 501 + 100 : 501))
    #expect(!found.contains { $0.is(.gap) })
  }

  @Test("Only the chunks of a period are read, and all its events are found")
  func period() throws {
    let reader = try recording()
    let (from, to) = (1_200_000, 1_700_000) as (UInt64, UInt64)
    let isWanted = { (record: Record) in record.time >= from && record.time < to }
    let found = try events(reader, selection { ($0.from, $0.to) = (from, to) })
    #expect(found.filter(isWanted) == (try events(reader, ChunkSelection())).filter(isWanted))
    // Two chunks of the engine, all of the host's.
    #expect(found.count == 2 * 501 + 100)
    #expect(try events(reader, selection { $0.from = 100_000_000 }).isEmpty)
    #expect(try events(reader, selection { $0.to = 0 }).isEmpty)
  }

  @Test("A chunk that does not name its queues is read for any")
  func unknownQueues() throws {
    var selection = ChunkSelection()
    selection.qid = 5
    var chunk = try #require(try recording().chunks.first).header
    #expect(!selection.mayContain(chunk))
    chunk.queues = 0
    #expect(selection.mayContain(chunk))
  }
}
