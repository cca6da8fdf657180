import Chance
@_spi(Places) import Events
import Glibc
import Testing

@testable import Trace

/// Small files that demand much: no verb takes more than 1 GiB for any of them.
@Suite(.serialized) struct MemoryTests {
  static let ceiling = 1 << 30
  let scratch = Scratch()

  /// Every verb that reads a trace.
  private func verbs(_ path: String) -> [[String]] {
    [
      ["info", path], ["report", path], ["report", "--by", "queue", path], ["replay", path],
      ["dump", "--limit", "3", "--qid", "9", path], ["repair", path, "-o", scratch("repaired.nvpt")],
      ["merge", path, path, "-o", scratch("merged.nvpt")],
    ]
  }

  private func holdCeiling(_ path: String) throws {
    for words in verbs(path) {
      let status = try run(words)
      #expect(status & 0x7f == 0 && [0, 1, 2].contains(status >> 8), "\(words) ended with \(status)")
    }
  }

  @Test("Many streams, each of chunks that become large", arguments: [23, 64])
  func streams(count: Int) throws {
    for source in [Source.engine, .kernel] {
      let path = scratch("\(source).nvpt")
      try write(path, streams: (0..<count).map { StreamID(source: source, stream: UInt16($0)) }, payloads(8))
      try holdCeiling(path)
    }
  }

  @Test("As many streams as fit are read, and more are refused in one line")
  func limit() throws {
    for (count, isRead) in [(23, true), (64, false)] {
      let path = scratch("t.nvpt")
      try write(path, streams: (0..<count).map { StreamID(source: .host, stream: UInt16($0)) }, payloads(8))
      let reader = try TraceReader(path: path)
      if isRead {
        var events = try MergedEvents(reader)
        var found = 0
        while try events.next() != nil { found += 1 }
        #expect(found == 8 * count)
      } else {
        #expect { _ = try MergedEvents(reader) } throws: { "\($0)".contains("record fewer streams") }
      }
    }
  }

  @Test("Streams whose columns all vary")
  func planes() throws {
    var random = SeededGenerator(seed: 3)
    var slots = Slots()
    let noise = (0..<64).map { _ in random.next() }
    for index in 0..<20_000 {
      slots.append(
        Record(
          time: UInt64(index) &* noise[index & 63], kind: .doorbell, flags: UInt8(index & 127), qid: UInt16(index & 7),
          a: noise[index % 61], b: noise[index % 59]))
    }
    let path = scratch("t.nvpt")
    try write(path, streams: (0..<20).map { StreamID(source: .host, stream: UInt16($0)) }, slots)
    try holdCeiling(path)
  }

  @Test("An index entry that understates its chunk is damage")
  func index() throws {
    let path = scratch("t.nvpt")
    let file = try write(path, streams: [StreamID(source: .host, stream: 0)], payloads(8), saying: { $0.slots = 8 })
    #expect(file.count == 1)
    let reader = try TraceReader(path: path)
    var decoded = try DecodedChunk()
    #expect { try reader.decode(0, into: &decoded) } throws: { "\($0)".contains("differs from its index entry") }
  }

  @Test("The largest index that a trace can have")
  func largestIndex() throws {
    let path = scratch("t.nvpt")
    let chunk = try write(path, streams: [StreamID(source: .kernel, stream: 0)], payloads(1))[0]
    try writeIndex(path, of: chunk, count: TraceIndex.chunksMax)
    #expect(try TraceReader(path: path).chunks.count == TraceIndex.chunksMax)
    for words in [["report", path], ["repair", path, "-o", scratch("repaired.nvpt")]] {
      #expect(try run(words) & 0x7f == 0, "\(words) ended by a signal")
    }
  }

  // MARK: Bombs

  /// Events of 2 MiB of zeros each, which take next to nothing in a file.
  private func payloads(_ count: Int) -> Slots {
    var slots = Slots()
    let bytes = [UInt8](repeating: 0, count: 65_534 * Record.size)
    for index in 0..<count {
      let record = Record(
        time: UInt64(index), kind: .payload, flags: Record.carriesBytesFlag, qid: 1, b: UInt64(bytes.count))
      slots.append(record, bytes)
    }
    return slots
  }

  /// A trace whose streams have a chunk each, all alike.
  /// - Parameter saying: what the index has in a chunk's header instead.
  @discardableResult
  private func write(
    _ path: String, streams: [StreamID], _ slots: Slots, saying change: (inout ChunkHeader) -> Void = { _ in }
  ) throws -> [ChunkPlace] {
    unlink(path)
    var file = try TraceFile(creating: path)
    let header = TraceHeader(
      id: .random(), scale: .identity, startMonotonic: 0, startRealtime: 0, metadata: [("host", "bomb")])
    try file.append(try header.encoded())
    let encoder = try ChunkEncoder()
    var places: [ChunkPlace] = []
    for id in streams {
      let builder = ChunkBuilder(scale: .identity)
      _ = try slots.records.withUnsafeBufferPointer {
        try builder.append($0, slotsMax: $0.count, stopAtCheckpoint: false)
      }
      var header = ChunkHeader(id, sequence: 0, firstEvent: 0, ringEnd: 0)
      let offset = file.end
      try encoder.append(builder, &header, to: &file)
      change(&header)
      places.append(ChunkPlace(offset: offset, header: header))
    }
    try file.append(TraceIndex.encoded(places, at: file.end, end: nil))
    return places
  }

  /// Put an index of `count` chunks, most of them in a hole, behind the first chunk.
  private func writeIndex(_ path: String, of chunk: ChunkPlace, count: Int) throws {
    var header = chunk.header
    header.bodyLength = 0
    let hole = (1..<count).map {
      ChunkPlace(offset: chunk.end + UInt64($0 - 1) * UInt64(ChunkHeader.size), header: header)
    }
    let end = chunk.end + UInt64(count) * UInt64(ChunkHeader.size)
    let index = TraceIndex.encoded([chunk] + hole, at: end, end: nil)
    let descriptor = open(path, O_WRONLY)
    defer { close(descriptor) }
    try #require(ftruncate(descriptor, off_t(end)) == 0)
    try #require(pwrite(descriptor, index.base, index.count, off_t(end)) == index.count)
  }

  /// Run nvmepf with no more memory than the ceiling, which counts what is allocated rather than what is resident: the
  /// stricter of the two, and one that the size of the process that starts it does not change.
  private func run(_ words: [String]) throws -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    for descriptor: Int32 in [1, 2] {
      posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
    }
    defer { posix_spawn_file_actions_destroy(&actions) }
    let limited = ["sh", "-c", "ulimit -d \(MemoryTests.ceiling >> 10) && exec \"$0\" \"$@\"", try tool("nvmepf")]
    var arguments: [UnsafeMutablePointer<CChar>?] = (limited + words).map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var (child, status) = (pid_t(), Int32(0))
    try #require(posix_spawnp(&child, arguments[0]!, &actions, nil, &arguments, environ) == 0)
    try #require(waitpid(child, &status, 0) == child)
    return status
  }
}
