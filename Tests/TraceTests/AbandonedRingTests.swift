@_spi(Places) import Events
import Glibc
import Testing

@testable import Trace

/// A producer whose recorder has ended does not wait for it.
@Suite struct AbandonedRingTests {
  let scratch = Scratch()

  /// More events than the ring has room for, none of which anybody takes.
  private func overfill(_ recording: Recording, _ end: (Ring) throws -> Void) throws -> Ring {
    let ring = try recording.ring(.host, capacity: 128)
    try end(ring)
    var producer = RingProducer(ring, whenFull: .wait)
    for number in 0..<1000 as Range<UInt64> { producer.append(Record(time: number, kind: .registerWrite, a: number)) }
    return ring
  }

  @Test("If the recorder's lock is free, the ring's events are kept and later ones discarded")
  func killed() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try overfill(recording) { _ in
      // As a kill leaves it: the lock is there, and free.
      unlink(recording.directory.file("lock"))
      try writeFile(recording.directory.file("lock"), [])
    }
    let copy = scratch("copy.nvpt")
    try writeFile(copy, try readFile(recording.path))
    #expect(try TraceRepair.repair(copy).eventsRecovered == 128)
    let reader = try TraceReader(path: copy)
    let numbers = try decodeAll(reader, stream: ring.stream).events.map(\.record.a)
    #expect(numbers == Array(0..<128))
  }

  @Test("If the recorder has removed the ring, no producer waits")
  func removed() throws {
    let recording = try Recording(scratch("t.nvpt"))
    _ = try overfill(recording) { $0.removeFile() }
  }
}
