import CPlatform
import Glibc

/// Writes a trace: drains rings, cuts what they hold into chunks, compresses them, and frees a ring's slots only once
/// their chunk lies in the file.
///
/// When the file can take no more, the error is kept and the rings are emptied all the same: recording stops, what is
/// recorded goes on.
public final class TraceWriter {
  /// How far the recording has come.
  public struct Progress: Sendable {
    public var events: UInt64 = 0
    public var commands: UInt64 = 0
    public var lost: UInt64 = 0
    public var chunks = 0
    /// Bytes of the file.
    public var bytes: UInt64 = 0
    /// The fullest ring, 0 to 1.
    public var ringFill = 0.0
  }

  public let path: String
  public private(set) var progress = Progress()
  public private(set) var error: TraceError?

  private var descriptor: Int32
  private let headerBytes: [UInt8]
  private let traceID: TraceID
  private var encoder: ChunkEncoder
  private var streams: [Stream] = []
  /// Chunks that the file holds, oldest first.
  private var index: [(offset: UInt64, bytes: UInt64)] = []
  private var offset: UInt64
  /// A flight recorder keeps the newest chunks, about this many bytes; nil keeps all.
  private let keepBytes: UInt64?
  private var keptBytes: UInt64 = 0

  /// A ring and how far it is in the trace.
  private final class Stream {
    var consumer: RingConsumer
    /// Slots at the beginning of what is available that hold no place to cut.
    var scanned = 0
    var sequence: UInt32 = 0
    var events: UInt64 = 0
    var since = Clock.monotonicNs()
    let path: String

    /// - Parameter last: the chunk that the trace already has of this ring; nil for none.
    init(_ ring: Ring, after last: ChunkHeader?) {
      path = ring.path
      consumer = RingConsumer(ring)
      guard let last else { return }
      sequence = last.sequence &+ 1
      events = last.firstEvent &+ UInt64(last.events)
      // Slots are freed after their chunk is written: a recorder that was killed in between left them here too.
      let written = last.ringEnd &- consumer.position
      if let slots = try? consumer.available(), written <= UInt64(slots.count) { consumer.free(Int(written)) }
    }
  }

  /// A chunk that no checkpoint ended is cut here.
  private static let flushNs: UInt64 = 1_000_000_000

  /// - Parameter keepBytes: keep only the newest chunks, about this many bytes.
  public convenience init(path: String, header: TraceHeader, keepBytes: UInt64? = nil) throws(TraceError) {
    try self.init(path: path, header: header, schema: .own, keepBytes: keepBytes)
  }

