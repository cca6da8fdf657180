import Glibc

/// Restores a complete trace from a killed recording or a damaged file: every intact chunk, the events remaining in the
/// recording's rings, an index and a footer.
public enum TraceRepair {
  /// What a repair kept and recovered.
  public struct Report: Sendable {
    /// Path of the repaired trace.
    public let path: String
    /// Number of intact chunks.
    public internal(set) var chunksKept = 0
    /// Events found in the rings and in no chunk.
    public internal(set) var eventsRecovered: UInt64 = 0
    /// Events in the repaired trace.
    public internal(set) var events: UInt64 = 0
    /// Bytes of the file outside all intact chunks.
    public internal(set) var bytesDropped: UInt64 = 0
    /// Rings that could not be read.
    public internal(set) var problems: [TraceError] = []
  }

  /// Repair the trace at `path`, in place or into `output`. A failure loses nothing: the trace is replaced, and the
  /// rings removed, only when everything is written. With an `output`, trace and rings stay unchanged; so do rings if
  /// the trace is a copy of the one they belong to.
  /// - Throws: if the header is damaged, the recording still runs, or there is no room for the new file.
  public static func repair(_ path: String, output: String? = nil) throws(TraceError) -> Report {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw TraceError.system("cannot open \(path)", errno) }
    defer { close(descriptor) }
    try TraceFile.lock(descriptor, path: path)
    let scan = try TraceScan(descriptor, path)
    let repaired = try Repaired(output ?? path, scan)
    try repaired.keepIntactChunks()
    var directories: [RecordingDirectory] = []
    for directory in RecordingDirectory.left(by: scan.header.id, tracePath: path)
    where try mayUse(directory, descriptor, path, repaired) { directories.append(directory) }
    for directory in directories { try repaired.recover(from: directory) }
    let own = output == nil ? directories.filter { $0.original(of: descriptor) == nil } : []
    try repaired.close()
    for directory in own { directory.remove() }
    return repaired.report
  }

  /// Whether the rings' events belong to this trace: a running recording keeps its own.
  private static func mayUse(
    _ directory: RecordingDirectory, _ descriptor: Int32, _ path: String, _ repaired: Repaired
  ) throws(TraceError) -> Bool {
    guard directory.isInUse else { return true }
    guard let original = directory.original(of: descriptor) else {
      throw TraceError(.system(EWOULDBLOCK), "\(path) is being recorded to: stop that recording first")
    }
    repaired.note(
      TraceError(
        .system(EWOULDBLOCK),
        "\(path) is a copy of \(original), which is being recorded to: it lacks what that recording has not written yet"
      ))
    return false
  }
}

/// The trace that a repair writes.
private final class Repaired {
  private let scan: TraceScan
  private var file: TraceFile
  private var chunks: [ChunkPlace] = []
  private(set) var report: TraceRepair.Report

  init(_ path: String, _ scan: TraceScan) throws(TraceError) {
    self.scan = scan
    file = try TraceFile(beside: path, like: scan.descriptor)
    report = TraceRepair.Report(path: path)
    _ = try copy(from: 0, length: scan.headerLength)
  }

  func keepIntactChunks() throws(TraceError) {
    var bytesKept: UInt64 = 0
    func keep(_ place: ChunkPlace) throws(TraceError) {
      add(place.header, at: try copy(from: place.offset, length: place.header.length))
      bytesKept += place.header.length
    }
    if scan.isComplete {
      var buffer = ByteBuffer(count: 1 << 20)
      for place in scan.chunks where scan.isIntact(place, &buffer) { try keep(place) }
    } else {
      for place in scan.chunks { try keep(place) }
      let start = if let last = scan.chunks.last { last.end } else { try scan.firstChunk() }
      var search = ChunkSearch(scan, from: start)
      while chunks.count < TraceIndex.chunksMax, let place = try search.next() { try keep(place) }
    }
    report.chunksKept = chunks.count
    let indexLength = scan.isComplete ? TraceIndex.length(chunks: scan.chunks.count) : 0
    report.bytesDropped = scan.size - (try scan.firstChunk()) - bytesKept - UInt64(indexLength)
  }

  private func add(_ header: ChunkHeader, at offset: UInt64) {
    chunks.append(ChunkPlace(offset: offset, header: header))
    report.events += UInt64(header.events)
  }

  func recover(from directory: RecordingDirectory) throws(TraceError) {
    for path in directory.ringPaths() {
      let ring: Ring
      do throws(TraceError) {
        ring = try Ring(opening: path, leavingItAlone: true)
      } catch {
        report.problems.append(error)
        continue
      }
      if ring.traceID != scan.header.id { continue }
      guard scan.header.schema == .current else {
        throw TraceError(
          .otherVersion,
          "\(scan.path) has rings of another version of nvmepf (\(directory.path)): repair it with that version")
      }
      let id =
        ring.recordedStream.map { StreamID(source: ring.source, stream: $0) }
        ?? RecordedStream.id(for: ring, taken: Set(chunks.map(\.header.id)))
      try recover(RecordedStream(ring, as: id, scale: scan.header.scale))
    }
  }

  private func recover(_ stream: RecordedStream) throws(TraceError) {
    let encoder = try ChunkEncoder()
    let last = chunks.filter { $0.header.id == stream.id }.max { $0.header.sequence < $1.header.sequence }
    stream.resume(after: last?.header)
    while true {
      let cut = stream.cut(slotsMax: TraceWriter.slotsMax)
      if stream.builder.isEmpty { break }
      var header = stream.chunkHeader
      let offset = file.end
      try encoder.append(stream.builder, &header, to: &file)
      add(header, at: offset)
      stream.sequence += 1
      stream.events += UInt64(header.events)
      report.eventsRecovered += UInt64(header.events)
      stream.free()
      if cut != .more { break }
    }
    if let damage = stream.damage { report.problems.append(damage) }
  }

  func close() throws(TraceError) {
    // The normal end of a recording promises that it is complete, which this trace is not.
    let isWhole = report.bytesDropped == 0 && report.eventsRecovered == 0
    try file.append(TraceIndex.encoded(chunks, at: file.end, end: isWhole ? scan.end : nil))
    try file.sync()
    try file.publish(keepsPrevious: false)
  }

  func note(_ problem: TraceError) { report.problems.append(problem) }

  /// Copy a piece of the old trace. Returns its position in the new one.
  private func copy(from offset: UInt64, length: UInt64) throws(TraceError) -> UInt64 {
    let start = file.end
    let buffer = ByteBuffer(count: Int(length))
    guard try readFully(scan.descriptor, buffer.base, buffer.count, at: offset, path: scan.path) else {
      throw TraceError(.damaged, "\(scan.path) became shorter during the repair")
    }
    try file.append(buffer)
    return start
  }
}

extension TraceScan {
  /// Whether the chunk matches its index entry.
  func isIntact(_ place: ChunkPlace, _ buffer: inout ByteBuffer) -> Bool {
    guard (try? readFully(descriptor, buffer.base, ChunkHeader.size, at: place.offset, path: path)) == true else {
      return false
    }
    return ChunkHeader(UnsafeRawBufferPointer(rebasing: buffer.bytes.prefix(ChunkHeader.size))) == place.header
      && bodyIsWhole(place, &buffer)
  }
}
