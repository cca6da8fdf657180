import Glibc
import Testing

@testable import Trace

@Suite("A trace that is not whole")
struct DamageTests {
  /// A small trace with three chunks.
  private func small(_ folder: Folder) throws -> [UInt8] {
    var recording = try Recording(folder, header.id, seed: 9)
    let writer = try TraceWriter(path: "\(folder.path)/a.nvpt", header: header)
    writer.add(recording.ring)
    for _ in 0..<3 {
      recording.checkpoint()
      for _ in 0..<6 { recording.appendAny() }
    }
    try writer.finish()
    return try bytes("\(folder.path)/a.nvpt")
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    let count = try #require(Optional(read(descriptor, &buffer, buffer.count)))
    return Array(buffer[..<count])
  }

  /// Write bytes and read all that can be read of them.
  /// - Returns: chunks, and the first complaint.
  private func probe(_ bytes: ArraySlice<UInt8>, _ folder: Folder) throws -> (chunks: Int, complaint: TraceError?) {
    let path = "\(folder.path)/b.nvpt"
    let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
    _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
    do throws(TraceError) {
      let reader = try TraceReader(path: path)
      let decoder = ChunkDecoder()
      for chunk in reader.chunks.indices { _ = try reader.decode(chunk, with: decoder) }
      return (reader.chunks.count, reader.damage)
    } catch {
      return (0, error)
    }
  }

  @Test("cut at any byte, it is readable up to its last whole chunk, and says where it ends")
  func isCut() throws {
    let folder = Folder()
    let whole = try small(folder)
    let full = try probe(whole[...], folder)
    #expect(full.chunks == 3 && full.complaint == nil)
    for end in 0..<whole.count {
      let (chunks, complaint) = try probe(whole[..<end], folder)
      #expect(chunks <= 3)
      let text = try #require(complaint?.description)
      #expect(text.contains("b.nvpt"))
    }
  }

  @Test("with any bit flipped, it is refused with chunk and place, or reads without harm")
  func isFlipped() throws {
    let folder = Folder()
    let whole = try small(folder)
    for place in whole.indices {
      var changed = whole
      changed[place] ^= 1 << UInt8(place % 8)
      let (chunks, complaint) = try probe(changed[...], folder)
      // A change of the index only sends the reader through the chunks.
      if chunks < 3 { #expect(complaint != nil, "byte \(place)") }
      if let complaint, chunks > 0, chunks < 3 {
        #expect(complaint.description.contains("chunk \(chunks) at byte"), "byte \(place): \(complaint)")
      }
    }
  }

  @Test("a newer format is refused in one line")
  func isNewer() throws {
    let folder = Folder()
    var whole = try small(folder)
    whole[8] = 2
    let newer = try probe(whole[...], folder).complaint?.description ?? ""
    #expect(newer.contains("newer nvmepf (format 2.0)"))
    let script = try probe([UInt8]("#!/bin/sh".utf8)[...], folder).complaint?.description ?? ""
    #expect(script.contains("not a trace"))
  }

  @Test("what a killed recorder left in file and ring is all there after a repair, once")
  func isRepaired() throws {
    for killedAfterWrite in [false, true] {
      let id = TraceID.random()
      let own = TraceHeader(
        id: id, startRealtimeNs: 0, ticksPerSecond: 1_000_000_000, startTicks: 0, metadata: [])
      let folder = Folder()
      let directory = try RecordingDirectory(creating: id)
      defer { RecordingDirectory.remove(directory.path) }
      let path = "\(folder.path)/a.nvpt"
      let ring = try Ring(
        creating: "\(directory.path)/engine-0.ring", capacity: 4096, source: .engine, stream: 0, traceID: id)
      var producer = RingProducer(ring, whenFull: .wait)
      var writer: TraceWriter? = try TraceWriter(path: path, header: own)
      writer?.add(ring)
      for time in 0..<300 as Range<UInt64> {
        let kind = time % 100 == 0 ? EventKind.checkpoint : .clock
        producer.append(Record(time: time, kind: kind, flags: kind == .checkpoint ? EventFlag.bytes : 0))
      }
      writer?.drain()
      // Killed between writing a chunk and giving its slots back: they are in both places.
      if killedAfterWrite { ring.tail.pointee.store(100, ordering: .releasing) }
      writer = nil
      let outcome = try TraceRepair.repair(path, output: path)
      let reader = try TraceReader(path: path)
      #expect(reader.isComplete && outcome.recovered == 100)
      let times = try contents(reader).map(\.time)
      #expect(times == Array(0..<300))
      #expect(access(directory.path, F_OK) != 0)
    }
  }

  @Test("a trace that is being recorded is not repaired")
  func isLocked() throws {
    let folder = Folder()
    let path = "\(folder.path)/a.nvpt"
    let writer = try TraceWriter(path: path, header: header)
    #expect(throws: TraceError.self) { try TraceRepair.repair(path, output: path) }
    try writer.finish()
  }

  @Test("a flight recorder keeps the newest chunks, from a checkpoint on, also when it was killed")
  func keepsNewest() throws {
    for isKilled in [false, true] {
      let folder = Folder()
      let path = "\(folder.path)/a.nvpt"
      var recording = try Recording(folder, header.id, seed: 3)
      var writer: TraceWriter? = try TraceWriter(path: path, header: header, keepBytes: 30_000)
      writer?.add(recording.ring)
      for _ in 0..<60 {
        recording.checkpoint()
        for _ in 0..<30 { recording.appendAny() }
        writer?.drain()
      }
      if isKilled { writer = nil } else { try writer?.finish() }
      let reader = try TraceReader(path: path)
      #expect(reader.chunks.count >= 2 && reader.chunks.count < 60)
      #expect(reader.chunks[0].header.beginsWithCheckpoint)
      let kept = try contents(reader)
      let end = isKilled ? recording.slotsBeforeCheckpoint : recording.expected.count
      #expect(kept == Array(recording.expected[(end - kept.count)..<end]))
    }
  }
}
