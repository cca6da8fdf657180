import Glibc
import Testing

@testable import Trace

/// A folder that goes with the test.
final class Folder {
  let path = "/dev/shm/nvmepf-test-\(TraceID.random())"

  init() { mkdir(path, 0o700) }

  deinit { RecordingDirectory.remove(path) }
}

/// Ticks are nanoseconds.
private let header = TraceHeader(
  id: TraceID(high: 1, low: 2), startRealtimeNs: 5, ticksPerSecond: 1_000_000_000, startTicks: 0,
  metadata: [("command", "test")])

@Suite("Rings and times")
struct RingTests {
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

  @Test("a trace that is being recorded is not repaired")
  func isLocked() throws {
    let folder = Folder()
    let path = "\(folder.path)/a.nvpt"
    let writer = try TraceWriter(path: path, header: header)
    #expect(throws: TraceError.self) { try TraceRepair.repair(path, output: path) }
    try writer.finish()
  }
}
