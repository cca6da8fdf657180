import Events
import Replay
import Trace

/// A part of an engine's stream that begins, and usually ends, between two passes, with the engine's state there.
struct EngineWindow {
  let id: StreamID
  /// The stream's chunks, from one that begins with a checkpoint.
  let chunks: [Int]
  /// Numbers of its events, from 0 at the first of `chunks`.
  private(set) var events: Range<UInt64>
  /// The engine's state before the first event; nil if that is a recorded checkpoint.
  private(set) var state: [UInt8]?
  /// When it begins, and the time of the first event after it.
  private(set) var begin: UInt64
  private(set) var end: UInt64
  /// It ends between two passes; not known of the stream's end.
  private(set) var endsBetweenPasses = false
  private(set) var containsEnd: Bool
  /// The events, where they are not those of the recording.
  var content: [Record]?
  /// The queues whose events it has; nil for all.
  var filter: QueueFilter?
  /// Where its replay diverges; nil if it does not, or is not possible.
  private(set) var divergence: Divergence?
  /// Why it begins at a recorded checkpoint and ends anywhere; nil if it does not.
  private(set) var problem: String?

  /// The passes with events in a period.
  /// - Returns: nil if there are none.
  /// - Throws: if the stream has no checkpoint, or is damaged.
  init?(_ input: EditInput, _ id: StreamID, _ all: [Int], _ period: Range<UInt64>) throws(TraceError) {
    let reader = input.reader
    let checkpoints = all.indices.filter { reader.chunks[all[$0]].header.beginsWithCheckpoint }
    guard
      let first = checkpoints.last(where: { reader.chunks[all[$0]].header.firstTime <= period.lowerBound })
        ?? checkpoints.first
    else { throw TraceError(.damaged, "\(reader.path): there is no checkpoint at which a replay could start") }
    (self.id, chunks) = (id, Array(all[first...]))
    guard let wanted = try EngineWindow.events(of: period, input, chunks) else { return nil }
    (events, end, containsEnd) = (wanted.events, wanted.end, wanted.end == .max)
    begin = period.lowerBound
    do throws(TraceError) {
      try extend(input)
    } catch {
      guard case .otherVersion = error.kind else { throw error }
      problem = error.description
    }
    if problem != nil { (events, state) = (0..<events.upperBound, nil) }
    try trim(input)
    if events.isEmpty { return nil }
  }

  /// The events from a boundary between two passes to a divergence.
  /// - Parameters:
  ///   - events: its end is `.max` for the stream's.
  ///   - state: the engine's before the first; nil if that is a recorded checkpoint.
  init(
    _ input: EditInput, _ id: StreamID, _ chunks: [Int], _ events: Range<UInt64>, state: [UInt8]?,
    _ divergence: Divergence
  ) throws(TraceError) {
    (self.id, self.chunks, self.events, self.state, self.divergence) = (id, chunks, events, state, divergence)
    (begin, end, containsEnd) = (0, .max, events.upperBound == .max)
    try trim(input)
  }

  /// Every event with its tail, the checkpoint first.
  func forEach(_ input: EditInput, _ body: (UnsafePointer<Record>) throws(TraceError) -> Void) throws(TraceError) {
    if let content { return try content.forEachEvent(body) }
    if let state {
      try Event.Checkpoint(time: begin, flags: .bytes, length: UInt32(state.count)).record.withTail(state, body)
    }
    var walk = try EventWalk(input, chunks)
    while walk.number < events.upperBound, let record = try walk.next() {
      if walk.number > events.lowerBound { try body(record) }
    }
  }

  /// The events of a period, and the time of the first one after it, `.max` if there is none.
  private static func events(of period: Range<UInt64>, _ input: EditInput, _ chunks: [Int]) throws(TraceError)
    -> (events: Range<UInt64>, end: UInt64)?
  {
    var walk = try EventWalk(input, chunks)
    var first: UInt64?
    while let record = try walk.next() {
      let time = record.pointee.time
      if time >= period.upperBound { return first.map { ($0..<walk.number - 1, time) } }
      if time >= period.lowerBound { first = first ?? walk.number - 1 }
    }
    return first.map { ($0..<walk.number, .max) }
  }

  /// Include the other events of the first and the last pass, and take the state before them.
  private mutating func extend(_ input: EditInput) throws(TraceError) {
    let isClosed = containsEnd && input.reader.isClosed
    var replayer = try input.replayer(id, chunks, isClosed: isClosed)
    // The first step is the checkpoint itself.
    var first: UInt64 = 0
    while replayer.event <= events.lowerBound {
      // What an interrupted pass leaves behind is no state; the checkpoint after the gap is one.
      if replayer.isBetweenPasses { first = replayer.event }
      guard try replayer.step() else { break }
    }
    guard replayer.isBetweenPasses || replayer.event > events.lowerBound else {
      problem = "the replay diverges before that"
      return
    }
    while replayer.event < events.upperBound, try replayer.step() {}
    divergence = containsEnd ? try replayer.run().divergence : replayer.divergence()
    endsBetweenPasses = replayer.isBetweenPasses && !containsEnd
    events = first..<max(events.upperBound, endsBetweenPasses ? replayer.event : 0)
    guard first > 0 else { return }
    replayer = try input.replayer(id, chunks, isClosed: false)
    while replayer.event < first, try replayer.step() {}
    state = replayer.checkpoint()
  }

  /// Leave out events before the first pass that do not involve the engine, and find the times of both ends.
  private mutating func trim(_ input: EditInput) throws(TraceError) {
    var walk = try EventWalk(input, chunks)
    var first: UInt64?
    var last: UInt64 = 0
    while let record = try walk.next() {
      let (number, time) = (walk.number - 1, record.pointee.time)
      if number >= events.upperBound {
        end = time
        break
      }
      if first == nil, number >= events.lowerBound, time >= begin || record.pointee.event?.involvesEngine == true {
        first = number
        begin = min(max(begin, last), time)
      }
      last = time
      // The last pass may end after the period, and with it the stream.
      if number + 1 == events.upperBound { end = max(end, last &+ 1) }
    }
    events = (first ?? events.upperBound)..<events.upperBound
  }
}
