import Chance
@_spi(Places) import Events
import Glibc
import Testing

@testable import Trace

/// The numbers that `trace-crash` gave the events of a stream, as the trace has them.
private func numbers(_ reader: TraceReader, stream: UInt16) throws -> [UInt64] {
  try decodeAll(reader, stream: stream).events.map(\.record)
    .filter { $0.event == .registerWrite }.map(\.a)
}

/// The number of the newest event in a ring.
private func newest(in path: String) throws -> UInt64? {
  let consumer = RingConsumer(try Ring(opening: path, leavingItAlone: true))
  let slots = Slots(records: Array(try consumer.available()))
  return slots.events.last { $0.record.event == .registerWrite }?.record.a
}

private func startChild(_ path: String, _ id: TraceID) throws -> pid_t {
  var child = pid_t()
  let words: [String] = [try tool("trace-crash"), path, id.description]
  var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
  arguments.append(nil)
  let error = posix_spawn(&child, arguments[0]!, nil, nil, &arguments, nil)
  for argument in arguments { free(argument) }
  #expect(error == 0)
  return child
}

@Suite(.serialized) struct RepairTests {
  let scratch = Scratch()

  @Test("A recording killed at any time loses and duplicates nothing", arguments: 0..<8 as Range<UInt64>)
  func killed(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let path = scratch("t.nvpt")
    let id = TraceID(high: random.next(), low: random.next())
    let child = try startChild(path, id)
    // Until it records, and then for as long as the seed says: work of this process, not time, decides.
    var rings: [String] = []
    while rings.count < 2 {
      rings = RecordingDirectory.left(by: id, tracePath: path).first?.ringPaths() ?? []
    }
    var status: Int32 = 0
    while (try? TraceReader(path: path).chunks.count) ?? 0 < 1 { try #require(waitpid(child, &status, WNOHANG) == 0) }
    for _ in 0..<random.next() % 2_000_000 { _ = random.next() }
    kill(child, SIGKILL)
    waitpid(child, &status, 0)

    let newestInRings = try rings.map { try newest(in: $0) }
    let report = try TraceRepair.repair(path)
    let reader = try TraceReader(path: path)
    #expect(reader.isComplete)
    #expect(reader.totals.lost == 0)
    #expect(report.problems.isEmpty)
    for stream in 0..<2 as Range<UInt16> {
      let numbers = try numbers(reader, stream: stream)
      #expect(numbers == Array(0..<UInt64(numbers.count)))
      if let last = newestInRings[Int(stream)] { #expect(numbers.last == last) }
    }
    #expect(RecordingDirectory.left(by: id, tracePath: path).isEmpty)
  }

  /// A recording of two streams that was never closed, and what its streams hold.
  private func unfinished(chunks: Int) throws -> (path: String, recording: Recording) {
    var random = SeededGenerator(seed: 1)
    var options = TraceWriter.Options()
    options.slotsPerChunk = 64
    let recording = try Recording(scratch("t.nvpt"), options: options)
    var producer = RingProducer(try recording.ring(.host), whenFull: .drop)
    producer.append(randomSlots(events: 64 * chunks, &random, kinds: [.submit]), draining: recording.writer)
    return (recording.path, recording)
  }

  @Test("A chunk written but not yet released in its ring is not duplicated")
  func notDoubled() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host)
    var producer = RingProducer(ring, whenFull: .drop)
    for number in 0..<100 as Range<UInt64> { producer.append(Record(time: number, kind: .registerWrite, a: number)) }
    recording.writer.drain()
    let held = try readFile(ring.path)
    _ = recording.writer.finish()
    // As it was when the chunk had been written, and then a few more events.
    mkdir(recording.directory.path, 0o700)
    try writeFile(ring.path, held)
    var resumed = RingProducer(try Ring(opening: ring.path), whenFull: .drop)
    for number in 100..<110 as Range<UInt64> { resumed.append(Record(time: number, kind: .registerWrite, a: number)) }
    // The writer's lock goes with its process; here with a copy of the file.
    let copy = scratch("copy.nvpt")
    try writeFile(copy, try readFile(recording.path))
    let report = try TraceRepair.repair(copy)
    #expect(report.eventsRecovered == 10)
    #expect(try numbers(try TraceReader(path: copy), stream: 0) == Array(0..<110))
  }

