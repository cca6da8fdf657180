import CPlatform
import Events
import Glibc
import Synchronization

/// A trace file, open for reading: its header, the positions of its chunks, and their events. It trusts none of the
/// content, and keeps no more than one chunk of it in memory. Several threads may decode at once, each into its own
/// `DecodedChunk`.
public final class TraceReader: Sendable {
  public let path: String
  public let header: TraceHeader
  /// In file order; chunks of one stream are in stream order.
  public let chunks: [ChunkPlace]
  /// It was closed: it contains all recorded events except those that its gaps count.
  public let isComplete: Bool
  /// Where and why reading ends before the end of the file; nil if it does not.
  public let damage: TraceError?
  /// The clocks when the trace was closed; nil if it was not, or by a repair.
  public let end: ClockSnapshot?
  /// Length of the file.
  public let bytes: UInt64
  /// Its recorder closed it when every producer had ended, and no repair did.
  public var isClosed: Bool { isComplete && end != nil }
  private let scan: TraceScan
  private let decoded = Atomic<UInt64>(0)
  /// Bytes of chunks that have been decoded so far, each as often as it was.
  public var bytesDecoded: UInt64 { decoded.load(ordering: .relaxed) }

  /// Open a trace. A damaged or unfinished trace is readable up to the damage: see `damage`.
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

  /// Of the open file.
  var descriptor: Int32 { scan.descriptor }

  /// Sums over all chunks.
  public struct Totals: Sendable {
    public var events: UInt64 = 0
    /// Fetched submission queue entries of I/O queues.
    public var commands: UInt64 = 0
    /// Known lost events: those counted in gaps, and those between chunks that are not consecutive.
    public var lost: UInt64 = 0
    /// Each that has chunks, in the order of their numbers.
    public var sources: [Source] = []
  }

  public var totals: Totals {
    var totals = Totals()
    var last: [StreamID: ChunkHeader] = [:]
    for chunk in chunks {
      totals.lost &+= lostEvents(before: chunk.header, last: last[chunk.header.id])
      last[chunk.header.id] = chunk.header
      totals.events &+= UInt64(chunk.header.events)
      totals.commands &+= UInt64(chunk.header.commands)
      totals.lost &+= chunk.header.lost
    }
    totals.sources = Source.allCases.filter { source in chunks.contains { $0.header.id.source == source } }
    return totals
  }

  /// The streams, in order of their first chunks, with the indices of their chunks.
  public var streams: [(id: StreamID, chunks: [Int])] {
    var order: [StreamID] = []
    var byStream: [StreamID: [Int]] = [:]
    for (index, chunk) in chunks.enumerated() {
      if byStream[chunk.header.id] == nil { order.append(chunk.header.id) }
      byStream[chunk.header.id, default: []].append(index)
    }
    return order.map { ($0, byStream[$0]!) }
  }

  /// The events of some chunks of one stream, one chunk per call; nil at the end. They stay valid until the next call.
  /// A `gap` event precedes a chunk before which events were lost.
  public func source(of chunks: [Int]) throws(TraceError)
    -> () throws(TraceError) -> UnsafeBufferPointer<Record>?
  {
    let walk = ChunkWalk(self, chunks, ChunkSelection())
    let stream = StreamChunks(0, walk, try ChunkSupply(self, [walk]))
    return { () throws(TraceError) in try stream.next() }
  }

  /// Events lost before a chunk; `last` is the previous chunk of its stream, nil for the first.
  func lostEvents(before chunk: ChunkHeader, last: ChunkHeader?) -> UInt64 {
    // Events that a flight recorder discarded on purpose are not lost.
    let expected = last?.eventsEnd ?? (header.isFlightRecorder ? chunk.firstEvent : 0)
    return chunk.firstEvent - min(expected, chunk.firstEvent)
  }

  /// Verify the checksum of every chunk, which opening a closed trace does not.
  /// - Returns: the first damage; nil if all chunks are intact.
  public func findDamage() throws(TraceError) -> TraceError? {
    if let damage { return damage }
    // Without an index they were verified when it was opened.
    guard isComplete else { return nil }
    var buffer = ByteBuffer(count: 1 << 20)
    for (index, place) in chunks.enumerated() where !scan.isIntact(place, &buffer) {
      return TraceScan.damaged(path, chunk: index, at: place.offset, Malformed("fails its checksum"))
    }
    return nil
  }

  /// Decode one of `chunks`.
  public func decode(_ index: Int, into decoded: inout DecodedChunk) throws(TraceError) {
    let place = chunks[index]
    defer { self.decoded.add(place.header.length, ordering: .relaxed) }
    let length = Int(place.header.length)
    let isWhole = try readFully(scan.descriptor, decoded.room(for: length), length, at: place.offset, path: path)
    do throws(Malformed) {
      guard isWhole else { throw Malformed("is truncated") }
      try decoded.decode(schema, expected: place.header)
    } catch {
      throw TraceScan.damaged(path, chunk: index, at: place.offset, error)
    }
  }
}
