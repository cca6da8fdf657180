import Endpoint
import Events
import NVMe
import Text
import Trace

extension Debugger {
  private static let memoryMax = 4096

  /// What the trace knows of host memory at the point: entries that the engine fetched or posted, lists that it read,
  /// data that it wrote.
  func showMemory(_ words: inout TypedWords) throws {
    guard let address = words.number(), let length = words.number(), length > 0 else {
      throw DebuggerError("info memory needs an address and a length, as in info memory 0x10000 64")
    }
    try words.end()
    guard length <= Debugger.memoryMax, address <= UInt64.max - length else {
      throw DebuggerError("the length is at most \(Debugger.memoryMax) bytes")
    }
    var memory = KnownMemory(address: address, count: Int(length))
    let state = try state()
    try events.forEachBackward(before: point) { number, record in
      memory.learn(number, record, state)
      return memory.isComplete
    }
    for line in memory.lines { say(line) }
    guard !memory.sources.isEmpty else { return say("the trace does not know these bytes") }
    for source in memory.sources.prefix(8) {
      guard let record = try events.event(source) else { continue }
      say("  \(number(source)), \(try age(record.pointee.time)): \(record.pointee.event?.description.name ?? "")")
    }
  }
}

/// Bytes of host memory, as far as events tell, latest first.
private struct KnownMemory {
  let address: UInt64
  private var bytes: [UInt8?]
  /// The events that told some of them, latest first.
  private(set) var sources: [UInt64] = []

  init(address: UInt64, count: Int) { (self.address, bytes) = (address, [UInt8?](repeating: nil, count: count)) }

  var isComplete: Bool { !bytes.contains { $0 == nil } }

  mutating func learn(_ number: UInt64, _ record: UnsafePointer<Record>, _ state: EngineState) {
    switch record.pointee.event {
    case .read:
      if let kept = record.bytes { learn(number, Event.Read(record.pointee).address, kept) }
    case .write:
      if let kept = record.bytes { learn(number, Event.Write(record.pointee).address, kept) }
    case .fetch:
      let fetch = Event.Fetch(record.pointee)
      guard !fetch.flags.contains(.failed), let queue = state.submissionQueue(fetch.qid) else { return }
      learn(number, queue.base &+ UInt64(fetch.slot) &* 64, record.tail)
    case .completion:
      let completion = Event.Completion(record.pointee)
      guard !completion.flags.contains(.failed), let queue = state.completionQueue(completion.cqid) else { return }
      guard let slot = slot(of: number, in: queue) else { return }
      let dwords = [completion.dw0, completion.dw1, completion.dw2, completion.dw3]
      dwords.withUnsafeBytes { learn(number, queue.base &+ UInt64(slot) &* 16, $0) }
    default: break
    }
  }

  /// Completions since the point, counted back from the tail: the entry that this one filled.
  private var posted: [UInt16: UInt32] = [:]
  private mutating func slot(of number: UInt64, in queue: EngineState.Completion) -> UInt32? {
    posted[queue.cqid, default: 0] += 1
    let back = posted[queue.cqid]!
    guard back <= queue.size else { return nil }
    return queue.tail >= back ? queue.tail - back : queue.tail + queue.size - back
  }

  private mutating func learn(_ number: UInt64, _ begin: UInt64, _ kept: UnsafeRawBufferPointer) {
    var isNew = false
    for (offset, byte) in kept.enumerated() {
      let place = begin &+ UInt64(offset) &- address
      guard place < UInt64(bytes.count), bytes[Int(place)] == nil else { continue }
      (bytes[Int(place)], isNew) = (byte, true)
    }
    if isNew { sources.append(number) }
  }

  /// Sixteen bytes a line; `..` where nothing is known.
  var lines: [String] {
    stride(from: 0, to: bytes.count, by: 16).map { first in
      let row = bytes[first..<min(first + 16, bytes.count)]
      return "\((address + UInt64(first)).hex): "
        + row.map { $0.map { $0.hexDigits(2) } ?? ".." }.joined(separator: " ")
    }
  }
}