  init(path: String, header: TraceHeader, schema: Schema, keepBytes: UInt64? = nil) throws(TraceError) {
    self.path = path
    headerBytes = header.encode(schema)
    traceID = header.id
    self.keepBytes = keepBytes
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .system("cannot write \(path)", errno) }
    // Held as long as this process lives; it tells a repair to keep off, and two recorders from each other.
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw TraceError(.system(EBUSY), "\(path) is being recorded to already: choose another file with -o")
    }
    ftruncate(descriptor, 0)
    encoder = ChunkEncoder(TimeScale(startTicks: header.startTicks, ticksPerSecond: header.ticksPerSecond))
    offset = UInt64(headerBytes.count)
    progress.bytes = offset
    do throws(TraceError) {
      try write(headerBytes, to: descriptor, at: 0)
    } catch {
      close(descriptor)
      throw error
    }
  }

  deinit { close(descriptor) }

  // MARK: Rings

  /// Record this ring too, from now on.
  public func add(_ ring: Ring) { add(ring, after: nil) }

  func add(_ ring: Ring, after last: ChunkHeader?) { streams.append(Stream(ring, after: last)) }

  /// Add the rings of this trace that have appeared in a directory. What is not such a ring is left alone.
  public func addRings(in directory: String) {
    for path in RecordingDirectory.rings(in: directory) where !streams.contains(where: { $0.path == path }) {
      guard let ring = try? Ring(opening: path), ring.traceID == traceID else { continue }
      add(ring)
    }
  }

  // MARK: Draining

  /// Write what can be cut into chunks.
  /// - Parameter all: everything that the rings hold, to the last event.
  public func drain(all: Bool = false) {
    progress.ringFill = 0
    for stream in streams {
      do throws(TraceError) {
        try drain(stream, all: all)
      } catch {
        fail(error)
        discard(stream)
      }
    }
    streams.removeAll { stream in
      let isDone = stream.consumer.ring.source == .host && stream.consumer.ring.isClosed && stream.consumer.isEmpty
      // Its file would be taken for a new ring.
      if isDone { stream.consumer.ring.removeFile() }
      return isDone
    }
  }

  private func drain(_ stream: Stream, all: Bool) throws(TraceError) {
    let capacity = Int(stream.consumer.ring.capacity)
    let isEngine = stream.consumer.ring.source == .engine
    while true {
      let slots = try stream.consumer.available()
      progress.ringFill = max(progress.ringFill, Double(slots.count) / Double(capacity))
      let most = min(isEngine ? capacity / 2 : capacity / 4, Format.chunkSlotsMax / 2)
      var cut: Int?
      var position = stream.scanned
      while position < slots.count, cut == nil {
        if position > 0, slots[position].kind == EventKind.checkpoint.rawValue || position >= most { cut = position }
        if cut == nil { position += 1 + Int(slots[position].tail) }
      }
      stream.scanned = min(position, slots.count)
      // An engine's chunks end where its checkpoints are; a host's at least every second.
      let isOld = !isEngine && Clock.monotonicNs() - stream.since >= TraceWriter.flushNs
      if cut == nil, all || isOld || stream.consumer.ring.isClosed, slots.count > 0 { cut = slots.count }
      guard let cut else { return }
      try append(UnsafeBufferPointer(rebasing: slots[..<cut]), stream)
      stream.consumer.free(cut)
      stream.scanned = 0
      stream.since = Clock.monotonicNs()
    }
  }

  private func append(_ slots: UnsafeBufferPointer<Record>, _ stream: Stream) throws(TraceError) {
    guard error == nil else { return }
    let summary = try encoder.encode(slots)
    let body = encoder.body
    let ring = stream.consumer.ring
    let chunk = ChunkHeader(
      stream: ring.stream, source: ring.source, beginsWithCheckpoint: slots[0].event == .checkpoint,
      sequence: stream.sequence, firstEvent: stream.events, events: UInt32(summary.events), slots: UInt32(slots.count),
      firstTime: summary.firstTime, lastTime: summary.lastTime, ring: ring.serial,
      ringEnd: stream.consumer.position &+ UInt64(slots.count), commands: summary.commands, lost: summary.lost,
      bodyBytes: UInt32(body.count), bodyChecksum: checksum(body))
    try append(chunk, body)
    stream.sequence &+= 1
    stream.events &+= UInt64(summary.events)
  }

  /// Put a chunk behind the others.
  func append(_ chunk: ChunkHeader, _ body: UnsafeRawBufferPointer) throws(TraceError) {
    var whole = ByteWriter()
    chunk.encode().withUnsafeBytes { whole.put($0) }
    whole.put(body)
    try write(whole.bytes, to: descriptor, at: offset)
    let size = UInt64(whole.bytes.count)
    index.append((offset, size))
    offset += size
    keptBytes += size
    progress.chunks += 1
    progress.events &+= UInt64(chunk.events)
    progress.commands &+= chunk.commands
    progress.lost &+= chunk.lost
    progress.bytes = offset
    if let keepBytes { dropOldest(keepBytes) }
  }

  /// The oldest chunks give their room back; the file keeps its holes until it is closed.
  private func dropOldest(_ keepBytes: UInt64) {
    var dropped = 0
    while keptBytes > keepBytes, index.count - dropped > 2 {
      keptBytes -= index[dropped].bytes
      dropped += 1
    }
    guard dropped > 0 else { return }
    // Only whole blocks become free: the hole begins in the block that the last one could not take.
    let end = index[dropped].offset
    let begin = max(UInt64(headerBytes.count), index[0].offset & ~0xffff)
    nvmepf_punch_hole(descriptor, begin, end - begin)
    index.removeFirst(dropped)
  }

  private func discard(_ stream: Stream) {
    guard let slots = try? stream.consumer.available() else { return }
    stream.consumer.free(slots.count)
    stream.scanned = 0
  }

  private func fail(_ error: TraceError) {
    guard self.error == nil else { return }
    self.error = error
    // What was written of the last chunk would read as damage.
    ftruncate(descriptor, off_t(offset))
  }

  private func write(_ bytes: [UInt8], to descriptor: Int32, at place: UInt64) throws(TraceError) {
    var written = 0
    while written < bytes.count {
      let count = bytes.withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress! + written, bytes.count - written, off_t(place) + off_t(written))
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let number = count == 0 ? ENOSPC : errno
        throw .system(
          "\(path): the recording stops after \(progress.events) events, which stay readable", number)
      }
      written += count
    }
  }

  // MARK: The end

  /// Write what the rings still hold, an index and a footer; the ring files go.
  /// - Throws: what kept the recording from being complete; the file is readable all the same.
  public func finish() throws(TraceError) {
    drain(all: true)
    for stream in streams { stream.consumer.ring.removeFile() }
    if error == nil {
      do throws(TraceError) {
        if keepBytes != nil { try compact() }
        try writeIndex()
      } catch { fail(error) }
    }
    if let error { throw error }
  }

  private func writeIndex() throws(TraceError) {
    var writer = ByteWriter()
    writer.put(Format.indexMagic)
    writer.put(UInt32(index.count))
    for chunk in index { writer.put(chunk.offset) }
    writer.put(checksum(writer.bytes))
    writer.put(offset)
    writer.put(Format.footerMagic)
    try write(writer.bytes, to: descriptor, at: offset)
    progress.bytes = offset + UInt64(writer.bytes.count)
    guard fsync(descriptor) == 0 else { throw .system("cannot write \(path)", errno) }
  }

  /// A flight recorder's file without the holes in front: what is kept is copied to a new file that takes the place of
  /// this one only when it is whole.
  private func compact() throws(TraceError) {
    let unfinished = path + ".compact"
    let target = open(unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard target >= 0 else { throw .system("cannot write \(unfinished)", errno) }
    var places: [(offset: UInt64, bytes: UInt64)] = []
    var end = UInt64(headerBytes.count)
    do throws(TraceError) {
      guard flock(target, LOCK_EX | LOCK_NB) == 0 else { throw .system("cannot write \(unfinished)", errno) }
      try write(headerBytes, to: target, at: 0)
      for chunk in index {
        var bytes = [UInt8](repeating: 0, count: Int(chunk.bytes))
        guard pread(descriptor, &bytes, bytes.count, off_t(chunk.offset)) == bytes.count else {
          throw .system("cannot read \(path)", errno)
        }
        try write(bytes, to: target, at: end)
        places.append((end, chunk.bytes))
        end += chunk.bytes
      }
      guard fsync(target) == 0, rename(unfinished, path) == 0 else { throw .system("cannot write \(path)", errno) }
    } catch {
      close(target)
      unlink(unfinished)
      throw error
    }
    close(descriptor)
    (descriptor, index, offset) = (target, places, end)
  }
}
