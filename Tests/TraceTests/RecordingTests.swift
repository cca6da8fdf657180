import Glibc
import Testing

@testable import Trace

/// What becomes of a recording that ends otherwise than it should.
@Suite struct RecordingTests {
  /// Checkpoints and numbered events, one stream.
  private struct Numbered: ~Copyable {
    var producer: RingProducer
    var next: UInt64 = 0

    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .wait) }

    mutating func append(_ count: Int) {
      for _ in 0..<count {
        let time = 2_000_000 + next * 100
        if next % 100 == 0, producer.ring.source == .engine {
          Event(
            record: Record(time: time, kind: .checkpoint, flags: EventFlag.bytes, b: 40),
            bytes: .init(repeating: 1, count: 40)
          )
          .append(to: &producer)
        }
        producer.append(Record(time: time, kind: .segment, a: next &* 0x9e37_79b9_7f4a_7c15, b: next << 32))
        producer.append(Record(time: time, kind: .dmaUnmap, a: next))
        next += 1
      }
    }
  }

  /// The numbers in a stream's chunks, in order.
  private func numbers(_ reader: TraceReader, _ source: Source = .engine) throws -> [UInt64] {
    let chunks = reader.chunks.indices.filter { reader.chunks[$0].header.source == source }
    let next = reader.source(of: Array(chunks))
    var found: [UInt64] = []
    while let slots = try next() {
      var place = 0
      while place < slots.count {
        if slots[place].event == .dmaUnmap { found.append(slots[place].a) }
        place += 1 + Int(slots[place].tail)
      }
    }
    return found
  }

  @Test(
    "A repair adds what the rings hold, each event once, wherever the recorder was killed", arguments: 0..<UInt64(30))
  func killed(seed: UInt64) throws {
    var random = Seeded(seed)
    let recording = try Recording()
    var producer = Numbered(try recording.makeRing(.engine, capacity: 4096))
    var host = Numbered(try recording.makeRing(.host, 1, capacity: 4096))
    do {
      let writer = try recording.makeWriter()
      writer.addRings(in: recording.rings.path)
      for _ in 0..<Int.random(in: 0...12, using: &random) {
        producer.append(Int.random(in: 1...500, using: &random))
        host.append(Int.random(in: 1...300, using: &random))
        let freed = producer.producer.ring.tail.pointee.load(ordering: .relaxed)
        writer.drain()
        // Killed behind the write and before the slots were freed.
        if Bool.random(using: &random) {
          producer.producer.ring.tail.pointee.store(freed, ordering: .relaxed)
          break
        }
      }
    }
    producer.append(Int.random(in: 0...200, using: &random))
    // Killed while it wrote a chunk.
    let half = open(recording.path, O_WRONLY | O_APPEND)
    if Bool.random(using: &random) { _ = write(half, "CHNKabc", 7) }
    close(half)

    let outcome = try TraceRepair.repair(recording.path, output: recording.path)
    let reader = try TraceReader(path: recording.path)
    #expect(reader.isComplete)
    #expect(try numbers(reader) == Array(0..<producer.next))
    #expect(try numbers(reader, .host) == Array(0..<host.next))
    #expect(outcome.events == reader.totals.events)
    #expect(access(recording.rings.path, F_OK) != 0, "the rings are gone")
  }

  @Test("A ring that follows another of the same stream keeps its first events through a repair")
  func secondRing() throws {
    let recording = try Recording()
    do {
      let writer = try recording.makeWriter()
      var first = Numbered(try recording.makeRing(.host, 1, name: "first"))
      first.append(500)
      writer.addRings(in: recording.rings.path)
      writer.drain(all: true)
    }
    var second = Numbered(try recording.makeRing(.host, 1, name: "second"))
    second.append(500)
    _ = try TraceRepair.repair(recording.path, output: recording.path)
    #expect(try numbers(try TraceReader(path: recording.path), .host) == Array(0..<500) + Array(0..<500))
  }

  @Test("A flight recorder's file is small and begins with a checkpoint")
  func flightRecorder() throws {
    let recording = try Recording()
    let writer = try recording.makeWriter(keepBytes: 20_000)
    let ring = try recording.makeRing(.engine)
    writer.add(ring)
    var producer = Numbered(ring)
    for _ in 0..<200 {
      producer.append(100)
      writer.drain()
    }
    let onDisk = { () -> Int in
      var status = stat()
      lstat(recording.path, &status)
      return Int(status.st_blocks) * 512
    }
    #expect(onDisk() < 60_000)
    #expect(try TraceReader(path: recording.path).chunks.count > 2, "what a killed one leaves is readable")
    try writer.finish()
    let reader = try TraceReader(path: recording.path)
    #expect(reader.isComplete && reader.bytes < 40_000 && reader.chunks[0].header.beginsWithCheckpoint)
    #expect(try numbers(reader).last == producer.next - 1)
    #expect(access(recording.path + ".compact", F_OK) != 0)
  }

  /// A file system of 64 KiB; nil where this user may not mount one.
  private static let mayMount: Bool = {
    var template = Array("/tmp/nvpt-full-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { return false }
    defer { rmdir(template) }
    guard mount("none", template, "tmpfs", 0, "size=64k") == 0 else { return false }
    umount(template)
    return true
  }()

  @Test(
    "On a full disk the recording stops, the rings are emptied and what was written is readable",
    .enabled(if: mayMount, "mounting a tmpfs needs root"))
  func diskFull() throws {
    let recording = try Recording()
    try #require(mount("none", recording.files, "tmpfs", 0, "size=64k") == 0)
    defer { umount(recording.files) }
    let writer = try recording.makeWriter()
    let ring = try recording.makeRing(.engine, capacity: 4096)
    writer.add(ring)
    var producer = Numbered(ring)
    for _ in 0..<200 {
      producer.append(200)
      writer.drain()
    }
    let error = try #require(throws: TraceError.self) { try writer.finish() }
    #expect(error.description.contains("No space left"))
    let reader = try TraceReader(path: recording.path)
    let found = try numbers(reader)
    #expect(!found.isEmpty && found == Array(0..<UInt64(found.count)))
    #expect(reader.intactBytes == reader.bytes, "no part of a chunk is left")
  }
}
