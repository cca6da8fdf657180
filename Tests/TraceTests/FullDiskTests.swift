import Chance
import Glibc
import Testing

@testable import Trace

/// A small file system of a test's own; nil where this user may not mount one.
private func withSmallDisk<Result>(_ path: String, kilobytes: Int, _ body: () throws -> Result) throws -> Result? {
  mkdir(path, 0o700)
  guard try run(["mount", "-t", "tmpfs", "-o", "size=\(kilobytes)k", "tmpfs", path]).status == 0 else { return nil }
  defer { _ = try? run(["umount", "-l", path]) }
  return try body()
}

@Suite(.enabled(if: geteuid() == 0, "needs root: mounts a small tmpfs")) struct FullDiskTests {
  let scratch = Scratch()

  @Test("A full disk ends the recording with a message; the file is intact, and producers continue")
  func full() throws {
    var random = SeededGenerator(seed: 2)
    let ran: Void? = try withSmallDisk(scratch("disk"), kilobytes: 256) {
      var options = TraceWriter.Options()
      options.slotsPerChunk = 500
      let recording = try Recording(scratch("disk/t.nvpt"), options: options)
      var producer = RingProducer(try recording.ring(.host), whenFull: .wait)
      let slots = randomSlots(events: 30_000, &random, kinds: [.registerWrite])
      producer.append(slots, draining: recording.writer)
      let summary = recording.writer.finish()

      let error = try #require(summary.error).description
      #expect(
        error.hasPrefix("\(recording.path): No space left on device: the recording stops at ")
          && error.hasSuffix(" events; the part written so far is readable"))
      #expect(summary.events > 0 && summary.events + summary.lost == 30_000)
      let reader = try TraceReader(path: recording.path)
      #expect(reader.damage == nil)
      #expect(!reader.isComplete)
      #expect(reader.totals.events == summary.events)
      let read = try decodeAll(reader, stream: 0)
      #expect(read.records == Array(slots.inNanoseconds(.identity).records.prefix(read.records.count)))
    }
    #expect(ran != nil, "not run: no tmpfs could be mounted")
  }

  @Test("A flight recorder without room to compact its chunks leaves the holes")
  func flightRecorder() throws {
    var random = SeededGenerator(seed: 2)
    let ran: Void? = try withSmallDisk(scratch("disk"), kilobytes: 512) {
      var options = TraceWriter.Options()
      options.slotsPerChunk = 500
      options.keepBytes = 300_000
      let recording = try Recording(scratch("disk/t.nvpt"), options: options)
      var producer = RingProducer(try recording.ring(.host), whenFull: .wait)
      let slots = randomSlots(events: 60_000, &random, kinds: [.registerWrite])
      producer.append(slots, draining: recording.writer)
      let summary = recording.writer.finish()
      #expect(summary.error == nil)
      let reader = try TraceReader(path: recording.path)
      #expect(reader.isComplete)
      #expect(reader.totals.lost == 0)
      let read = try decodeAll(reader, stream: 0)
      #expect(read.records == Array(slots.inNanoseconds(.identity).records.suffix(read.records.count)))
      #expect(access(recording.path + ".new", F_OK) != 0)
    }
    #expect(ran != nil, "not run: no tmpfs could be mounted")
  }
}
