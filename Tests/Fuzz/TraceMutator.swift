import Chance
@_spi(Places) import Events
import Glibc

@testable import Trace

/// A change of a trace that its checksums agree with, so that what it leads to is beyond them.
/// - Returns: the new length; 0 where there is nothing to change.
@_cdecl("fuzz_trace_mutate")
public func mutateTrace(_ data: UnsafeMutablePointer<UInt8>, _ count: Int, _ room: Int, _ seed: UInt32) -> Int {
  var random = SeededGenerator(seed: UInt64(seed))
  let path = "/dev/shm/nvmepf-fuzz-\(getpid())-draft"
  defer { unlink(path) }
  let bytes = Array(UnsafeBufferPointer(start: data, count: count))
  guard write(bytes, to: path) else { return 0 }
  let changed: [UInt8]?
  if random.next() % 5 == 0 {
    guard var raw = TraceBytes(path, bytes) else { return 0 }
    if random.next() & 1 == 0 { raw.changeBody(&random) } else { raw.changeHeader(&random) }
    changed = raw.bytes
  } else {
    guard var draft = TraceDraft(path) else { return 0 }
    for _ in 0...random.next() % 4 { draft.change(&random) }
    changed = draft.write(to: path, closed: random.next() & 15 != 0) ? contents(path, room) : nil
  }
  guard let changed, !changed.isEmpty, changed.count <= room else { return 0 }
  memcpy(data, changed, changed.count)
  return changed.count
}

private func write(_ bytes: [UInt8], to path: String) -> Bool {
  let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
  guard file >= 0 else { return false }
  defer { close(file) }
  return Glibc.write(file, bytes, bytes.count) == bytes.count
}

/// The file at `path`, where it is not longer than `limit`.
private func contents(_ path: String, _ limit: Int) -> [UInt8]? {
  let file = open(path, O_RDONLY)
  guard file >= 0 else { return nil }
  defer { close(file) }
  var bytes = [UInt8](repeating: 0, count: limit + 1)
  let count = read(file, &bytes, bytes.count)
  return count > 0 && count <= limit ? Array(bytes[..<count]) : nil
}

extension TraceDraft {
  mutating func change(_ random: inout SeededGenerator) {
    guard let number = chunks.indices.randomElement(using: &random) else { return }
    switch random.next() % 16 {
    case 0: changeMetadata(&random)
    case 1: changeChunks(number, &random)
    case 2...5: changeOrder(&chunks[number].events, &random)
    default:
      guard let place = chunks[number].events.indices.randomElement(using: &random) else { return }
      chunks[number].events[place].change(&random)
    }
  }

  /// A chunk comes twice, elsewhere, as another stream's or not at all.
  private mutating func changeChunks(_ number: Int, _ random: inout SeededGenerator) {
    switch random.next() & 3 {
    case 0 where chunks.count > 1: chunks.remove(at: number)
    case 1: chunks.swapAt(number, Int.random(in: chunks.indices, using: &random))
    case 2 where chunks.count < 64: chunks.append(chunks[number])
    default:
      let source = Source.allCases.randomElement(using: &random)!
      chunks[number].header.id = StreamID(source: source, stream: UInt16(random.next() & 3))
    }
  }

  private func changeOrder(_ events: inout [Event], _ random: inout SeededGenerator) {
    guard let place = events.indices.randomElement(using: &random) else { return }
    let other = Int.random(in: events.indices, using: &random)
    switch random.next() & 3 {
    case 0: events.swapAt(place, other)
    case 1: events.remove(at: place)
    case 2:
      let source = chunks.randomElement(using: &random)!.events.randomElement(using: &random)
      if let source { events.insert(source, at: place) }
    default:
      let kind = EventKind.allCases.randomElement(using: &random)!
      var event = Event(record: Record(time: events[place].record.time, kind: kind), tail: [])
      for _ in 0..<6 { event.change(&random) }
      events.insert(event, at: place)
    }
  }
}

extension TraceDraft.Event {
  mutating func change(_ random: inout SeededGenerator) {
    let value = interesting(&random)
    switch random.next() % 12 {
    case 0: record.time = value
    case 1: record.flags = UInt8(truncatingIfNeeded: value)
    case 2: record.qid = UInt16(truncatingIfNeeded: value)
    case 3: record.cid = UInt16(truncatingIfNeeded: value)
    case 4: record.a = value
    case 5: record.b = value
    case 6: record.aLow = UInt32(truncatingIfNeeded: value)
    case 7: record.bHigh = UInt32(truncatingIfNeeded: value)
    case 8: changeLength(&random)
    default: changeTail(value, &random)
    }
  }

  private mutating func changeLength(_ random: inout SeededGenerator) {
    if random.next() & 1 == 0 {
      tail = Array(tail.prefix(Int(random.next() % UInt64(tail.count + 1))))
    } else if tail.count < 1 << 14 {
      tail += (0..<random.next() % 80).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }
  }

  /// A byte or a word of it becomes `value`.
  private mutating func changeTail(_ value: UInt64, _ random: inout SeededGenerator) {
    let width = 1 << Int(random.next() & 3)
    guard tail.count >= width else { return }
    let place = Int(random.next() % UInt64(tail.count / width)) * width
    for byte in 0..<width { tail[place + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
  }
}
