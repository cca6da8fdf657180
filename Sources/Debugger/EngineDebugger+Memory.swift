import Endpoint
import Events
import NVMe
import Text
import Trace

extension EngineDebugger {
  private static let memoryMax = 4096

  /// What the trace knows of host memory at the point: entries that the engine fetched or posted, lists that it read,
  /// data that it wrote.
  func showMemory(_ words: inout TypedWords) throws {
    guard let address = words.number(), let length = words.number(), length > 0 else {
      throw DebuggerError("info memory needs an address and a length, as in info memory 0x10000 64")
    }
    try words.end()
    guard length <= EngineDebugger.memoryMax, address <= UInt64.max - length else {
      throw DebuggerError("the length is at most \(EngineDebugger.memoryMax) bytes")
    }
    let state = try state()
    var memory = KnownMemory(address: address, count: Int(length), state)
    try events.forEachBackward(before: point) { number, record in
      memory.learn(number, record, state)
      return memory.isComplete
    }
    for line in memory.lines { say(line) }
    guard !memory.sources.isEmpty else { return say("the trace does not know these bytes") }
    for source in memory.sources.prefix(8) {
      guard let record = try events.event(source) else { continue }
      say("  \(number(source)), \(age(record.pointee.time)): \(record.pointee.event?.description.name ?? "")")
    }
  }
}

/// Bytes of host memory, as far as events tell, latest first.
private struct KnownMemory {
  let address: UInt64
  private var bytes: [UInt8?]
  /// Told of, or overwritten with data that the trace does not hold.
  private var isSettled: [Bool]
  private var left: Int
  /// The events that told some of them, latest first.
  private(set) var sources: [UInt64] = []
  /// The queues whose entries lie where they lie at the point, with the number of completions since.
  private var queues: Set<UInt16> = []
  private var posted: [UInt16: UInt32] = [:]

  init(address: UInt64, count: Int, _ state: EngineState) {
    (self.address, bytes, left) = (address, [UInt8?](repeating: nil, count: count), count)
    isSettled = [Bool](repeating: false, count: count)
    queues = Set(state.submissionQueues.map(\.qid) + state.completionQueues.map(\.cqid))
  }

  var isComplete: Bool { left == 0 }

  mutating func learn(_ number: UInt64, _ record: UnsafePointer<Record>, _ state: EngineState) {
    // Earlier queues lay elsewhere.
    if CommandHistory.endsCommands(record.pointee) { queues = [] }
    switch record.pointee.event {
    case .read:
      if let kept = record.bytes { learn(number, Event.Read(record.pointee).address, kept) }
    case .write:
      if let kept = record.bytes { learn(number, Event.Write(record.pointee).address, kept) }
    case .segment:
      let segment = Event.Segment(record.pointee)
      if !segment.flags.contains(.fromHost) { overwrite(segment.address, segment.length) }
    case .fetch:
      let fetch = Event.Fetch(record.pointee)
      guard !fetch.flags.contains(.failed) else { return }
      if queues.contains(fetch.qid), let queue = state.submissionQueue(fetch.qid) {
        learn(number, queue.base &+ UInt64(fetch.slot) &* 64, record.tail)
      }
      forgetQueue(createdBy: record)
    case .completion:
      let completion = Event.Completion(record.pointee)
      guard queues.contains(completion.cqid), let queue = state.completionQueue(completion.cqid),
        let slot = slot(in: queue), !completion.flags.contains(.failed)
      else { return }
      let dwords = [completion.dw0, completion.dw1, completion.dw2, completion.dw3]
      dwords.withUnsafeBytes { learn(number, queue.base &+ UInt64(slot) &* 16, $0) }
    default: break
    }
  }

  private mutating func forgetQueue(createdBy record: UnsafePointer<Record>) {
    guard record.pointee.qid == 0, let entry = record.fixedTail(as: SubmissionEntry.self),
      entry.opcode == AdminOpcode.createIOSubmissionQueue.rawValue
        || entry.opcode == AdminOpcode.createIOCompletionQueue.rawValue
    else { return }
    queues.remove(UInt16(truncatingIfNeeded: entry.cdw10))
  }

  /// The entry that a completion filled, counted back from the tail.
  private mutating func slot(in queue: EngineState.Completion) -> UInt32? {
    let back = posted[queue.cqid, default: 0] + 1
    posted[queue.cqid] = back
    guard back <= queue.size else { return nil }
    return queue.tail >= back ? queue.tail - back : queue.tail + queue.size - back
  }

  private mutating func learn(_ number: UInt64, _ begin: UInt64, _ kept: UnsafeRawBufferPointer) {
    var isNew = false
    for (offset, byte) in kept.enumerated() where settle(begin &+ UInt64(offset)) {
      bytes[Int(begin &+ UInt64(offset) &- address)] = byte
      isNew = true
    }
    if isNew { sources.append(number) }
  }

  private mutating func overwrite(_ begin: UInt64, _ length: UInt32) {
    for place in bytes.indices where address &+ UInt64(place) &- begin < UInt64(length) {
      _ = settle(address &+ UInt64(place))
    }
  }

  /// - Returns: whether this byte was not settled.
  private mutating func settle(_ byte: UInt64) -> Bool {
    let place = byte &- address
    guard place < UInt64(bytes.count), !isSettled[Int(place)] else { return false }
    isSettled[Int(place)] = true
    left -= 1
    return true
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
