import Events
import Trace

/// The events of one stream by their numbers, in either direction.
///
/// An event's number is that of the trace: events lost before it are counted, so it does not depend on where reading
/// began.
public final class NumberedEvents: EventSequence {
  public let reader: TraceReader
  public let id: StreamID
  /// Its chunks, as indices in the trace.
  private let places: [Int]
  private let cache: ChunkCache
  /// Whether a visit that takes long should be given up.
  public var isInterrupted: () -> Bool = { false }

  /// - Parameter chunks: at least one, as indices in the trace. Only those whose numbers ascend are used.
  private init(_ cache: ChunkCache, _ id: StreamID, _ chunks: [Int]) {
    let reader = cache.reader
    var end: UInt64 = 0
    let whole = chunks.prefix { chunk in
      let header = reader.chunks[chunk].header
      guard header.firstEvent >= end, header.firstEvent < NumberedEvents.numbersEnd else { return false }
      end = header.firstEvent + UInt64(header.events)
      return true
    }
    (self.reader, self.cache, self.id) = (reader, cache, id)
    places = whole.isEmpty ? [chunks[0]] : Array(whole)
  }

  /// No recording has so many events, and sums of such numbers fit.
  private static let numbersEnd: UInt64 = 1 << 62

  /// The streams of a trace that come from this source.
  public static func all(of source: Source, in cache: ChunkCache) -> [NumberedEvents] {
    let reader = cache.reader
    return reader.streams.filter {
      $0.id.source == source && reader.chunks[$0.chunks[0]].header.firstEvent < numbersEnd
    }
    .map { NumberedEvents(cache, $0.id, $0.chunks) }
  }

  public var chunkCount: Int { places.count }
  public func header(_ chunk: Int) -> ChunkHeader { reader.chunks[places[chunk]].header }

  public var first: UInt64 { header(0).firstEvent }
  public var end: UInt64 { end(of: chunkCount - 1) }
  public func end(of chunk: Int) -> UInt64 { header(chunk).firstEvent &+ UInt64(header(chunk).events) }

  /// The last chunk that begins at or before this event.
  public func chunk(of event: UInt64) -> Int { lastChunk { $0.firstEvent <= event } }
  /// The last chunk that begins at or before this time.
  public func chunk(at ns: UInt64) -> Int { lastChunk { $0.firstTime <= ns } }

  public func end(upTo ns: UInt64) throws(TraceError) -> UInt64 {
    let chunk = chunk(at: ns)
    let loaded = try load(chunk)
    let index = (0..<loaded.count).last { loaded.event($0).pointee.time <= ns }
    return header(chunk).firstEvent + (index.map { UInt64($0) + 1 } ?? 0)
  }

  private func lastChunk(_ begins: (ChunkHeader) -> Bool) -> Int {
    var (low, high) = (0, chunkCount)
    while low < high {
      let middle = (low + high) / 2
      if begins(header(middle)) { low = middle + 1 } else { high = middle }
    }
    return max(low - 1, 0)
  }

  /// The events of a chunk.
  public func load(_ chunk: Int) throws(TraceError) -> LoadedChunk { try cache.load(places[chunk]) }

  public func id(of event: UInt64) -> StreamID { id }

  public func event(_ number: UInt64) throws(TraceError) -> UnsafePointer<Record>? {
    let chunk = chunk(of: number)
    guard number >= header(chunk).firstEvent, number < end(of: chunk) else { return nil }
    return try load(chunk).event(Int(number - header(chunk).firstEvent))
  }

  /// Visit the events before this one, the latest first, until `isDone`.
  /// - Parameter qid: chunks without an event of this queue are left out.
  public func forEachBackward(
    before event: UInt64, of qid: UInt16? = nil, _ isDone: (UInt64, UnsafePointer<Record>) -> Bool
  ) throws {
    guard event > first else { return }
    var selection = ChunkSelection()
    selection.qid = qid
    for chunk in (0...self.chunk(of: event - 1)).reversed() where selection.mayContain(header(chunk)) {
      try checkInterruption()
      let events = try load(chunk)
      let begin = header(chunk).firstEvent
      for index in (0..<min(events.count, Int(clamping: event - min(begin, event)))).reversed()
      where isDone(begin + UInt64(index), events.event(index)) {
        return
      }
    }
  }