  @Test("A copy of a running recording is repaired without that recording's rings, which stay")
  func runningCopy() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host)
    var producer = RingProducer(ring, whenFull: .drop)
    producer.append(Record(time: 1, kind: .registerWrite))
    let copy = scratch("copy.nvpt")
    try writeFile(copy, try readFile(recording.path))
    let report = try TraceRepair.repair(copy)
    #expect(report.eventsRecovered == 0)
    #expect(
      report.problems.map(\.description).contains {
        $0.contains("is a copy of \(recording.path), which is being recorded")
      })
    #expect(access(ring.path, F_OK) == 0)
    #expect(recording.writer.finish().events == 1)
  }

  @Test("A copy of a killed recording takes events from its rings, and leaves them for the original")
  func killedCopy() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let ring = try recording.ring(.host)
    var producer = RingProducer(ring, whenFull: .drop)
    producer.append(Record(time: 1, kind: .registerWrite))
    unlink(recording.directory.file("lock"))
    let copy = scratch("copy.nvpt")
    try writeFile(copy, try readFile(recording.path))
    #expect(try TraceRepair.repair(copy).eventsRecovered == 1)
    #expect(access(ring.path, F_OK) == 0)
  }

  @Test("A trace is readable only by its owner; repair keeps mode and links, and replaces nothing else")
  func modes() throws {
    func mode(_ path: String) -> mode_t {
      var status = stat()
      lstat(path, &status)
      return status.st_mode
    }
    let path = scratch("t.nvpt")
    do { _ = try Recording(path).writer.finish() }
    #expect(mode(path) & 0o777 == 0o600)
    chmod(path, 0o640)
    try writeFile(path + ".new", [1, 2, 3])
    symlink(path, scratch("link.nvpt"))
    _ = try TraceRepair.repair(scratch("link.nvpt"))
    #expect(mode(scratch("link.nvpt")) & S_IFMT == S_IFLNK)
    #expect(mode(path) & 0o777 == 0o640)
    #expect(try readFile(path + ".new") == [1, 2, 3])
    mkdir(scratch("folder"), 0o700)
    #expect(throws: TraceError.self) { _ = try TraceRepair.repair(path, output: scratch("folder")) }
  }

  @Test("Leftovers of a killed recording are removed, except events that its trace lacks")
  func sweep() throws {
    let recording = try Recording(scratch("t.nvpt"))
    let directory = recording.directory
    let ring = try recording.ring(.host)
    var producer = RingProducer(ring, whenFull: .drop)
    producer.append(Record(time: 1, kind: .registerWrite))
    // A running one is nobody's business.
    #expect(!RecordingDirectory.sweep().contains { $0.path == directory.path })
    #expect(access(ring.path, F_OK) == 0)
    // As a kill leaves it: the lock is there, and free.
    unlink(directory.file("lock"))
    try writeFile(directory.file("lock"), [])
    #expect(RecordingDirectory.sweep().filter { $0.path == directory.path }.map(\.trace) == [recording.path])
    #expect(access(ring.path, F_OK) == 0)
    // A trace that was moved still needs them.
    unlink(recording.path)
    #expect(!RecordingDirectory.sweep().contains { $0.path == directory.path })
    #expect(access(ring.path, F_OK) == 0)
    unlink(directory.file("trace"))
    _ = RecordingDirectory.sweep()
    #expect(access(directory.path, F_OK) != 0)
  }

  /// A directory that a start made and was killed before it held its lock.
  private func unfinishedDirectory(_ path: String, hasLock: Bool) throws {
    try #require(mkdir(path, 0o700) == 0)
    if hasLock { try writeFile("\(path)/lock.new", []) }
  }

  @Test("A directory whose creator was killed before it took the lock is removed", arguments: [false, true])
  func sweepUnfinished(hasLock: Bool) throws {
    let path = "/dev/shm/nvmepf-\(TraceID.random())"
    try unfinishedDirectory(path, hasLock: hasLock)
    _ = RecordingDirectory.sweep()
    #expect(access(path, F_OK) != 0)
  }

  @Test("A directory whose creator is just taking its lock is left alone")
  func sweepBeingMade() throws {
    let path = "/dev/shm/nvmepf-\(TraceID.random())"
    try unfinishedDirectory(path, hasLock: true)
    let descriptor = open("\(path)/lock.new", O_RDWR)
    try #require(flock(descriptor, LOCK_EX | LOCK_NB) == 0)
    _ = RecordingDirectory.sweep()
    #expect(access("\(path)/lock.new", F_OK) == 0)
    close(descriptor)
    _ = RecordingDirectory.sweep()
    #expect(access(path, F_OK) != 0)
  }

  @Test("Concurrent starts and sweeps do not disturb each other")
  func sweepWhileStarting() async throws {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { for _ in 0..<300 { _ = RecordingDirectory.sweep() } }
      group.addTask {
        for _ in 0..<300 {
          do {
            let directory = try RecordingDirectory(creating: .random(), tracePath: nil, ringBytes: 0)
            #expect(access(directory.file("lock"), F_OK) == 0)
            directory.remove()
          } catch { Issue.record(error) }
        }
      }
    }
  }

  @Test("Beside a trace, a directory without events is removed; one with events is named")
  func leftoverBeside() throws {
    func start() throws {
      try RecordingDirectory(creating: .random(), tracePath: scratch("t.nvpt"), ringBytes: .max).remove()
    }
    let path = scratch("t.nvpt.rings")
    for hasLock in [false, true] {
      try unfinishedDirectory(path, hasLock: hasLock)
      try start()
    }
    try unfinishedDirectory(path, hasLock: false)
    try writeFile("\(path)/lock", [])
    try start()
    try unfinishedDirectory(path, hasLock: false)
    try writeFile("\(path)/lock", [])
    let ring = try Ring(creating: "\(path)/0.ring", capacity: 128, source: .host, stream: 0, traceID: .random())
    var producer = RingProducer(ring, whenFull: .drop)
    producer.append(Record(time: 1, kind: .registerWrite))
    #expect { try start() } throws: { "\($0)".contains("run nvmepf repair \(scratch("t.nvpt"))") }
    #expect(access(ring.path, F_OK) == 0)
  }

  /// A start that would take the place of the trace at `path`.
  private func replace(_ path: String) throws {
    var options = TraceWriter.Options()
    options.keepsPrevious = true
    _ = try TraceWriter(path: path, id: .random(), scale: .identity, options: options).finish()
  }

  @Test("Leftovers of a killed recording are not overwritten before their repair", arguments: [".part", ".old"])
  func unrepaired(suffix: String) throws {
    try writeFile(scratch("t.nvpt"), [])
    // Its writer's lock goes with its process; here with a copy of the file.
    let recording = try Recording(scratch("killed.nvpt"))
    var producer = RingProducer(try recording.ring(.host), whenFull: .drop)
    producer.append(Record(time: 1, kind: .registerWrite))
    unlink(recording.directory.file("lock"))
    let left = scratch("t.nvpt") + suffix
    try writeFile(left, try readFile(recording.path))
    let bytes = try readFile(left)
    #expect { try replace(scratch("t.nvpt")) } throws: { "\($0)".contains("run nvmepf repair \(left)") }
    #expect(try readFile(left) == bytes)
    #expect(try TraceRepair.repair(left).eventsRecovered == 1)
    recording.directory.remove()
    try replace(scratch("t.nvpt"))
  }

  @Test("A .part that holds commands, or is no trace, is not overwritten")
  func neededPart() throws {
    try writeFile(scratch("t.nvpt"), [])
    let part = scratch("t.nvpt.part")
    try writeFile(
      part, Array("somebody's notes, longer than the header of any trace: \(String(repeating: "x", count: 200))".utf8))
    #expect { try replace(scratch("t.nvpt")) } throws: { "\($0)".contains("rename or remove it") }
    unlink(part)
    let recording = try Recording(part)
    var producer = RingProducer(try recording.ring(.engine), whenFull: .drop)
    var slots = Slots()
    slots.append(Record(time: 1, kind: .fetch, qid: 1), [UInt8](repeating: 0, count: 64))
    producer.append(slots, draining: recording.writer)
    #expect(recording.writer.finish().commands == 1)
    let bytes = try readFile(part)
    #expect(throws: TraceError.self) { try replace(scratch("t.nvpt")) }
    #expect(try readFile(part) == bytes)
  }

  @Test("Chunks after a damaged one are kept, and the gap is reported")
  func damagedChunk() throws {
    var (path, recording) = try unfinished(chunks: 6)
    _ = recording.writer.finish()
    recording = try Recording(scratch("other.nvpt"))
    let whole = try TraceReader(path: path)
    try #require(whole.chunks.count == 6)
    var bytes = try readFile(path)
    bytes[Int(whole.chunks[2].offset) + ChunkHeader.size + 3] ^= 1
    try writeFile(path, bytes)

    let report = try TraceRepair.repair(path)
    #expect(report.chunksKept == 5)
    #expect(report.bytesDropped == whole.chunks[2].header.length)
    let reader = try TraceReader(path: path)
    #expect(reader.isComplete)
    #expect(reader.totals.lost == 64)
    #expect(reader.lostEvents(before: reader.chunks[2].header, last: reader.chunks[1].header) == 64)
    var events = try MergedEvents(reader)
    var gaps: [UInt64] = []
    while let event = try events.next() {
      if event.record.pointee.event == .gap { gaps.append(event.record.pointee.a) }
    }
    #expect(gaps == [64])
  }

  @Test("With an output the damaged trace and its rings stay as they are")
  func intoOutput() throws {
    let (path, recording) = try unfinished(chunks: 3)
    // The writer's lock goes with its process; here with a copy of the file.
    let copy = scratch("copy.nvpt")
    let bytes = try readFile(path)
    try writeFile(copy, bytes)
    let report = try TraceRepair.repair(copy, output: scratch("out.nvpt"))
    #expect(report.chunksKept == 3)
    #expect(try readFile(copy) == bytes)
    #expect(recording.directory.ringPaths().count == 1)
    _ = recording.writer.finish()
  }

  @Test("A trace that is being recorded to is left alone")
  func running() throws {
    let (path, recording) = try unfinished(chunks: 3)
    #expect {
      try TraceRepair.repair(path)
    } throws: {
      "\($0)".contains("is being recorded to")
    }
    _ = recording.writer.finish()
  }
}
