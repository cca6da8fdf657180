import CPlatform
import Chance
@_spi(Places) import Events
import Testing
import Text

@testable import Trace

/// Files that are not what they should be: an error in words, or what is whole, but no crash and no wrong event.
@Suite struct DamageTests {
  let scratch = Scratch()

  /// A closed trace of a few chunks of two streams.
  private func smallTrace() throws -> (path: String, bytes: [UInt8], streams: [Slots]) {
    var random = SeededGenerator(seed: 11)
    var options = TraceWriter.Options()
    options.slotsPerChunk = 40
    let recording = try Recording(scratch("t.nvpt"), options: options)
    for _ in 0..<2 {
      var producer = RingProducer(try recording.ring(.host), whenFull: .drop)
      let slots = randomSlots(events: 50, &random, kinds: [.fetch, .doorbell, .completion, .read])
      producer.append(slots, draining: recording.writer)
    }
    _ = recording.writer.finish()
    let reader = try TraceReader(path: recording.path)
    let streams = try [decodeAll(reader, stream: 0), decodeAll(reader, stream: 1)]
    return (recording.path, try readFile(recording.path), streams)
  }

  /// Read everything. Returns the error that stopped it, after checking that what came before is right.
  private func readPrefix(_ path: String, _ streams: [Slots]) throws -> TraceError? {
    do throws(TraceError) {
      let reader = try TraceReader(path: path)
      var decoded = try DecodedChunk()
      var next = streams.map { _ in 0 }
      for (index, chunk) in reader.chunks.enumerated() {
        try reader.decode(index, into: &decoded)
        let (stream, slots) = (Int(chunk.header.id.stream), Array(decoded.slots))
        #expect(slots == Array(streams[stream].records[next[stream]..<next[stream] + slots.count]))
        next[stream] += slots.count
      }
      if reader.isComplete { #expect(next == streams.map(\.records.count)) }
      if let damage = reader.damage { return damage }
      return reader.isComplete ? nil : TraceError(.damaged, "not closed")
    } catch {
      return error
    }
  }

  @Test("A trace truncated anywhere is readable up to that point")
  func cut() throws {
    let (path, bytes, streams) = try smallTrace()
    for length in 0..<bytes.count {
      try writeFile(path, bytes[..<length])
      #expect(try readPrefix(path, streams) != nil, "cut at \(length)")
    }
  }

  @Test("A change of any byte is detected")
  func flip() throws {
    let (path, bytes, streams) = try smallTrace()
    var random = SeededGenerator(seed: 5)
    for place in bytes.indices {
      var flipped = bytes
      flipped[place] ^= UInt8(1 << (random.next() % 8))
      try writeFile(path, flipped)
      #expect(try readPrefix(path, streams) != nil, "byte \(place)")
    }
  }

  @Test("The error names chunk and place, and what to do")
  func message() throws {
    let (path, bytes, _) = try smallTrace()
    let chunk = try TraceReader(path: path).chunks[3]
    var damaged = bytes
    damaged[Int(chunk.offset) + ChunkHeader.size + 5] ^= 4
    try writeFile(path, damaged)
    let reader = try TraceReader(path: path)
    var decoded = try DecodedChunk()
    let place = Quantity.count(chunk.offset)
    #expect {
      try reader.decode(3, into: &decoded)
    } throws: {
      "\($0)"
        == "\(path): chunk 4 at byte \(place) fails its checksum; 3 chunks before it are intact: nvmepf repair \(path)"
    }
  }

