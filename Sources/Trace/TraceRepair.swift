import Glibc

/// Makes a closed trace of one whose recorder was killed or whose end is damaged.
public enum TraceRepair {
  public struct Outcome: Sendable {
    public var chunks = 0
    /// Events that lay in rings only.
    public var recovered: UInt64 = 0
    /// Bytes that are given up: behind the last whole chunk, and in rings that continued what was there.
    public var droppedBytes: UInt64 = 0
    public var events: UInt64 = 0
  }

  /// Keep every whole chunk of `path`, add what the rings of its recording still hold, and write it to `output`, which
  /// may be the same file.
  /// - Throws: when the trace is still being recorded, or cannot be read or written; `path` is then as it was.
  public static func repair(_ path: String, output: String) throws(TraceError) -> Outcome {
    let lock = try lock(path)
    defer { close(lock) }
    let reader = try TraceReader(path: path)
    let unfinished = output + ".repair"
    let writer = try TraceWriter(path: unfinished, header: reader.header, schema: reader.schema)
    var outcome = Outcome(
      chunks: reader.chunks.count, droppedBytes: reader.isComplete ? 0 : reader.bytes - reader.intactBytes)
    do throws(TraceError) {
      for (number, chunk) in reader.chunks.enumerated() {
        guard let body = reader.body(of: chunk) else {
          throw TraceError(.damaged, "\(path): chunk \(number) at byte \(chunk.offset) fails its checksum")
        }
        try body[...].withContiguousBytes { (bytes) throws(TraceError) in try writer.append(chunk.header, bytes) }
      }
      let before = writer.progress.events
      outcome.droppedBytes += addRings(of: reader, to: writer)
      try writer.finish()
      outcome.events = writer.progress.events
      outcome.recovered = outcome.events &- before
    } catch {
      unlink(unfinished)
      throw error
    }
    guard rename(unfinished, output) == 0 else { throw .system("cannot write \(output)", errno) }
    RecordingDirectory.remove(RecordingDirectory.path(of: reader.header.id))
    return outcome
  }

  /// A recorder holds its file locked as long as it lives.
  private static func lock(_ path: String) throws(TraceError) -> Int32 {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system("cannot read \(path)", errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw TraceError(.system(EBUSY), "\(path) is still being recorded: end the recording first")
    }
    return descriptor
  }

  /// The rings that the recorder left, each from where its last whole chunk ends.
  /// - Returns: bytes in rings that do not continue what the trace still has: their beginning was in a damaged chunk.
  private static func addRings(of reader: TraceReader, to writer: TraceWriter) -> UInt64 {
    var dropped: UInt64 = 0
    for path in RecordingDirectory.rings(in: RecordingDirectory.path(of: reader.header.id)) {
      guard let ring = try? Ring(opening: path), ring.traceID == reader.header.id else { continue }
      let consumer = RingConsumer(ring)
      guard let slots = try? consumer.available() else { continue }
      let last = reader.chunks.last { $0.header.ring == ring.serial }?.header
      // Slots are freed after their chunk is written: what is freed is in the trace, and some that is not may be too.
      let written = (last?.ringEnd ?? 0) &- consumer.position
      // A flight recorder may have dropped every chunk of a ring; then nothing behind the chunks is damaged.
      if written <= UInt64(slots.count) || (last == nil && reader.intactBytes == reader.bytes) {
        writer.add(ring, after: last)
      } else {
        dropped += UInt64(slots.count * Record.size)
      }
    }
    return dropped
  }
}
