import CPlatform
import Events
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
  /// Its recorder closed it when every producer had ended, and no repair did.
  public var isClosed: Bool { isComplete && end != nil }
  private let scan: TraceScan

  /// Open a trace. A damaged or unfinished one is open as far as it is whole: see `damage`.
  public init(path: String) throws(TraceError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw TraceError.system("cannot open \(path)", errno) }
    let contents: TraceScan
    do throws(TraceError) {
      contents = try TraceScan(descriptor, path)
    } catch {
      close(descriptor)
      throw error
    }
    (self.path, scan) = (path, contents)
    (header, chunks, bytes) = (contents.header, contents.chunks, contents.size)
    (isComplete, damage, end) = (contents.isComplete, contents.damage, contents.end)
  }

  deinit { close(scan.descriptor) }

  public var schema: TraceSchema { header.schema }

  public struct Totals: Sendable {
    public var events: UInt64 = 0
    /// Submission queue entries of I/O queues that were fetched.
    public var commands: UInt64 = 0
    /// Events that are known to be missing: what gaps count, and what is between chunks that do not follow each other.
    public var lost: UInt64 = 0
    /// Each that has chunks, in the order of their numbers.
    public var sources: [Source] = []
  }

  public var totals: Totals {
    var totals = Totals()
    var last: [StreamID: ChunkHeader] = [:]
    for chunk in chunks {
      totals.lost &+= missing(before: chunk.header, last: last[chunk.header.id])
      last[chunk.header.id] = chunk.header
      totals.events &+= UInt64(chunk.header.events)
      totals.commands &+= UInt64(chunk.header.commands)
      totals.lost &+= chunk.header.lost
    }
    totals.sources = Source.allCases.filter { source in chunks.contains { $0.header.id.source == source } }
    return totals
  }

  /// The streams, in the order of their first chunks, and the indices of their chunks.
  public var streams: [(id: StreamID, chunks: [Int])] {
    var order: [StreamID] = []
    var byStream: [StreamID: [Int]] = [:]
    for (index, chunk) in chunks.enumerated() {
      if byStream[chunk.header.id] == nil { order.append(chunk.header.id) }
      byStream[chunk.header.id, default: []].append(index)
    }
    return order.map { ($0, byStream[$0]!) }
  }

  /// The events of some of a stream's chunks, a chunk at each call; nil at the end. They stay valid until the next call.
  /// Where events are missing before a chunk, a `gap` event tells first how many.
  public func source(of chunks: [Int]) throws(TraceError)
    -> () throws(TraceError) -> UnsafeBufferPointer<Record>?
  {
    let chunks = StreamChunks(self, chunks, try ChunkDecoder())
    return { () throws(TraceError) in try chunks.take() }
  }

  /// Events that are missing before a chunk whose stream's chunk before is `last`; nil for its first.
  func missing(before chunk: ChunkHeader, last: ChunkHeader?) -> UInt64 {
    // What a flight recorder gave up is not missed.
    let expected = last?.eventsEnd ?? (header.isFlightRecorder ? chunk.firstEvent : 0)
    return chunk.firstEvent - min(expected, chunk.firstEvent)
  }

  /// Read every chunk and hold it against its checksum, which opening a closed trace does not.
  /// - Returns: the first that is not what it should be; nil where all are intact.
  public func findDamage() throws(TraceError) -> TraceError? {
    if let damage { return damage }
    // Without an index they were when it was opened.
    guard isComplete else { return nil }
    var buffer = ByteBuffer(capacity: 1 << 20)
    buffer.advance(1 << 20)
    for (index, place) in chunks.enumerated() where !scan.isIntact(place, &buffer) {
      return TraceScan.damaged(path, chunk: index, at: place.offset, Malformed("fails its checksum"))
    }
    return nil
  }

  /// Decode one of `chunks`.
  public func decode(_ index: Int, into decoded: inout DecodedChunk) throws(TraceError) {
    let place = chunks[index]
    let length = Int(place.header.length)
    let isWhole = try readFully(scan.descriptor, decoded.room(for: length), length, at: place.offset, path: path)
    do throws(Malformed) {
      guard isWhole else { throw Malformed("is cut short") }
      try decoded.decode(schema, expected: place.header)
    } catch {
      throw TraceScan.damaged(path, chunk: index, at: place.offset, error)
    }
  }
}
