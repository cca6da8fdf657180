import Events
import Text
import Trace

/// The events of several streams in order of time, numbered from 0, in either direction.
///
/// Finding an event by its number or its time takes the headers of the chunks and one or a few chunks of each stream,
/// whatever the length of the trace. An event that is stamped earlier than one before it in its stream counts as if it
/// had that one's time.
public final class NumberedStreams: EventSequence {
  /// Events of the same time come in this order.
  public let streams: [NumberedEvents]
  private let bounds: [ChunkBounds]
  /// Where the last event that was asked for is.
  private var cursor: Cursor?
  public var isInterrupted: () -> Bool = { false }

  /// Of the largest chunks of all streams together, decoded, in bytes.
  private static let bytesMax = 256 << 20

  /// - Throws: if reading them together takes too much memory.
  public init(_ reader: TraceReader) throws(TraceError) {
    let all = reader.streams
    let slots = all.reduce(0) { sum, stream in
      sum + (stream.chunks.map { Int(reader.chunks[$0].header.slots) }.max() ?? 0)
    }
    let bytes = slots * (Record.size + 12)
    guard bytes <= NumberedStreams.bytesMax else {
      throw TraceError(
        .damaged,
        "\(reader.path): reading its \(all.count) streams by number needs \(Quantity.count(bytes >> 20)) MiB; "
          + "nvmepf takes \(NumberedStreams.bytesMax >> 20) MiB at most")
    }
    let cache = ChunkCache(reader, loadedMax: 2 * all.count + 8)
    streams = Source.allCases.flatMap { NumberedEvents.all(of: $0, in: cache) }
    bounds = streams.map { ChunkBounds($0) }
  }

  public let first: UInt64 = 0
  public var end: UInt64 { bounds.reduce(0) { $0 + UInt64($1.count) } }

  // MARK: By number

  public func event(_ number: UInt64) throws(TraceError) -> UnsafePointer<Record>? {
    guard number < end else { return nil }
    if var found = cursor, found.number != number, number &+ 1 == found.number || number == found.number &+ 1 {
      cursor = nil
      if number > found.number { try advance(&found) } else { try retreat(&found) }
      cursor = found
    } else if cursor?.number != number {
      cursor = nil
      cursor = try locate(number)
    }
    return cursor!.record
  }

  public func id(of number: UInt64) -> StreamID { streams[cursor?.current ?? 0].id }

  public func end(upTo ns: UInt64) throws(TraceError) -> UInt64 {
    var count: UInt64 = 0
    for stream in streams.indices { count += UInt64(try rank(stream, upTo: ns)) }
    return count
  }

  public func visit(from number: UInt64, _ isDone: (NumberedEvent) -> Bool) throws {
    guard number < end else { return }
    var cursor = try locate(number)
    while !isDone(numbered(cursor)), cursor.number + 1 < end {
      try advance(&cursor)
      if cursor.number % 65536 == 0 { try checkInterruption() }
    }
  }

  public func visitBackward(before number: UInt64, _ isDone: (NumberedEvent) -> Bool) throws {
    guard number > 0, end > 0 else { return }
    var cursor = try locate(min(number, end) - 1)
    while !isDone(numbered(cursor)), cursor.number > 0 {
      try retreat(&cursor)
      if cursor.number % 65536 == 0 { try checkInterruption() }
    }
  }

  private func numbered(_ cursor: Cursor) -> NumberedEvent {
    let head = cursor.heads[cursor.current]
    let stream = streams[cursor.current]
    let followsLoss =
      head.index == 0 && head.chunk > 0
      && stream.header(head.chunk).firstEvent != stream.end(of: head.chunk - 1)
    return NumberedEvent(number: cursor.number, record: cursor.record, id: stream.id, followsLoss: followsLoss)
  }

  // MARK: Of one stream

  /// The latest event before a point that is meant, in the streams that are meant; chunks without an event of the queue
  /// are left out.
  public func last(
    before number: UInt64, of qid: UInt16, in isStream: (StreamID) -> Bool, _ isMeant: (UnsafePointer<Record>) -> Bool
  ) throws -> UInt64? {
    guard number > 0, end > 0 else { return nil }
    let cursor = try locate(min(number, end) - 1)
    var found: UInt64?
    for stream in streams.indices where isStream(streams[stream].id) {
      let rank = cursor.heads[stream].rank + (stream == cursor.current ? 1 : 0)
      var last: Int?
      try streams[stream].forEachBackward(before: bounds[stream].event(streams[stream], rank), of: qid) {
        event, record in
        guard isMeant(record) else { return false }
        last = bounds[stream].rank(streams[stream], event)
        return true
      }
      if let last { found = max(found ?? 0, try self.number(stream, last)) }
    }
    return found
  }

