import CPlatform
import Glibc

/// A trace file, open for reading: what it says of itself, where its chunks are, and their events. Nothing in it is
/// trusted, and no more of it than a chunk is in memory. Several threads may decode at once, each into a
/// `DecodedChunk` of its own.
public final class TraceReader: Sendable {
  public let path: String
  public let header: TraceHeader
  /// In the order of the file; those of one stream are in its order.
  public let chunks: [ChunkPlace]
  /// It was closed: nothing that was recorded is missing but what its gaps say.
  public let isComplete: Bool
  /// Where and why reading ends before the file does, when it does.
  public let damage: TraceError?
  /// The clocks when the trace was closed; nil when it was not, or by a repair.
  public let end: ClockSnapshot?
  /// Length of the file.
  public let bytes: UInt64
  private let descriptor: Int32

  /// Open a trace. A damaged or unfinished one is open as far as it is whole: see `damage`.
  public init(_ path: String) throws(TraceError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw TraceError.system("cannot open \(path)", errno) }
    let contents: TraceScan
    do throws(TraceError) {
      contents = try TraceScan(descriptor, path)
    } catch {
      close(descriptor)
      throw error
    }
    (self.path, self.descriptor) = (path, descriptor)
    (header, chunks, bytes) = (contents.header, contents.chunks, contents.size)
    (isComplete, damage, end) = (contents.isComplete, contents.damage, contents.end)
  }

  deinit { close(descriptor) }

  public var events: UInt64 { chunks.reduce(0) { $0 &+ UInt64($1.header.events) } }
  /// Submission queue entries that were fetched.
  public var commands: UInt64 { chunks.reduce(0) { $0 &+ UInt64($1.header.commands) } }
  /// Events that are known to be missing: what gaps count, and what is between chunks that do not follow each other.
  public var lost: UInt64 {
    chunks.indices.reduce(0) { $0 &+ chunks[$1].header.lost } &+ missing.reduce(0) { $0 &+ $1.value }
  }
  public var schema: TraceSchema { header.schema }

  /// The streams, ascending.
  public var streams: [(stream: UInt16, source: Source?)] {
    var sources: [UInt16: Source?] = [:]
    for chunk in chunks { sources[chunk.header.stream] = .some(chunk.header.source) }
    return sources.keys.sorted().map { ($0, sources[$0]!) }
  }

  /// Events that are missing before a chunk, by its index; most chunks have none.
  public var missing: [Int: UInt64] {
    var next: [UInt16: UInt64] = [:]
    var missing: [Int: UInt64] = [:]
    for (index, chunk) in chunks.enumerated() {
      let header = chunk.header
      // What a flight recorder gave up is not missed.
      let expected = next[header.stream] ?? (self.header.isFlightRecorder ? header.firstEvent : 0)
      if header.firstEvent > expected { missing[index] = header.firstEvent - expected }
      next[header.stream] = header.firstEvent + UInt64(header.events)
    }
    return missing
  }

  /// Decode one of `chunks`.
  public func decode(_ index: Int, into decoded: inout DecodedChunk) throws(TraceError) {
    let place = chunks[index]
    let length = Int(place.header.length)
    let isWhole = try readFully(descriptor, decoded.room(for: length), length, at: place.offset, path: path)
    do throws(Malformed) {
      guard isWhole else { throw Malformed("is cut short") }
      try decoded.decode(schema)
    } catch {
      throw TraceScan.damaged(path, chunk: index, at: place.offset, error)
    }
  }
}
