import Glibc
import Platform
import Text

/// Records rings into a trace file. One thread owns it and calls `drain` repeatedly, then `finish`; `RecorderThread` is
/// such a thread.
public final class TraceWriter {
  /// How to write a trace.
  public struct Options: Sendable {
    /// Slots of 32 bytes at which a chunk ends if no checkpoint ends it earlier.
    public var slotsPerChunk = 1 << 15
    /// The same for the engine, whose chunks end at its checkpoints.
    public var engineSlotsPerChunk = 1 << 18
    /// Cut the other streams where the engine's chunks end, so that the chunks depend on the events alone and not on
    /// when they are read. Until then the events stay in their ring, which must be large enough.
    public var cutsWithEngine = false
    /// Flight recorder: keep the newest chunks that fit in this many bytes.
    public var keepBytes: UInt64?
    /// Keep an existing trace until a command is recorded, and afterwards as `.old`.
    public var keepsPrevious = false
    /// The clocks, including the ticks of the rings.
    public var clocks: @Sendable () -> ClockSnapshot = { .now(.cycles) }
    public init() {}
  }

  /// Maximum slots per chunk.
  static let slotsMax = ChunkHeader.slotsMax - Int(UInt16.max) - 1
  /// Longest time that events wait for their chunk, nanoseconds.
  private static let waitMax: UInt64 = 1_000_000_000
  /// Maximum rings recorded at a time.
  public static let streamsMax = 256

  public let progress = RecordingProgress()
  let options: Options
  let header: TraceHeader
  let headerLength: UInt64
  var file: TraceFile
  /// The chunks in the file, without those that a flight recorder discarded.
  var chunks: [ChunkPlace] = []
  /// The first of `chunks` that a flight recorder still keeps, and the bytes from there.
  var firstKept = 0
  var keptBytes: UInt64 = 0
  private let encoder: ChunkEncoder
  private let directory: RecordingDirectory?
  private var streams: [RecordedStream] = []
  private var streamsSeen: Set<StreamID> = []
  private var lookedForRings: UInt64 = 0
  private var error: TraceError?
  private var problems: [TraceError] = []

  /// Start the trace at `path`, replacing previous content.
  /// - Parameters:
  ///   - directory: where rings of this trace appear; the writer adopts them as they appear.
  ///   - metadata: notes for readers of the trace; at most 1 MiB in total.
  public init(
    path: String, id: TraceID, scale: TickScale, metadata: [(key: String, value: String)] = [],
    directory: RecordingDirectory? = nil, options: Options = Options()
  ) throws(TraceError) {
    let start = options.clocks()
    // The clocks at the tick of the trace's time 0, on its own scale.
    let since = TickScale(start: scale.start, multiplier: scale.multiplier).nanoseconds(start.ticks)
    header = TraceHeader(
      id: id, isFlightRecorder: options.keepBytes != nil, scale: scale, startMonotonic: start.monotonic &- since,
      startRealtime: start.realtime &- since, metadata: metadata)
    self.options = options
    self.directory = directory
    encoder = try ChunkEncoder()
    let bytes = try header.encoded()
    headerLength = UInt64(bytes.count)
    file = try options.keepsPrevious ? TraceFile(replacing: path) : TraceFile(creating: path)
    notePlace()
    try file.append(bytes)
    if options.keepBytes != nil { try file.punch(headerLength, headerLength + 1) }
  }

  /// Record this ring as well. Any thread may call it, through `progress` or `RecorderThread`.
  public func add(_ ring: Ring) { progress.newRings.withLock { $0.append(ring) } }

  /// Read the rings, write complete chunks, and return slots to the rings.
  /// - Returns: whether a ring fills so fast that the next call should follow at once.
  @discardableResult
  public func drain() -> Bool {
    let now = Clock.nanoseconds(CLOCK_MONOTONIC_COARSE)
    adoptRings(now)
    var fullest: UInt64 = 0
    for stream in streams {
      fullest = max(fullest, stream.fillPermille)
      if stream.ring.source == .engine || !options.cutsWithEngine { drain(stream, now) }
    }
    retireExhausted()
    progress.state.withLock {
      $0.ringFillPermille = fullest
      $0.ringPeakPermille = max(fullest, $0.ringPeakPermille)
    }
    return fullest > 125
  }

  /// Write everything that remains, the index and the footer, and remove the rings. Producers must have ended; later
  /// events are lost.
  /// - Parameter isWorthKeeping: the trace may replace a previous one though the engine fetched no command.
  public func finish(isWorthKeeping: Bool = false) -> RecordingSummary {
    adoptRings(.max)
    for stream in streams {
      drain(stream, 0)
      if !stream.builder.isEmpty { write(stream) }
      stream.tellOfDiscarded()
      if !stream.builder.isEmpty { write(stream) }
      stream.ring.removeFile()
    }
    streams = []
    let isDiscarded = (error != nil || !isWorthKeeping) && progress.commands == 0 && file.discard()
    if error == nil, !isDiscarded { close() }
    directory?.remove()
    return RecordingSummary(
      path: file.path, events: progress.events, commands: progress.commands, chunks: progress.chunks,
      bytes: file.end, lost: progress.lost, isDiscarded: isDiscarded,
      error: error, problems: problems)
  }

