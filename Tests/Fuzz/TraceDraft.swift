import CPlatform
import Chance
import EventTable
@_spi(Places) import Events
import Glibc

@testable import Trace

/// A trace taken apart into its events, to be changed and put together again with checksums that are right.
struct TraceDraft {
  struct Event {
    var record: Record
    /// What follows the record.
    var tail: [UInt8]
  }

  struct Chunk {
    var header: ChunkHeader
    var events: [Event]
  }

  private var header: TraceHeader
  var chunks: [Chunk] = []

  private static let eventsMax = 4096

  /// - Returns: nil where there is no event in it.
  init?(_ path: String) {
    guard let reader = try? TraceReader(path: path), var decoded = try? DecodedChunk() else { return nil }
    header = reader.header
    // The encoder knows no other.
    header.schema = .current
    var room = TraceDraft.eventsMax
    for index in reader.chunks.indices where room > 0 {
      guard (try? reader.decode(index, into: &decoded)) != nil else { continue }
      let events = TraceDraft.events(decoded.slots, room)
      room -= events.count
      if !events.isEmpty { chunks.append(Chunk(header: reader.chunks[index].header, events: events)) }
    }
    if chunks.isEmpty { return nil }
  }

  private static func events(_ slots: UnsafeBufferPointer<Record>, _ limit: Int) -> [Event] {
    var events: [Event] = []
    var index = 0
    while index < slots.count, events.count < limit {
      let record = slots[index]
      let next = index + 1 + Int(record.tail)
      guard let kind = record.event, next <= slots.count else { break }
      let bytes = Array(UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: slots[index + 1..<next])))
      let length = kind.description.carriesBytes ? Int(record.bLow) : bytes.count
      events.append(Event(record: record, tail: Array(bytes.prefix(length))))
      index = next
    }
    return events
  }

  /// - Returns: whether it could be written.
  func write(to path: String, closed: Bool) -> Bool {
    unlink(path)
    guard let bytes = try? header.encoded(), let encoder = try? ChunkEncoder(),
      var file = try? TraceFile(creating: path)
    else { return false }
    do throws(TraceError) {
      try file.append(bytes)
      var places: [ChunkPlace] = []
      for chunk in chunks {
        let builder = ChunkBuilder(scale: .identity)
        for event in chunk.events { TraceDraft.append(event, to: builder) }
        if builder.isEmpty { continue }
        var header = chunk.header
        let offset = file.end
        try encoder.append(builder, &header, to: &file)
        places.append(ChunkPlace(offset: offset, header: header))
      }
      if closed { try file.append(TraceIndex.encoded(places, at: file.end, end: nil)) }
      return true
    } catch {
      return false
    }
  }

  /// As the event's kind has it: its tail is as long as that says.
  private static func append(_ event: Event, to builder: ChunkBuilder) {
    guard let kind = event.record.event?.description else { return }
    var (record, tail) = (event.record, event.tail)
    if kind.carriesBytes {
      if record.flags & Record.carriesBytesFlag == 0 { tail = [] } else { record.bLow = UInt32(tail.count) }
    } else {
      tail = Array(tail.prefix(kind.fixedTailBytes))
      tail += repeatElement(0, count: kind.fixedTailBytes - tail.count)
    }
    tail += repeatElement(0, count: (Record.size - tail.count % Record.size) % Record.size)
    guard tail.count / Record.size < Int(UInt16.max) else { return }
    record.tail = UInt16(tail.count / Record.size)
    let slots = 1 + Int(record.tail)
    withUnsafeTemporaryAllocation(of: Record.self, capacity: slots) { room in
      room[0] = record
      UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(room)[Record.size...]).copyBytes(from: tail)
      _ = try? builder.append(
        UnsafeBufferPointer(room), slotsMax: builder.slots + slots, stopAtCheckpoint: false)
    }
  }

  mutating func changeMetadata(_ random: inout SeededGenerator) {
    let value = String(repeating: random.next() & 1 == 0 ? "9" : "\u{1b}", count: Int(random.next() % 40))
    if header.metadata.isEmpty || random.next() & 3 == 0 {
      header.metadata.append((random.next() & 1 == 0 ? "host bound ns" : "key", value))
    } else {
      header.metadata[Int.random(in: header.metadata.indices, using: &random)].value = value
    }
    if random.next() & 7 == 0 { header.isFlightRecorder.toggle() }
  }
}