  @Test("A trace of a newer major version is refused with a message")
  func tooNew() throws {
    var (path, bytes, _) = try smallTrace()
    (bytes[8], bytes[10]) = (2, 0)
    try writeFile(path, bytes)
    #expect {
      try TraceReader(path: path)
    } throws: {
      "\($0)".hasPrefix("\(path) was written by a newer nvmepf (format 2.0); this one reads formats up to 1.x")
    }
  }

  @Test("A newer minor version is read, its unknown kinds by their own description")
  func newerMinor() throws {
    let future = KindLayout(
      kind: 99, name: "future",
      fields: [
        FieldLayout(name: "level", offset: 9, width: 1, unit: .number),
        FieldLayout(name: "power", offset: 40, width: 8, unit: .number),
      ], fixedTailSlots: 1, carriesBytes: false)
    let schema = TraceSchema(kinds: TraceSchema.current.kinds + [future])
    var header = TraceHeader(
      id: TraceID(high: 1, low: 2), scale: .identity, startMonotonic: 3, startRealtime: 4, metadata: [])
    header.version = FormatVersion(major: 1, minor: 7)
    header.schema = schema
    var slots = Slots()
    for number in 0..<100 as Range<UInt64> {
      var record = Record(time: 10 * number, kind: .doorbell, flags: 1)
      record.kind = 99
      var tail = [UInt8](repeating: 0, count: 32)
      tail[8] = UInt8(number)
      slots.append(record, tail)
    }
    let builder = ChunkBuilder(schema: schema, scale: .identity)
    _ = try slots.records.withUnsafeBufferPointer {
      try builder.append($0, slotsMax: 1000, stopAtCheckpoint: false)
    }
    var chunk = ChunkHeader(StreamID(source: .kernel, stream: 0), sequence: 0, firstEvent: 0, ringEnd: 200)
    var file = try TraceFile(creating: scratch("t.nvpt"))
    try file.append(try header.encoded())
    try ChunkEncoder().append(builder, &chunk, to: &file)
    let reader = try TraceReader(path: scratch("t.nvpt"))
    #expect(reader.header.version == FormatVersion(major: 1, minor: 7))
    #expect(reader.schema[99] == future)
    #expect(try decodeAll(reader, stream: 0) == slots)
  }

  @Test("Invalid bodies with a valid checksum are refused", arguments: 0..<12 as Range<UInt64>)
  func forged(seed: UInt64) throws {
    let (path, bytes, _) = try smallTrace()
    let chunks = try TraceReader(path: path).chunks
    var random = SeededGenerator(seed: seed)
    for _ in 0..<50 {
      var forged = bytes
      let place = chunks.randomElement(using: &random)!
      let body = Int(place.offset) + ChunkHeader.size
      let length = Int(place.header.bodyLength)
      for _ in 0..<1 + random.next() % 4 {
        forged[body + Int(random.next() % UInt64(length))] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.next() % 4 == 0 { forged[Int(place.offset) + 24 + Int(random.next() % 44)] ^= 1 }
      reseal(&forged, at: Int(place.offset), length)
      // Without the index, so that the header that was changed counts.
      try writeFile(path, forged[..<Int(chunks.last!.end)])
      let reader = try TraceReader(path: path)
      var decoded = try DecodedChunk()
      for index in reader.chunks.indices { try? reader.decode(index, into: &decoded) }
      if var events = try? MergedEvents(reader) {
        var count = 0
        while count < 10_000 {
          do { guard try events.next() != nil else { break } } catch {}
          count += 1
        }
        #expect(count < 10_000)
      }
    }
  }

  @Test("Invalid headers with a valid checksum are refused")
  func forgedHeader() throws {
    let (path, bytes, streams) = try smallTrace()
    var random = SeededGenerator(seed: 8)
    let length = Int(try TraceReader(path: path).chunks[0].offset)
    for _ in 0..<600 {
      var forged = bytes
      for _ in 0..<1 + random.next() % 3 {
        forged[16 + Int(random.next() % UInt64(length - 20))] = UInt8(truncatingIfNeeded: random.next())
      }
      let crc = nvmepf_crc32c(0, forged, length - 4)
      for byte in 0..<4 { forged[length - 4 + byte] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * byte)) }
      try writeFile(path, forged)
      guard let reader = try? TraceReader(path: path) else { continue }
      var decoded = try DecodedChunk()
      for index in reader.chunks.indices { try? reader.decode(index, into: &decoded) }
    }
    _ = streams
  }

  private func reseal(_ bytes: inout [UInt8], at offset: Int, _ length: Int) {
    let body = nvmepf_crc32c(0, Array(bytes[offset + ChunkHeader.size..<offset + ChunkHeader.size + length]), length)
    for byte in 0..<4 { bytes[offset + 80 + byte] = UInt8(truncatingIfNeeded: body >> UInt32(8 * byte)) }
    let header = nvmepf_crc32c(0, Array(bytes[offset..<offset + 84]), 84)
    for byte in 0..<4 { bytes[offset + 84 + byte] = UInt8(truncatingIfNeeded: header >> UInt32(8 * byte)) }
  }

  @Test("An invalid ring is discarded, and the recording reports how much", arguments: 0..<20 as Range<UInt64>)
  func nonsenseRing(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host)
    var producer = RingProducer(ring, whenFull: .drop)
    let good = randomSlots(events: 20, &random, kinds: [.segment])
    producer.append(good, draining: recording.writer)
    producer.append(Record(time: 0, kind: .doorbell, tail: 9))
    for slot in 100..<300 {
      ring.slots[slot] = Record(
        time: random.next(), kind: .fetch, tail: UInt16(truncatingIfNeeded: random.next()), a: random.next())
    }
    ring.head.pointee.store(300, ordering: .releasing)
    recording.writer.drain()
    let summary = recording.writer.finish()
    #expect(summary.problems.count == 1)
    #expect(summary.lost > 0)
    let reader = try TraceReader(path: recording.path)
    #expect(reader.totals.lost == summary.lost)
    #expect(try decodeAll(reader, stream: 0).records.prefix(20) == good.inNanoseconds(.identity).records[...])
  }

  @Test("A ring with contradictory counters is discarded")
  func nonsenseCounters() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host)
    let producer = RingProducer(ring, whenFull: .drop)
    ring.head.pointee.store(.max / 2, ordering: .releasing)
    recording.writer.drain()
    recording.writer.drain()
    let summary = recording.writer.finish()
    #expect(summary.problems.map(\.description) == ["the ring \(ring.path) contradicts itself"])
    _ = producer
  }

  @Test(
    "A file that is not a trace is refused with a message",
    arguments: ["", "NVPT", String(repeating: "x", count: 5000)])
  func noTrace(text: String) throws {
    try writeFile(scratch("t.nvpt"), Array(text.utf8))
    #expect {
      try TraceReader(path: scratch("t.nvpt"))
    } throws: {
      "\($0)" == "\(scratch("t.nvpt")) is not a trace of nvmepf"
    }
  }
}