  private func publish() throws(TraceError) {
    try file.publish()
    notePlace()
  }

  private func notePlace() {
    let place = file.place
    progress.state.withLock { $0.place = place }
  }

  private func close() {
    do throws(TraceError) {
      try publish()
      if options.keepBytes != nil { try compact() }
      try file.append(TraceIndex.encoded(chunks, at: file.end, end: options.clocks()))
      try file.sync()
    } catch {
      fail(error)
    }
  }
}

extension TraceWriter {
  private func adoptRings(_ now: UInt64) {
    for ring in progress.newRings.withLock({ rings in
      defer { rings = [] }
      return rings
    }) {
      adopt(ring)
    }
    guard let directory, now &- lookedForRings > 50_000_000 else { return }
    lookedForRings = now
    for path in directory.ringPaths() where !streams.contains(where: { $0.ring.path == path }) {
      do throws(TraceError) {
        adopt(try Ring(opening: path))
      } catch {
        note(error)
        // Otherwise every scan would find it again.
        unlink(path)
      }
    }
  }

  private func adopt(_ ring: Ring) {
    if streams.contains(where: { $0.ring.path == ring.path }) { return }
    let problem: String? =
      if ring.traceID != header.id {
        "the ring \(ring.path) belongs to another trace"
      } else if streams.count >= Self.streamsMax {
        "the ring \(ring.path) exceeds the limit: at most \(Self.streamsMax) rings are recorded at a time"
      } else {
        nil
      }
    if let problem {
      note(TraceError(.damaged, problem))
      ring.removeFile()
      return
    }
    let id = RecordedStream.id(for: ring, taken: streamsSeen)
    streamsSeen.insert(id)
    streams.append(RecordedStream(ring, as: id, scale: header.scale))
  }

  private func drain(_ stream: RecordedStream, _ now: UInt64) {
    let limit = stream.ring.source == .engine ? options.engineSlotsPerChunk : options.slotsPerChunk
    // At most one ring's worth, so that a fast producer does not keep the others waiting.
    var slotsLeft = Int(stream.ring.capacity)
    while slotsLeft > 0 {
      let hadDamage = stream.damage != nil
      let cut = stream.cut(slotsMax: min(limit, Self.slotsMax))
      if let damage = stream.damage, !hadDamage { note(damage) }
      slotsLeft -= stream.builder.slots
      switch cut {
      case .more:
        write(stream)
      case .last:
        if !stream.builder.isEmpty { write(stream) }
        return
      case .notYet:
        waitOrWrite(stream, now)
        return
      }
    }
  }

  /// Events of a quiet stream wait for more, but not for long. The engine's wait for its next checkpoint.
  private func waitOrWrite(_ stream: RecordedStream, _ now: UInt64) {
    if stream.builder.isEmpty || stream.ring.source == .engine { return }
    let since = stream.waitingSince ?? now
    stream.waitingSince = since
    if now &- since > Self.waitMax && now > since { write(stream) }
  }

  private func write(_ stream: RecordedStream) {
    let cutTicks = options.cutsWithEngine && stream.ring.source == .engine ? stream.nextTicks : nil
    let events = UInt64(stream.builder.events)
    var header = stream.chunkHeader
    stream.sequence += 1
    stream.events += events
    if error == nil { append(stream.builder, &header) }
    if error != nil { progress.state.withLock { $0.lost &+= events } }
    stream.free()
    if let cutTicks { writeOthers(before: cutTicks) }
  }

  private func writeOthers(before ticks: UInt64) {
    for other in streams where other.ring.source != .engine {
      other.cut(before: ticks)
      if !other.builder.isEmpty { write(other) }
    }
  }

  private func append(_ builder: ChunkBuilder, _ header: inout ChunkHeader) {
    let offset = file.end
    do throws(TraceError) {
      guard chunks.count < TraceIndex.chunksMax else {
        throw TraceError.tooManyChunks(file.path)
      }
      try encoder.append(builder, &header, to: &file)
      chunks.append(ChunkPlace(offset: offset, header: header))
      progress.state.withLock { [header] in $0.count(header) }
      if progress.commands > 0 { try publish() }
      if let keepBytes = options.keepBytes { try dropOldest(keeping: keepBytes) }
    } catch {
      fail(error)
    }
  }

  private func retireExhausted() {
    for stream in streams where stream.isExhausted && stream.builder.isEmpty {
      stream.tellOfDiscarded()
      if !stream.builder.isEmpty { write(stream) }
      stream.ring.removeFile()
    }
    streams.removeAll { $0.isExhausted && $0.builder.isEmpty }
  }

  private func note(_ problem: TraceError) {
    if problems.count < 16 { problems.append(problem) }
  }

  private func fail(_ cause: TraceError) {
    if error != nil { return }
    error = TraceError(
      cause.kind,
      "\(cause.description): the recording stops at \(Quantity.count(progress.events)) events; the part written so far is readable"
    )
    progress.state.withLock { [error] in $0.error = error }
  }
}
