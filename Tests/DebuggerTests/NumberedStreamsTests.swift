import Chance
import EventSequences
@_spi(Places) import Events
import Foundation
import Testing
import Trace

/// A trace of three streams of the kernel in many small chunks.
private final class ManyChunks {
  let reader: TraceReader
  let path: String

  /// - Parameter goBack: every so many events, the time goes back.
  init(events: Int, goBack: Int? = nil) throws {
    path = NSTemporaryDirectory() + "chunks-\(UUID().uuidString).nvpt"
    let id = TraceID.random()
    let directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
    defer { directory.remove() }
    let writer = try TraceWriter(path: path, id: id, scale: .identity, directory: directory)
    let rings = try (0..<3).map { stream in
      try Ring(
        creating: "\(directory.path)/kernel-\(stream).ring", capacity: 128, source: .kernel, stream: UInt16(stream),
        traceID: id)
    }
    for ring in rings { writer.add(ring) }
    var random = SeededGenerator(seed: 5)
    var time: UInt64 = 1_000_000
    do {
      // The first stream has most events, the last hardly any.
      var first = RingProducer(rings[0], whenFull: .drop)
      var second = RingProducer(rings[1], whenFull: .drop)
      var third = RingProducer(rings[2], whenFull: .drop)
      for number in 0..<events {
        time += .random(in: 0...3, using: &random)
        let isBack = goBack.map { number % $0 == $0 - 1 } ?? false
        let record = Record(
          time: isBack ? time - 5000 : time, kind: .response, qid: UInt16(number & 7), cid: UInt16(number & 0xffff))
        switch number % 100 {
        case 7: third.append(record)
        case 0..<30: second.append(record)
        default: first.append(record)
        }
        if number % 32 == 0 { writer.drain() }
      }
    }
    _ = writer.finish(isWorthKeeping: true)
    reader = try TraceReader(path: path)
  }

  deinit { unlink(path) }
}

@Suite("Events of several streams by number")
struct NumberedStreamsTests {
  /// Its number, stream, and time.
  private struct Seen: Equatable {
    let number: UInt64
    let id: StreamID
    let record: Record
  }

  private func all(of events: NumberedStreams) throws -> [Seen] {
    var seen: [Seen] = []
    try events.visit(from: 0) {
      seen.append(Seen(number: $0.number, id: $0.id, record: $0.record.pointee))
      return false
    }
    return seen
  }

  @Test("forwards, backwards and from anywhere, the same event has the same number", arguments: [nil, 50])
  func sameNumbers(_ goBack: Int?) throws {
    let trace = try ManyChunks(events: 6000, goBack: goBack)
    try #require(trace.reader.chunks.count > 60)
    let events = try NumberedStreams(trace.reader)
    let seen = try all(of: events)
    #expect(seen.map(\.number) == Array(0..<6000))
    // Each stream keeps its order, and time only goes back within one.
    for id in Set(seen.map(\.id)) {
      let own = try #require(events.streams.first { $0.id == id })
      var records: [Record] = []
      try own.forEach(from: 0) { _, record in
        records.append(record.pointee)
        return false
      }
      #expect(seen.filter { $0.id == id }.map(\.record) == records)
    }
    if goBack == nil { #expect(seen.map(\.record.time) == seen.map(\.record.time).sorted()) }
    var backward: [Seen] = []
    try events.visitBackward(before: events.end) {
      backward.append(Seen(number: $0.number, id: $0.id, record: $0.record.pointee))
      return false
    }
    #expect(backward.reversed() == seen)
    var random = SeededGenerator(seed: 3)
    for _ in 0..<1000 {
      let number = UInt64.random(in: 0..<6000, using: &random)
      #expect(try events.event(number)?.pointee == seen[Int(number)].record)
      if goBack == nil {
        let time = seen[Int(number)].record.time
        #expect(try events.end(upTo: time) == UInt64(seen.filter { $0.record.time <= time }.count))
      }
    }
    for number in stride(from: UInt64(1), to: 6000, by: 97) {
      let found = try events.last(before: number, of: 3, in: { $0.stream == 2 }, { $0.pointee.qid == 3 })
      let expected = seen[..<Int(number)].last { $0.id.stream == 2 && $0.record.qid == 3 }
      #expect(found == expected?.number)
    }
  }

  @Test("finding an event takes some chunks of each stream, however many there are")
  func decodedChunks() throws {
    func most(_ count: Int) throws -> (decoded: UInt64, all: UInt64) {
      let trace = try ManyChunks(events: count)
      let bytes = trace.reader.chunks.map(\.header.length)
      var most: UInt64 = 0
      for number in stride(from: UInt64(0), to: UInt64(count), by: count / 50) {
        let events = try NumberedStreams(trace.reader)
        let before = trace.reader.bytesDecoded
        _ = try events.event(number)
        most = max(most, trace.reader.bytesDecoded - before)
      }
      return (most, bytes.reduce(0, +))
    }
    let (short, long) = (try most(5_000), try most(40_000))
    #expect(long.all > 6 * short.all)
    #expect(long.decoded < 2 * short.decoded && long.decoded < long.all / 20)
  }
}
