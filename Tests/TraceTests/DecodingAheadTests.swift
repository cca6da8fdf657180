@_spi(Places) import Events
import Glibc
import Platform
import Testing

@testable import Trace

@Suite struct DecodingAheadTests {
  private let scratch = Scratch()

  /// Two engine streams that begin a chunk at each checkpoint, one in the middle of the other's, and a host's with one.
  /// - Parameter overlap: how far a chunk's last event lies behind the first of the next, nanoseconds.
  private func recording(chunks: Int, overlap: UInt64 = 0) throws -> TraceReader {
    let recording = try Recording(scratch("t.nvpt"))
    for stream in 0..<2 as Range<UInt64> {
      var engine = RingProducer(try recording.ring(.engine, capacity: 1 << 14), whenFull: .drop)
      var slots = Slots()
      for chunk in 0..<UInt64(chunks) {
        let begin = (2 * chunk + stream) * 100_000
        slots.append(Record(time: begin, kind: .checkpoint, flags: Record.carriesBytesFlag, b: 5), [1, 2, 3, 4, 5])
        for event in 1..<199 as Range<UInt64> {
          slots.append(Record(time: begin + event * 1000, kind: .doorbell, qid: 1, a: chunk << 16 | event))
        }
        slots.append(Record(time: begin + 200_000 + overlap, kind: .doorbell, qid: 1, a: chunk << 16))
      }
      engine.append(slots, draining: recording.writer)
    }
    var host = RingProducer(try recording.ring(.host), whenFull: .drop)
    var slots = Slots()
    for event in 0..<UInt64(100) { slots.append(Record(time: event * 40_000, kind: .completion, qid: 3)) }
    host.append(slots, draining: recording.writer)
    _ = recording.writer.finish()
    return try TraceReader(path: recording.path)
  }

  private func walks(_ reader: TraceReader) -> [ChunkWalk] {
    reader.streams.map { ChunkWalk(reader, $0.chunks, ChunkSelection()) }
  }

  /// The events of each stream, one chunk after the other.
  private func decoded(_ reader: TraceReader) throws -> [StreamID: [Record]] {
    var decoded = try DecodedChunk()
    var records: [StreamID: [Record]] = [:]
    for (index, chunk) in reader.chunks.enumerated() {
      try reader.decode(index, into: &decoded)
      records[chunk.header.id, default: []] += decoded.slots
    }
    return records
  }

  @Test("A second thread changes nothing of what is read", arguments: [0, 50_000] as [UInt64])
  func merge(overlap: UInt64) throws {
    let reader = try recording(chunks: 50, overlap: overlap)
    #expect(reader.chunks.count > 100)
    let expected = try decoded(reader)
    for _ in 0..<10 {
      var events = try MergedEvents(reader)
      var found: [StreamID: [Record]] = [:]
      var order: [UInt64] = []
      while let (record, id) = try events.next() {
        order.append(record.pointee.time)
        found[id, default: []] += UnsafeBufferPointer(start: record, count: 1 + Int(record.pointee.tail))
      }
      #expect(found == expected)
      if overlap == 0 { #expect(order == order.sorted()) }
    }
  }

  @Test("A damaged chunk is told when its turn comes, and reading continues behind it")
  func damage() throws {
    let intact = try recording(chunks: 50)
    let all = try decoded(intact).values.reduce(0) { $0 + $1.count { !$0.is(.checkpoint) } }
    let bad = intact.chunks.indices.filter { $0 % 9 == 5 }
    let descriptor = open(intact.path, O_WRONLY)
    defer { close(descriptor) }
    for index in bad {
      var byte = UInt8(0xff)
      try #require(pwrite(descriptor, &byte, 1, off_t(intact.chunks[index].end) - 20) == 1)
    }
    let reader = try TraceReader(path: intact.path)
    var chunk = try DecodedChunk()
    var expected = Set<String>()
    for index in bad {
      do { try reader.decode(index, into: &chunk) } catch { expected.insert("\(error)") }
    }
    #expect(expected.count == bad.count)

    var results: [[String]] = []
    for _ in 0..<5 {
      var events = try MergedEvents(reader)
      var result: [String] = []
      while true {
        do {
          guard let (record, _) = try events.next() else { break }
          result.append("\(record.pointee.time)")
        } catch { result.append("\(error)") }
      }
      results.append(result)
    }
    #expect(Set(results[0]).isSuperset(of: expected))
    #expect(results[0].count { expected.contains($0) } == bad.count)
    #expect(results[0].count > all / 2)
    #expect(results.allSatisfy { $0 == results[0] })
  }

  @Test("A few chunks are decoded ahead, in the order in which a merge wants them")
  func ahead() throws {
    let reader = try recording(chunks: 50)
    let ahead = DecodingAhead(reader, walks(reader))
    let thread = try WorkerThread(name: "decode") { ahead.run() }
    defer {
      ahead.end()
      thread.join()
    }
    var order = ChunkOrder(walks(reader))
    var decoded = try DecodedChunk()
    var events = ByteBuffer()
    var number = 0
    while let next = order.next() {
      // Between two chunks the thread may get ahead or not; what it hands out is right.
      if try ahead.take(next.stream, next.position, next.chunk, into: &events) {
        try reader.decode(next.chunk, into: &decoded)
        #expect(events.bytes.elementsEqual(UnsafeRawBufferPointer(decoded.slots)))
      }
      number += 1
    }
    #expect(number == reader.chunks.count)
  }

  @Test("What the reader has decoded itself is passed over")
  func passedOver() throws {
    let reader = try recording(chunks: 2)
    let ahead = DecodingAhead(reader, walks(reader))
    var order = ChunkOrder(walks(reader))
    var events = ByteBuffer()
    let next = order.next()
    let first = try #require(next)
    let isFirstDecoded = try ahead.take(first.stream, first.position, first.chunk, into: &events)
    #expect(!isFirstDecoded)
    // The four that remain fit, so that this returns.
    ahead.run()
    while let next = order.next() {
      let isDecoded = try ahead.take(next.stream, next.position, next.chunk, into: &events)
      #expect(isDecoded && events.count > 0)
    }
  }

  @Test("Who stops early does not wait for the rest")
  func early() throws {
    let reader = try recording(chunks: 50)
    for count in 0..<20 {
      var events = try MergedEvents(reader)
      for _ in 0..<count { _ = try events.next() }
    }
  }

  @Test("Chunks are wanted when the one before in their stream is used up")
  func order() throws {
    var order = ChunkOrder(walks(try recording(chunks: 3, overlap: 150_000)))
    var found: [[Int]] = []
    while let item = order.next() { found.append([item.stream, item.position]) }
    // The first of the second stream begins at 100 µs, but the second of the first is wanted at 350 µs.
    let engines = found.filter { $0[0] < 2 }
    #expect(engines == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [1, 2]])
  }
}