  /// Visit the events from this one on, until `isDone`.
  public func forEach(from event: UInt64, _ isDone: (UInt64, UnsafePointer<Record>) -> Bool) throws {
    guard event < end else { return }
    for chunk in self.chunk(of: event)..<chunkCount {
      try checkInterruption()
      let events = try load(chunk)
      let begin = header(chunk).firstEvent
      let index = Int(clamping: event - min(begin, event))
      guard index < events.count else { continue }
      for index in index..<events.count where isDone(begin + UInt64(index), events.event(index)) { return }
    }
  }

  public func visit(from event: UInt64, _ isDone: (NumberedEvent) -> Bool) throws {
    try forEach(from: event) { isDone(NumberedEvent(number: $0, record: $1, id: id)) }
  }

  public func visitBackward(before event: UInt64, _ isDone: (NumberedEvent) -> Bool) throws {
    try forEachBackward(before: event) { isDone(NumberedEvent(number: $0, record: $1, id: id)) }
  }

  /// The slots of chunks from this one on, up to a gap, for a replay; each is valid until the next call.
  public func slots(from chunk: Int) -> () throws(TraceError) -> UnsafeBufferPointer<Record>? {
    var next = chunk
    var current: LoadedChunk?
    return { [self] () throws(TraceError) in
      guard next < chunkCount, next == chunk || header(next).firstEvent == end(of: next - 1) else { return nil }
      defer { next += 1 }
      current = try load(next)
      return current?.slots
    }
  }
}

/// The chunks of a trace that were decoded last, for all streams together: memory does not depend on their number.
public final class ChunkCache {
  public let reader: TraceReader
  /// The most recently used last.
  private var loaded: [LoadedChunk] = []
  private let loadedMax: Int

  /// - Parameter loadedMax: how many it keeps; more than are read in turn.
  public init(_ reader: TraceReader, loadedMax: Int = 8) { (self.reader, self.loadedMax) = (reader, loadedMax) }

  /// - Parameter place: index of the chunk in the trace.
  public func load(_ place: Int) throws(TraceError) -> LoadedChunk {
    if let known = loaded.firstIndex(where: { $0.place == place }) {
      let found = loaded.remove(at: known)
      loaded.append(found)
      return found
    }
    var new = loaded.count < loadedMax ? try LoadedChunk() : loaded.removeFirst()
    // A replay may still read it.
    if !isKnownUniquelyReferenced(&new) { new = try LoadedChunk() }
    try new.load(place, of: reader)
    loaded.append(new)
    return new
  }
}

/// A decoded chunk with the places of its events.
public final class LoadedChunk {
  /// Its index in the trace.
  public private(set) var place = -1
  private var decoded: DecodedChunk
  /// The first slot of each event.
  private var offsets: [UInt32] = []
  /// The time of each event, or a later one before it.
  public private(set) var times: [UInt64] = []

  public init() throws(TraceError) { decoded = try DecodedChunk() }

  public var count: Int { offsets.count }
  public var slots: UnsafeBufferPointer<Record> { decoded.slots }

  public func load(_ place: Int, of reader: TraceReader) throws(TraceError) {
    self.place = -1
    offsets.removeAll(keepingCapacity: true)
    times.removeAll(keepingCapacity: true)
    try reader.decode(place, into: &decoded)
    var (slot, time): (Int, UInt64) = (0, 0)
    while slot < slots.count {
      offsets.append(UInt32(slot))
      time = max(time, slots[slot].time)
      times.append(time)
      slot += 1 + Int(slots[slot].tail)
    }
    self.place = place
  }

  /// - Precondition: 0 ≤ index < count.
  public func event(_ index: Int) -> UnsafePointer<Record> { slots.baseAddress! + Int(offsets[index]) }
}
