import Chance
@_spi(Places) import Events
import Testing

@testable import Trace

@Suite struct RoundTripTests {
  let scratch = Scratch()

  @Test("What was recorded is read back, whatever the events", arguments: 0..<40 as Range<UInt64>)
  func random(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let recording = try Recording(scratch("t.nvpt"))
    var producer = RingProducer(try recording.ring(seed % 2 == 0 ? .host : .engine), whenFull: .drop)
    let slots = randomSlots(events: 1 + Int(random.next() % 4000), &random)
    producer.append(slots, draining: recording.writer)
    let summary = recording.writer.finish()
    #expect(summary.error == nil)
    #expect(summary.problems.isEmpty)

    let reader = try TraceReader(path: recording.path)
    #expect(reader.isComplete)
    #expect(reader.damage == nil)
    #expect(reader.totals.events == UInt64(slots.events.count))
    #expect(try decodeAll(reader, stream: 0) == slots.inNanoseconds(.identity))
  }

  @Test("Events of one kind alone are read back", arguments: EventKind.allCases)
  func oneKind(kind: EventKind) throws {
    var random = SeededGenerator(seed: UInt64(kind.rawValue))
    let recording = try Recording(scratch("t.nvpt"))
    var producer = RingProducer(try recording.ring(.engine), whenFull: .drop)
    let slots = randomSlots(events: 300, &random, kinds: [kind])
    producer.append(slots, draining: recording.writer)
    _ = recording.writer.finish()
    #expect(try decodeAll(try TraceReader(path: recording.path), stream: 0) == slots.inNanoseconds(.identity))
  }

  @Test("Ticks become nanoseconds, and a span ends where its event is", arguments: 0..<10 as Range<UInt64>)
  func ticks(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let scale = TickScale(start: 1_000_000, multiplier: 1_789_569_707 + seed * 7_000_000_001)
    let recording = try Recording(scratch("t.nvpt"), scale: scale)
    var producer = RingProducer(try recording.ring(.host), whenFull: .drop)
    let slots = randomSlots(events: 2000, &random, from: 999_000)
    producer.append(slots, draining: recording.writer)
    _ = recording.writer.finish()
    #expect(try decodeAll(try TraceReader(path: recording.path), stream: 0) == slots.inNanoseconds(scale))
  }

  @Test("Events of all streams are merged in the order of their times")
  func merged() throws {
    var random = SeededGenerator(seed: 7)
    let recording = try Recording(scratch("t.nvpt"))
    var expected: [UInt64] = []
    for stream in 0..<5 {
      var producer = RingProducer(try recording.ring(.host), whenFull: .drop)
      let slots = randomSlots(events: 3000, &random, from: UInt64(stream) * 10_000)
      expected += slots.events.map { $0.record.time }
      producer.append(slots, draining: recording.writer)
    }
    _ = recording.writer.finish()

    var events = try MergedEvents(try TraceReader(path: recording.path))
    var times: [UInt64] = []
    while let event = try events.next() { times.append(event.record.pointee.time) }
    #expect(times == expected.sorted())
  }

  @Test("An engine's chunks begin with its checkpoints")
  func checkpoints() throws {
    var random = SeededGenerator(seed: 1)
    let recording = try Recording(scratch("t.nvpt"))
    var producer = RingProducer(try recording.ring(.engine, capacity: 1 << 14), whenFull: .drop)
    var slots = Slots()
    for _ in 0..<8 {
      slots.append(Record(kind: .checkpoint, flags: Record.carriesBytesFlag, b: 5), [1, 2, 3, 4, 5])
      for event in 0..<500 { appendRandom(.doorbell, time: UInt64(event), to: &slots, &random) }
    }
    producer.append(slots, draining: recording.writer)
    _ = recording.writer.finish()
    let reader = try TraceReader(path: recording.path)
    #expect(reader.chunks.map(\.header.beginsWithCheckpoint) == Array(repeating: true, count: 8))
    #expect(reader.chunks.map(\.header.events) == Array(repeating: 501, count: 8))
  }

  @Test("Rings with the same number become streams of their own")
  func sameNumber() throws {
    var random = SeededGenerator(seed: 3)
    let recording = try Recording(scratch("t.nvpt"))
    var expected: [Slots] = []
    for process in 0..<3 {
      let ring = try Ring(
        creating: "\(recording.directory.path)/host-\(process).ring", capacity: 1 << 12, source: .host, stream: 1,
        traceID: recording.id)
      var producer = RingProducer(ring, whenFull: .drop)
      let slots = randomSlots(events: 500, &random)
      expected.append(slots.inNanoseconds(.identity))
      producer.append(slots, draining: recording.writer)
    }
    let summary = recording.writer.finish()
    #expect(summary.problems.isEmpty)
    let reader = try TraceReader(path: recording.path)
    #expect(reader.streams.map(\.id) == (1...3).map { StreamID(source: .host, stream: $0) })
    for (number, slots) in expected.enumerated() {
      #expect(try decodeAll(reader, stream: UInt16(number + 1)) == slots)
    }
  }
}
