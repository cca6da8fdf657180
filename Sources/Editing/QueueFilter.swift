import Endpoint
import Events
import NVMe
import Replay
import Trace

/// Selects the events of some queues: the admin queue, some submission queues, and their completion queues.
struct QueueFilter {
  private let dropped: Set<UInt16>
  private let droppedCompletion: Set<UInt16>

  /// The queues of a window, with those that its events name.
  /// - Parameter isKept: of a submission queue; the admin queue always is.
  /// - Throws: if a kept queue and another one share a completion queue.
  init(_ events: [Record], _ isKept: (UInt16) -> Bool) throws(TraceError) {
    var users: [UInt16: Set<UInt16>] = [:]
    var seen: Set<UInt16> = []
    QueueFilter.forEach(events) { record in
      switch record.event {
      case .completion:
        let completion = Event.Completion(record)
        users[completion.cqid, default: []].insert(completion.sqid)
      case .fetch, .executeBegin: seen.insert(record.qid)
      case .doorbell where !Event.Doorbell(record).flags.contains(.completionHead): seen.insert(record.qid)
      default: break
      }
    }
    seen.formUnion(users.values.joined())
    dropped = seen.filter { $0 != 0 && !isKept($0) }
    var droppedCompletion: Set<UInt16> = []
    for (cqid, queues) in users {
      let others = queues.intersection(dropped)
      if others == queues {
        droppedCompletion.insert(cqid)
      } else if let other = others.min() {
        throw TraceError(
          .damaged, "queue \(other) shares completion queue \(cqid) with a queue that is kept: name both with --qid")
      }
    }
    // Without a completion: a queue's own completion queue usually has its number.
    for qid in dropped where users[qid] == nil && !users.values.contains(where: { $0.contains(qid) }) {
      droppedCompletion.insert(qid)
    }
    self.droppedCompletion = droppedCompletion
  }

  /// The submission queues without their events.
  var queues: [UInt16] { dropped.sorted() }

  func keeps(_ record: Record) -> Bool {
    guard record.event?.hasQueue == true else { return true }
    switch record.event {
    case .completion: return !dropped.contains(Event.Completion(record).sqid)
    case .doorbell where Event.Doorbell(record).flags.contains(.completionHead):
      return !droppedCompletion.contains(record.qid)
    case .interrupt, .completionQueueFull, .timer: return !droppedCompletion.contains(record.qid)
    default: return !dropped.contains(record.qid)
    }
  }

  /// Every event of consecutive slots.
  static func forEach(_ slots: [Record], _ body: (Record) -> Void) {
    var position = 0
    while position < slots.count {
      body(slots[position])
      position += 1 + Int(slots[position].tail)
    }
  }
}

extension EngineWindow {
  /// Leave out the events of other queues, and what the engine's state knows of their commands.
  /// - Parameter isKept: of a submission queue; the admin queue always is.
  /// - Throws: if the window does not replay without them.
  mutating func keepQueues(_ input: EditInput, _ isKept: (UInt16) -> Bool) throws(TraceError) {
    var all: [Record] = []
    try forEach(input) { (record) throws(TraceError) in
      all += UnsafeBufferPointer(start: record, count: 1 + Int(record.pointee.tail))
      guard all.count <= EngineWindow.slotsMax else {
        throw TraceError(.damaged, "the period is too long to leave out queues: choose a shorter one")
      }
    }
    let filter = try QueueFilter(all, isKept)
    var kept: [Record] = []
    var isFirst = true
    all.withUnsafeBufferPointer { all in
      var position = 0
      while position < all.count {
        let end = position + 1 + Int(all[position].tail)
        // Later checkpoints contain the other queues, and hashes do.
        let isOfState = all[position].is(.checkpoint) || all[position].is(.stateHash)
        if isFirst || (filter.keeps(all[position]) && !isOfState) { kept += all[position..<end] }
        isFirst = false
        position = end
      }
    }
    try forget(filter.queues, in: &kept)
    content = try renamed(kept, input)
    self.filter = filter
  }

  /// Slots of a window that are kept in memory.
  static let slotsMax = 1 << 22

  /// Take commands out of the checkpoint at the beginning.
  private func forget(_ queues: [UInt16], in slots: inout [Record]) throws(TraceError) {
    let first = Int(slots[0].tail) + 1
    var found: Result<[UInt8], TraceError> = .failure(TraceError(.damaged, "the first checkpoint is damaged"))
    slots.withUnsafeBufferPointer { slots in
      guard let bytes = slots.baseAddress!.bytes, var controller = try? Controller.decode(bytes) else { return }
      for qid in queues where controller.state.submissionQueues.contains(where: { $0.qid == qid }) {
        guard controller.forgetCommands(of: QueueID(qid)) else {
          found = .failure(
            TraceError(
              .damaged, "the engine's state needs commands of queue \(qid) when the period begins: choose another"))
          return
        }
      }
      var state = [UInt8](repeating: 0, count: Controller.checkpointBytesMax)
      let count = state.withUnsafeMutableBytes { controller.encode(into: $0) }
      found = .success(Array(state[..<count]))
    }
    let state = try found.get()
    var checkpoint: [Record] = []
    var event = Event.Checkpoint(slots[0])
    event.length = UInt32(state.count)
    try event.record.withTail(state) { (record) throws(TraceError) in
      checkpoint += UnsafeBufferPointer(start: record, count: 1 + Int(record.pointee.tail))
    }
    slots.replaceSubrange(..<first, with: checkpoint)
  }

  /// The events with the slots that the engine allocates now that it has fewer commands.
  private func renamed(_ slots: [Record], _ input: EditInput) throws(TraceError) -> [Record] {
    let chunk = UnsafeMutableBufferPointer<Record>.allocate(capacity: slots.count)
    _ = chunk.initialize(fromContentsOf: slots)
    defer { chunk.deallocate() }
    var places: [Int] = []
    var position = 0
    while position < chunk.count {
      places.append(position)
      position += 1 + Int(chunk[position].tail)
    }
    var isGiven = false
    let isClosed = endsBetweenPasses || (containsEnd && input.reader.isClosed)
    var replayer = try Replayer(stream: id.stream, isClosed: isClosed) { () throws(TraceError) in
      defer { isGiven = true }
      return isGiven ? nil : UnsafeBufferPointer(chunk)
    }
    replayer.slots = { number, slot in
      var end = Event.ExecuteEnd(chunk[places[Int(number)]])
      end.slot = UInt32(bitPattern: slot)
      let tail = chunk[places[Int(number)]].tail
      chunk[places[Int(number)]] = end.record
      chunk[places[Int(number)]].tail = tail
    }
    let came = try replayer.run().divergence
    guard came == nil ? divergence == nil : divergence.map({ came!.isSame(as: $0) }) == true else {
      throw TraceError(
        .damaged,
        "the period does not replay without the other queues: at \(came?.recorded ?? "its end") the engine "
          + "needs their commands; cut it with all queues")
    }
    return Array(chunk)
  }
}