  /// The number of a stream's event.
  private func number(_ stream: Int, _ rank: Int) throws(TraceError) -> UInt64 {
    let key = try key(stream, rank)
    var number = UInt64(rank)
    for other in streams.indices where other != stream {
      // Those of the same time precede it if their stream does.
      number += UInt64(try other < stream ? self.rank(other, upTo: key) : self.rank(other, before: key))
    }
    return number
  }

  // MARK: Cursors

  /// A place in the merged events.
  private struct Cursor {
    /// The next event of a stream.
    struct Head {
      /// How many of the stream's events precede it.
      var rank: Int
      var chunk = 0
      var index = 0
      var loaded: LoadedChunk?
      /// The time in order; the highest value at the end of the stream.
      var key = UInt64.max
      /// Of the chunk.
      var times: ClosedRange<UInt64> = 0...0

      /// To the next event of the chunk.
      /// - Returns: false if there is none.
      mutating func advance() -> Bool {
        guard let loaded, index + 1 < loaded.count else { return false }
        index += 1
        key = min(max(loaded.times[index], times.lowerBound), times.upperBound)
        return true
      }
    }

    var number: UInt64
    var heads: [Head]
    /// The stream that has the event with this number.
    var current: Int
    /// The next events of the current stream come before this one of another.
    var next: (key: UInt64, stream: Int) = (0, 0)

    var record: UnsafePointer<Record> { heads[current].loaded!.event(heads[current].index) }
  }

  private func advance(_ cursor: inout Cursor) throws(TraceError) {
    let current = cursor.current
    cursor.heads[current].rank += 1
    if !cursor.heads[current].advance() { try settle(&cursor.heads[current], current) }
    cursor.number += 1
    if (cursor.heads[current].key, current) >= cursor.next { choose(&cursor) }
  }

  /// The next event is that of the first stream with the lowest time.
  private func choose(_ cursor: inout Cursor) {
    var (best, second) = ((key: UInt64.max, stream: Int.max), (key: UInt64.max, stream: Int.max))
    for stream in cursor.heads.indices where cursor.heads[stream].loaded != nil {
      let head = (key: cursor.heads[stream].key, stream: stream)
      if head < best { (best, second) = (head, best) } else if head < second { second = head }
    }
    // At the end of all streams it does not matter.
    (cursor.current, cursor.next) = (best.stream == .max ? 0 : best.stream, second)
  }

  private func retreat(_ cursor: inout Cursor) throws(TraceError) {
    var best: (stream: Int, key: UInt64)?
    for stream in cursor.heads.indices where cursor.heads[stream].rank > 0 {
      let head = cursor.heads[stream]
      let isNear = head.index > 0 && head.loaded != nil
      let key =
        isNear ? bounds[stream].clamp(head.loaded!.times[head.index - 1], head.chunk) : try key(stream, head.rank - 1)
      if best == nil || key >= best!.key { best = (stream, key) }
    }
    guard let (stream, _) = best else { return }
    cursor.heads[stream].rank -= 1
    try settle(&cursor.heads[stream], stream)
    (cursor.number, cursor.current, cursor.next) = (cursor.number - 1, stream, (0, 0))
  }

  /// Find the chunk of a head whose rank has changed.
  private func settle(_ head: inout Cursor.Head, _ stream: Int) throws(TraceError) {
    guard head.rank < bounds[stream].count else {
      (head.loaded, head.key) = (nil, .max)
      return
    }
    let chunk = bounds[stream].chunk(of: head.rank)
    if head.loaded == nil || head.chunk != chunk { head.loaded = try load(stream, chunk) }
    head.chunk = chunk
    head.index = head.rank - bounds[stream].before[chunk]
    head.times = bounds[stream].times(of: chunk)
    head.key = bounds[stream].clamp(head.loaded!.times[head.index], chunk)
  }

  private func load(_ stream: Int, _ chunk: Int) throws(TraceError) -> LoadedChunk {
    let loaded = try streams[stream].load(chunk)
    guard loaded.count == Int(streams[stream].header(chunk).events) else {
      throw TraceError(.damaged, "a chunk has not the number of events that its header says")
    }
    return loaded
  }

  // MARK: By time

