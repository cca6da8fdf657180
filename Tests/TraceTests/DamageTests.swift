import Glibc
import Testing

@testable import Trace

/// A trace whose bytes are not what was written: it is read as far as it is whole, and says where that ends.
@Suite struct DamageTests {
  /// Three chunks of an engine's stream and one of a host's.
  private func makeSmallTrace(_ recording: Recording) throws -> [UInt8] {
    let writer = try recording.makeWriter()
    let rings = [try recording.makeRing(.engine), try recording.makeRing(.host, 1)]
    for ring in rings {
      writer.add(ring)
      var random = Seeded(7)
      var producer = RingProducer(ring, whenFull: .wait)
      var time = recording.startTicks + 5000
      for round in 0..<3 {
        if ring.source == .engine {
          Event(record: Record(time: time, kind: .checkpoint, flags: EventFlag.bytes, b: 3), bytes: [1, 2, 3])
            .append(to: &producer)
        }
        for _ in 0..<4 {
          time += 100
          Event.random(round == 1 ? .fetch : .read, time: time, &random).append(to: &producer)
        }
      }
    }
    try writer.finish()
    return try readAll(recording.path)
  }

  private func readAll(_ path: String) throws -> [UInt8] {
    let file = open(path, O_RDONLY)
    defer { close(file) }
    var status = stat()
    fstat(file, &status)
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    try #require(read(file, &bytes, bytes.count) == bytes.count)
    return bytes
  }

  private func write(_ bytes: some Collection<UInt8>, to path: String) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    let bytes = Array(bytes)
    _ = Glibc.write(file, bytes, bytes.count)
    close(file)
  }

  /// Every event that can be read; nil when the file is refused.
  private func readEverything(_ path: String) -> (reader: TraceReader, events: Int)? {
    guard let reader = try? TraceReader(path: path) else { return nil }
    var events = 0
    if var merged = try? MergedEvents(reader) {
      while let event = try? merged.next() { events += event.record.pointee.tail < 4096 ? 1 : 0 }
    }
    return (reader, events)
  }

  @Test("Cut at any byte, the chunks before the cut are read and the damage names chunk and byte")
  func cut() throws {
    let recording = try Recording()
    let whole = try makeSmallTrace(recording)
    let chunks = try TraceReader(path: recording.path).chunks
    #expect(chunks.count == 4)
    let ends = chunks.dropFirst().map { Int($0.offset) } + [Int(try TraceReader(path: recording.path).intactBytes)]
    for length in 0..<whole.count {
      write(whole[..<length], to: recording.path)
      guard let (reader, events) = readEverything(recording.path) else {
        #expect(length < Int(chunks[0].offset), "only a cut header is refused: \(length)")
        continue
      }
      let kept = ends.filter { $0 <= length }.count
      #expect(reader.chunks.count == kept && !reader.isComplete)
      #expect(events == chunks[..<kept].reduce(0) { $0 + Int($1.header.events) })
      let text = try #require(reader.damage).description
      #expect(text.contains("chunk \(kept)"))
      let start = kept == 0 ? Int(chunks[0].offset) : ends[kept - 1]
      if kept < 4, length > start { #expect(text.contains("at byte \(start) ") && text.contains("nvmepf repair")) }
    }
  }

  @Test("With any byte changed, it is refused or the chunks before the change are read")
  func flip() throws {
    let recording = try Recording()
    let whole = try makeSmallTrace(recording)
    let original = try TraceReader(path: recording.path)
    let starts = original.chunks.map { Int($0.offset) }
    for place in whole.indices {
      var changed = whole
      changed[place] ^= UInt8(1 << (place % 8))
      write(changed, to: recording.path)
      _ = readEverything(recording.path)
      guard let reader = try? TraceReader(path: recording.path) else {
        #expect(place < starts[0], "only a changed header is refused: \(place)")
        continue
      }
      try #require(place >= starts[0], "the header is covered by its checksum")
      let changedChunk = place < original.intactBytes ? starts.filter { $0 <= place }.count - 1 : starts.count
      let decoder = ChunkDecoder()
      for number in 0..<changedChunk { _ = try reader.decode(number, with: decoder) }
      guard changedChunk < starts.count else { continue }
      let name = "chunk \(changedChunk) at byte \(starts[changedChunk]) "
      if changedChunk < reader.chunks.count {
        let error = try #require(throws: TraceError.self) { try reader.decode(changedChunk, with: decoder) }
        #expect(error.description.contains(name))
      } else {
        #expect(try #require(reader.damage).description.contains(name))
      }
    }
  }

  @Test("Bodies of any bytes are refused or decoded within bounds", arguments: 0..<UInt64(40))
  func hostileBody(seed: UInt64) throws {
    let recording = try Recording()
    _ = try makeSmallTrace(recording)
    let reader = try TraceReader(path: recording.path)
    var random = Seeded(seed)
    let decoder = ChunkDecoder()
    for _ in 0..<200 {
      let chunk = reader.chunks.randomElement(using: &random)!
      var body = try #require(reader.body(of: chunk))
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        body[Int.random(in: body.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      var header = chunk.header
      if Bool.random(using: &random) {
        header.slots = UInt32.random(in: 1...UInt32(Format.chunkSlotsMax), using: &random)
        header.events = UInt32.random(in: 1...header.slots, using: &random)
      }
      let slots = try? body.withUnsafeBytes { try decoder.decode($0, header, reader.schema) }
      var place = 0
      while let slots, place < slots.count { place += 1 + Int(slots[place].tail) }
      #expect(slots == nil || place == slots!.count)
    }
  }

  @Test("A pipe or a directory is refused, not waited for")
  func notAFile() throws {
    let recording = try Recording()
    mkfifo(recording.path, 0o600)
    #expect(throws: TraceError.self) { try TraceReader(path: recording.path) }
    #expect(throws: TraceError.self) { try TraceReader(path: recording.files) }
  }
}