// MARK: Bytes whose checksums are put right

/// Changes chunks' headers and bodies, and the index, in place.
struct TraceBytes {
  private(set) var bytes: [UInt8]
  private var places: [ChunkPlace]
  private let indexOffset: Int

  /// - Returns: nil where there is no chunk.
  init?(_ path: String, _ bytes: [UInt8]) {
    guard let reader = try? TraceReader(path: path), let last = reader.chunks.last else { return nil }
    (self.bytes, places, indexOffset) = (bytes, reader.chunks, Int(last.end))
  }

  /// Columns and their planes are anything.
  mutating func changeBody(_ random: inout SeededGenerator) {
    let number = Int.random(in: places.indices, using: &random)
    let body = Int(places[number].offset) + ChunkHeader.size..<Int(places[number].end)
    guard !body.isEmpty else { return }
    for _ in 0...random.next() % 4 {
      bytes[Int.random(in: body, using: &random)] = UInt8(truncatingIfNeeded: number8(&random))
    }
    var header = places[number].header
    header.bodyCRC = bytes.withUnsafeBytes { nvmepf_crc32c(0, $0.baseAddress! + body.lowerBound, body.count) }
    store(header, number)
    closeAgain()
  }

  /// The header says of its chunk what is not so; the index as the header, or otherwise.
  mutating func changeHeader(_ random: inout SeededGenerator) {
    let number = Int.random(in: places.indices, using: &random)
    var header = places[number].header
    let value = interesting(&random)
    switch random.next() % 10 {
    case 0: header.id = StreamID(source: Source.allCases.randomElement(using: &random)!, stream: UInt16(value & 7))
    case 1: header.beginsWithCheckpoint.toggle()
    case 2: header.sequence = value
    case 3: header.firstEvent = min(value, .max - UInt64(header.events))
    case 4: header.events = UInt32(truncatingIfNeeded: value)
    case 5: header.slots = UInt32(truncatingIfNeeded: value)
    case 6: header.firstTime = value
    case 7: header.lastTime = value
    case 8: header.ringEnd = value
    default: (header.lost, header.commands) = (value, UInt32(truncatingIfNeeded: value))
    }
    if random.next() & 3 != 0 { store(header, number) }
    places[number] = ChunkPlace(offset: places[number].offset, header: header)
    closeAgain()
  }

  private mutating func store(_ header: ChunkHeader, _ number: Int) {
    let offset = Int(places[number].offset)
    bytes.withUnsafeMutableBytes { header.store(to: $0.baseAddress! + offset) }
    places[number] = ChunkPlace(offset: places[number].offset, header: header)
  }

  private mutating func closeAgain() {
    let index = TraceIndex.encoded(places, at: UInt64(indexOffset), end: nil)
    bytes.removeSubrange(indexOffset...)
    bytes += index.bytes
  }

  private func number8(_ random: inout SeededGenerator) -> UInt64 {
    random.next() & 1 == 0
      ? random.next() : [0, 1, 3, 0x10, 0x20, 0x21, 0x22, 0x80, 0xff].randomElement(using: &random)!
  }
}

/// A number at an edge as often as any other.
func interesting(_ random: inout SeededGenerator) -> UInt64 {
  let bit = UInt64(1) << (random.next() & 63)
  return switch random.next() & 7 {
  case 0: 0
  case 1: .max &- (random.next() & 3)
  case 2: bit
  case 3: bit &- 1
  case 4, 5: random.next() & 0xff
  case 6: random.next() & 0xffff
  default: random.next()
  }
}