  /// - Precondition: there is such an event.
  private func locate(_ number: UInt64) throws(TraceError) -> Cursor {
    let key = try key(of: number)
    var (heads, left): ([Cursor.Head], UInt64) = ([], number)
    var ties: [Int] = []
    for stream in streams.indices {
      let rank = try rank(stream, before: key)
      heads.append(Cursor.Head(rank: rank))
      ties.append(try self.rank(stream, upTo: key) - rank)
      left -= UInt64(rank)
    }
    for stream in streams.indices {
      let skipped = min(left, UInt64(ties[stream]))
      heads[stream].rank += Int(skipped)
      left -= skipped
      try settle(&heads[stream], stream)
    }
    var cursor = Cursor(number: number, heads: heads, current: 0)
    choose(&cursor)
    return cursor
  }

  /// The time in order of an event: the lowest up to which there are more events than precede it.
  private func key(of number: UInt64) throws(TraceError) -> UInt64 {
    // By the headers alone: not before this time, and not after that one.
    var low = lowest { key in bounds.reduce(0) { $0 + UInt64($1.countBegun(upTo: key)) } > number }
    var high = lowest { key in bounds.reduce(0) { $0 + UInt64($1.countEnded(upTo: key)) } > number }
    while low < high {
      let middle = low + (high - low) / 2
      if try end(upTo: middle) > number { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private func lowest(_ isEnough: (UInt64) -> Bool) -> UInt64 {
    var (low, high) = (UInt64(0), UInt64.max)
    while low < high {
      let middle = low + (high - low) / 2
      if isEnough(middle) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private func key(_ stream: Int, _ rank: Int) throws(TraceError) -> UInt64 {
    let chunk = bounds[stream].chunk(of: rank)
    return bounds[stream].clamp(try load(stream, chunk).times[rank - bounds[stream].before[chunk]], chunk)
  }

  /// How many events of a stream come before a time.
  private func rank(_ stream: Int, before key: UInt64) throws(TraceError) -> Int {
    key == 0 ? 0 : try rank(stream, upTo: key - 1)
  }

  private func rank(_ stream: Int, upTo key: UInt64) throws(TraceError) -> Int {
    let bounds = bounds[stream]
    guard let chunk = bounds.firstChunk(endingAfter: key) else { return bounds.count }
    guard bounds.begin[chunk] <= key else { return bounds.before[chunk] }
    let loaded = try load(stream, chunk)
    return bounds.before[chunk] + loaded.times.firstPlace(above: key)
  }
}

/// The chunks of a stream by the times and the number of their events.
private struct ChunkBounds {
  /// Number of events before each chunk.
  private(set) var before: [Int] = []
  /// No time in order of a chunk's events is outside; those of later chunks are not lower.
  private(set) var begin: [UInt64] = []
  private var end: [UInt64] = []
  let count: Int

  init(_ events: NumberedEvents) {
    var (count, last): (Int, UInt64) = (0, 0)
    for chunk in 0..<events.chunkCount {
      let header = events.header(chunk)
      before.append(count)
      begin.append(max(last, header.firstTime))
      end.append(max(begin[chunk], header.lastTime))
      last = end[chunk]
      count += Int(header.events)
    }
    self.count = count
  }

  func times(of chunk: Int) -> ClosedRange<UInt64> { begin[chunk]...end[chunk] }
  func clamp(_ time: UInt64, _ chunk: Int) -> UInt64 { min(max(time, begin[chunk]), end[chunk]) }

  /// - Precondition: rank < count.
  func chunk(of rank: Int) -> Int { place(before) { $0 > rank } - 1 }
  func firstChunk(endingAfter key: UInt64) -> Int? {
    let chunk = place(end) { $0 > key }
    return chunk < end.count ? chunk : nil
  }

  /// At most so many events have a time up to this one, and at least so many.
  func countBegun(upTo key: UInt64) -> Int { events(before: place(begin) { $0 > key }) }
  func countEnded(upTo key: UInt64) -> Int { events(before: place(end) { $0 > key }) }

  private func events(before chunk: Int) -> Int { chunk < before.count ? before[chunk] : count }

  /// The number in the stream of the event with this rank, or one past the last.
  func event(_ events: NumberedEvents, _ rank: Int) -> UInt64 {
    guard rank < count else { return events.end }
    let chunk = chunk(of: rank)
    return events.header(chunk).firstEvent + UInt64(rank - before[chunk])
  }

  func rank(_ events: NumberedEvents, _ event: UInt64) -> Int {
    let chunk = events.chunk(of: event)
    return before[chunk] + Int(event - events.header(chunk).firstEvent)
  }

  /// The first of ascending values that is meant.
  private func place<T>(_ values: [T], _ isMeant: (T) -> Bool) -> Int {
    var (low, high) = (0, values.count)
    while low < high {
      let middle = (low + high) / 2
      if isMeant(values[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

extension [UInt64] {
  /// The place of the first element above a value; they ascend.
  public func firstPlace(above value: UInt64) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if self[middle] <= value { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
