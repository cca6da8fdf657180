import CPlatform
import Glibc
import Testing

@testable import Trace

/// SplitMix64: the same seed gives the same run.
struct Seeded: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

/// A folder that goes with the test.
final class Folder {
  let path = "/dev/shm/nvmepf-test-\(TraceID.random())"

  init() { mkdir(path, 0o700) }

  deinit { RecordingDirectory.remove(path) }
}

/// Writes events of a made-up engine into a ring.
struct Recording: ~Copyable {
  let ring: Ring
  var producer: RingProducer
  var random: Seeded
  var time: UInt64 = 1000
  /// Everything written, as it must come back: times in nanoseconds, which are ticks here.
  private(set) var expected: [Record] = []

  init(
    _ folder: Folder, _ id: TraceID, seed: UInt64, stream: UInt16 = 0, source: Source = .engine, slots: UInt64 = 4096
  )
    throws
  {
    ring = try Ring(
      creating: "\(folder.path)/\(source)-\(stream).ring", capacity: slots, source: source, stream: stream, traceID: id)
    producer = RingProducer(ring, whenFull: .wait)
    random = Seeded(seed)
  }

  /// Slots before the newest checkpoint.
  private(set) var slotsBeforeCheckpoint = 0

  mutating func checkpoint() {
    slotsBeforeCheckpoint = expected.count
    append(.checkpoint)
  }

  /// An event of the kind, with random fields and bytes.
  mutating func append(_ kind: EventKind) {
    let description = kind.description
    time += random.next() % 300
    var slots = [Record(time: time, kind: kind)]
    for field in description.fields {
      let (offset, width) = field.place.location
      if offset >= Record.size { continue }
      let bits = field.unit == .span ? random.next() % 200 : random.next()
      withUnsafeMutableBytes(of: &slots[0]) { bytes in
        for byte in 0..<width { bytes[offset + byte] = UInt8(truncatingIfNeeded: bits >> (8 * byte)) }
      }
    }
    var bytes = [UInt8](repeating: 0, count: description.fixedTailBytes)
    if description.carriesBytes {
      slots[0].flags |= EventFlag.bytes
      slots[0].bLow = UInt32(random.next() % 700)
      bytes = [UInt8](repeating: 0, count: Int(slots[0].bLow))
    }
    for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
    bytes.withUnsafeBytes { producer.append(slots[0], $0) }
    slots[0].tail = UInt16((bytes.count + 31) / 32)
    expected.append(slots[0])
    bytes.append(contentsOf: [UInt8](repeating: 0, count: Int(slots[0].tail) * 32 - bytes.count))
    bytes.withUnsafeBytes { expected.append(contentsOf: $0.bindMemory(to: Record.self)) }
  }

  /// Any event but a checkpoint.
  mutating func appendAny() {
    append(EventKind.allCases.filter { $0 != .checkpoint }.randomElement(using: &random)!)
  }
}

/// Ticks are nanoseconds.
let header = TraceHeader(
  id: TraceID(high: 1, low: 2), startRealtimeNs: 5, ticksPerSecond: 1_000_000_000, startTicks: 0,
  metadata: [("command", "test")])

func contents(_ reader: TraceReader) throws -> [Record] {
  let decoder = ChunkDecoder()
  return try reader.chunks.indices.flatMap { Array(try reader.decode($0, with: decoder)) }
}

@Suite("A trace")
struct TraceTests {
  @Test("CRC32C: the vectors of RFC 3720, and every length against a bit at a time")
  func checksums() {
    #expect(checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(checksum([UInt8](0..<32)) == 0x46dd_794e)
    var slow: UInt32 = ~0
    var bytes: [UInt8] = []
    for index in 0..<5000 {
      #expect(checksum(bytes) == ~slow)
      bytes.append(UInt8(truncatingIfNeeded: index * 7 + index >> 8))
      slow ^= UInt32(bytes[index])
      for _ in 0..<8 { slow = slow >> 1 ^ (slow & 1 == 1 ? 0x82f6_3b78 : 0) }
    }
  }

  @Test("every kind of event comes back as it was", arguments: [1, 2, 3] as [UInt64])
  func roundTrips(seed: UInt64) throws {
    let folder = Folder()
    var recording = try Recording(folder, header.id, seed: seed)
    let writer = try TraceWriter(path: "\(folder.path)/a.nvpt", header: header)
    writer.add(recording.ring)
    for turn in 0..<40 {
      recording.checkpoint()
      for _ in 0..<50 { recording.appendAny() }
      if turn % 3 == 0 { writer.drain() }
    }
    try writer.finish()
    let reader = try TraceReader(path: "\(folder.path)/a.nvpt")
    let same = try contents(reader) == recording.expected
    #expect(same && reader.isComplete && reader.damage == nil)
    let allBegin = reader.chunks.allSatisfy { $0.header.beginsWithCheckpoint }
    #expect(allBegin)
    #expect(reader.header.metadata.map(\.value) == ["test"])
  }

  @Test("stretches that touch in ticks touch in nanoseconds, whatever the clock's rate")
  func touches() {
    var random = Seeded(4)
    for _ in 0..<1000 {
      let scale = TimeScale(
        startTicks: random.next() % 1_000_000, ticksPerSecond: 1_000_000 + random.next() % 4_000_000_000)
      let begin = scale.startTicks + random.next() % (1 << 40)
      let (middle, end) = (begin + random.next() % 5000, begin + 5000 + random.next() % 5000)
      #expect(scale.ns(middle) - scale.span(middle - begin, endingAt: middle) == scale.ns(begin))
      #expect(scale.ns(end) - scale.span(end - middle, endingAt: end) == scale.ns(middle))
    }
  }

  @Test("streams merge in the order of their times, each complete")
  func merges() throws {
    let folder = Folder()
    var engine = try Recording(folder, header.id, seed: 1)
    var host = try Recording(folder, header.id, seed: 2, stream: 1, source: .host)
    let writer = try TraceWriter(path: "\(folder.path)/a.nvpt", header: header)
    writer.addRings(in: folder.path)
    for _ in 0..<500 {
      engine.appendAny()
      host.append(.submit)
      writer.drain()
    }
    try writer.finish()
    var events = try MergedEvents(try TraceReader(path: "\(folder.path)/a.nvpt"))
    var counts: [Source: Int] = [:]
    var last: UInt64 = 0
    while let (record, id) = try events.next() {
      #expect(record.pointee.time >= last)
      last = record.pointee.time
      counts[id.source, default: 0] += 1
    }
    #expect(counts == [.engine: 500, .host: 500])
  }

  @Test("a full ring that drops counts what it drops, and goes on at a checkpoint")
  func drops() throws {
    let folder = Folder()
    let ring = try Ring(
      creating: "\(folder.path)/a.ring", capacity: 128, source: .engine, stream: 0, traceID: header.id)
    var producer = RingProducer(ring, whenFull: .drop)
    for time in 0..<200 as Range<UInt64> { producer.append(Record(time: time, kind: .clock)) }
    let dropping = producer.isDropping
    #expect(dropping)
    var consumer = RingConsumer(ring)
    let count = try consumer.available().count
    #expect(count == 128)
    consumer.free(128)
    let checkpoint = Record(time: 300, kind: .checkpoint, flags: EventFlag.bytes)
    producer.resume(time: 300, checkpoint: checkpoint, UnsafeRawBufferPointer(start: nil, count: 0))
    let slots = Array(try consumer.available())
    #expect(slots.map(\.event) == [.gap, .checkpoint])
    #expect(slots[0].a == 72)
  }
}
