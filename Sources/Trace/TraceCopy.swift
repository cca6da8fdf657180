import Events

/// A trace made from the events of another one, stream by stream. It is written beside its path and takes it with
/// `publish`; until then, and after any error, whatever has that path stays.
public final class TraceCopy {
  private let path: String
  private var file: TraceFile
  private var chunks: [ChunkPlace] = []
  private let encoder: ChunkEncoder
  private let builder = ChunkBuilder(scale: .identity)
  /// The stream whose events are in the builder.
  private var current: StreamID?
  private var written: [StreamID: Written] = [:]

  /// What the file holds of a stream.
  private struct Written {
    var chunks: UInt64 = 0
    var events: UInt64 = 0
    var slots: UInt64 = 0
  }

  /// - Parameters:
  ///   - header: its version, schema and flight recorder's mark are ignored: the file is of this build.
  ///   - original: the owner and the permissions of its file are those of the new one.
  /// - Throws: if `path` names the original, no file, or a trace that is being recorded or that a repair can complete.
  public init(_ path: String, header: TraceHeader, of original: TraceReader) throws(TraceError) {
    var header = header
    (header.version, header.schema, header.isFlightRecorder) = (.current, .current, false)
    self.path = path
    encoder = try ChunkEncoder()
    file = try TraceFile(editing: original.descriptor, as: path)
    try file.append(header.encoded())
  }

  /// Bytes so far.
  public var bytes: UInt64 { file.end }

  /// Events so far.
  public var events: UInt64 { chunks.reduce(UInt64(builder.events)) { $0 + UInt64($1.header.events) } }

  /// Where the file is until it is published.
  public var place: String { file.place }

  /// Append an event with its tail; its time and its spans are nanoseconds. Events that this version does not know, or
  /// not so, are left out.
  public func append(_ record: UnsafePointer<Record>, as id: StreamID) throws(TraceError) {
    guard record.pointee.hasTailOfItsKind else { return }
    if current != id { try write() }
    current = id
    let slots = UnsafeBufferPointer(start: record, count: 1 + Int(record.pointee.tail))
    let limit = id.source == .engine ? TraceCopy.engineSlots : TraceCopy.slots
    if builder.slots + slots.count > limit { try write() }
    if try append(slots) == .end { return }
    try write()
    guard try append(slots) == .end else {
      throw TraceError(.damaged, "an event of \(slots.count) slots is larger than any that nvmepf records")
    }
  }

  private func append(_ slots: UnsafeBufferPointer<Record>) throws(TraceError) -> ChunkBuilder.Stop {
    do throws(Malformed) {
      return try builder.append(
        slots, slotsMax: TraceWriter.slotsMax, stopAtCheckpoint: current?.source == .engine)
    } catch {
      throw TraceError(.damaged, "\(error.what)")
    }
  }

  /// Slots at which a chunk ends, as in a recording.
  private static let slots = TraceWriter.Options().slotsPerChunk
  private static let engineSlots = TraceWriter.Options().engineSlotsPerChunk

  private func write() throws(TraceError) {
    guard let id = current, !builder.isEmpty else { return }
    guard chunks.count < TraceIndex.chunksMax else { throw TraceError.tooManyChunks(path) }
    var stream = written[id] ?? Written()
    stream.slots += UInt64(builder.slots)
    var header = ChunkHeader(id, sequence: stream.chunks, firstEvent: stream.events, ringEnd: stream.slots)
    let offset = file.end
    try encoder.append(builder, &header, to: &file)
    chunks.append(ChunkPlace(offset: offset, header: header))
    stream.chunks += 1
    stream.events += UInt64(header.events)
    written[id] = stream
    builder.removeAll()
  }

  /// Complete the file, which is then readable at `place`.
  /// - Parameter end: the clocks at its end; nil if the trace does not end where its engine was at rest.
  public func close(end: ClockSnapshot?) throws(TraceError) {
    try write()
    try file.append(TraceIndex.encoded(chunks, at: file.end, end: end))
    try file.sync()
  }

  /// Give the complete file its path; a previous one is kept as `.old`.
  public func publish() throws(TraceError) { try file.publish() }
}
