import Endpoint
import EventWords
import Events
import Trace

/// The chunks of one engine's stream, which knows to where a replay has read them.
final class ReplayedStream {
  let reader: TraceReader
  let stream: UInt16
  /// As indices in the trace.
  private let chunks: [Int]
  private var source: () throws(TraceError) -> UnsafeBufferPointer<Record>?
  /// The chunk at which reading began.
  private var first = 0
  /// The chunk that `next` returned last.
  private var current = -1

  /// - Parameter chunks: at least one.
  init(_ reader: TraceReader, _ stream: UInt16, _ chunks: [Int]) {
    (self.reader, self.stream, self.chunks) = (reader, stream, chunks)
    source = { () throws(TraceError) in nil }
  }

  func header(_ chunk: Int) -> ChunkHeader { reader.chunks[chunks[chunk]].header }

  /// One past the last event's number.
  var end: UInt64 { header(chunks.count - 1).firstEvent &+ UInt64(header(chunks.count - 1).events) }

  /// Read from this chunk on.
  func begin(at chunk: Int) throws(TraceError) {
    source = try reader.source(of: Array(chunks[chunk...]))
    (first, current) = (chunk, chunk - 1)
  }

  /// The next chunk's slots, or a gap before them; nil at the end. They stay valid until the next call.
  func next() throws(TraceError) -> UnsafeBufferPointer<Record>? {
    guard let slots = try source() else { return nil }
    let isGap = slots.count == 1 && slots[0].is(.gap) && current + 1 < chunks.count && header(current + 1).slots != 1
    // The chunks before the first are no gap.
    if isGap, current + 1 == first, first > 0 { return try next() }
    if !isGap { current = min(current + 1, chunks.count - 1) }
    return slots
  }

  /// Number a divergence at which the replay stopped as the trace does, which counts lost events.
  func number(_ divergence: inout Divergence) {
    if current >= 0 { divergence.event = header(current).firstEvent &+ divergence.eventInChunk }
  }

  /// The next chunk with a checkpoint from this event on, at which a replay can go on. A checkpoint that differs is one.
  func checkpoint(from event: UInt64) -> Int? {
    (min(max(current, first + 1), chunks.count)..<chunks.count).first {
      header($0).beginsWithCheckpoint && header($0).firstEvent >= event
    }
  }

  /// Complete the report of the divergence at which the replay stopped, from the trace: the engine's state there, the
  /// events before.
  func examine(_ divergence: inout Divergence) throws(TraceError) {
    guard current >= 0 else { return }
    if let anchor = try anchor(of: divergence) {
      try findState(&divergence, from: anchor)
      if divergence.recordedKind == .stateHash { try findLater(&divergence, from: anchor) }
    }
    var history = DivergenceHistory(divergence)
    var decoded = try DecodedChunk()
    for chunk in (max(0, current - ReplayedStream.chunksMax)...current).reversed() {
      try reader.decode(chunks[chunk], into: &decoded)
      history.read(decoded.slots, first: header(chunk).firstEvent)
      if history.isComplete { break }
    }
    history.tell(&divergence)
  }

  /// Chunks before a divergence that are searched for events of its queue.
  private static let chunksMax = 32

  /// The chunk that holds an event, or the last one before it.
  func chunk(of event: UInt64) -> Int { (0..<chunks.count).last { header($0).firstEvent <= event } ?? 0 }

  /// Whether an event is the checkpoint at the beginning of a chunk.
  func beginsWithCheckpoint(at event: UInt64) -> Bool {
    let header = header(chunk(of: event))
    return header.beginsWithCheckpoint && header.firstEvent == event
  }

  /// No event was lost before this chunk.
  private func isContinuous(at chunk: Int) -> Bool {
    header(chunk).firstEvent == header(chunk - 1).firstEvent &+ UInt64(header(chunk - 1).events)
  }

  /// The next chunk with a checkpoint after this one; nil if there is none, or events were lost before it.
  func nextCheckpoint(after chunk: Int) -> Int? {
    for next in (chunk + 1)..<max(chunks.count, chunk + 1) {
      guard isContinuous(at: next) else { return nil }
      if header(next).beginsWithCheckpoint { return next }
    }
    return nil
  }

  /// The chunk of a late checkpoint from which a replay finds the divergence. It need not be the last one: what a replay
  /// compares outputs with, such as the commands at the backend, is not in a checkpoint.
  /// - Returns: nil if there is none.
  func anchor(of divergence: Divergence) throws(TraceError) -> Int? {
    let last = chunk(of: divergence.event)
    var begin = last
    while begin > first, isContinuous(at: begin) { begin -= 1 }
    let anchors = (begin...last).filter { header($0).beginsWithCheckpoint && header($0).firstEvent < divergence.event }
    // Each time twice as far back: all these replays cost no more than two or three of the whole.
    var (place, distance) = (anchors.count - 1, 1)
    while place >= 0 {
      var replayer = try replayer(from: anchors[place], to: last, isClosed: divergence.kind == .end)
      if let found = try replayer?.run().divergence, found.event == divergence.event, found.kind == divergence.kind {
        return anchors[place]
      }
      (place, distance) = (place == 0 ? -1 : max(0, place - distance), 2 * distance)
    }
    return nil
  }

  /// A replay from the checkpoint of a chunk on.
  /// - Parameters:
  ///   - last: the last chunk that it reads.
  ///   - isClosed: the recording ends there, with the engine at rest.
  /// - Returns: nil if it cannot begin at that checkpoint.
  func replayer(from anchor: Int, to last: Int, isClosed: Bool = false) throws(TraceError) -> Replayer? {
    var decoded = try DecodedChunk()
    var next = anchor
    do throws(TraceError) {
      return try Replayer(stream: stream, isClosed: isClosed, first: header(anchor).firstEvent) {
        [self] () throws(TraceError) in
        guard next <= last else { return nil }
        defer { next += 1 }
        try reader.decode(chunks[next], into: &decoded)
        return decoded.slots
      }
    } catch {
      if case .system = error.kind { throw error }
      return nil
    }
  }

  /// Replay past different hashes, up to the first difference that tells more: an output, or the next checkpoint.
  private func findLater(_ divergence: inout Divergence, from anchor: Int) throws(TraceError) {
    let last = nextCheckpoint(after: current) ?? current
    guard var replayer = try replayer(from: anchor, to: last) else { return }
    replayer.hashes = { _, _, _ in }
    let end = last > current ? header(last).firstEvent : .max
    while replayer.event <= end, try replayer.step() {}
    if let later = replayer.divergence() { divergence.tell(later) }
  }

  /// The events of a range in words: the first of them.
  func texts(_ events: Range<UInt64>, max: Int) throws(TraceError) -> [Divergence.Before] {
    var found: [Divergence.Before] = []
    var decoded = try DecodedChunk()
    for chunk in chunk(of: events.lowerBound)..<chunks.count
    where header(chunk).firstEvent < events.upperBound && found.count < max {
      try reader.decode(chunks[chunk], into: &decoded)
      var (number, slot) = (header(chunk).firstEvent, 0)
      while slot < decoded.slots.count, number < events.upperBound, found.count < max {
        let record = decoded.slots.baseAddress! + slot
        if number >= events.lowerBound, record.pointee.event?.involvesEngine == true {
          found.append(Divergence.Before(event: number, timeNs: record.pointee.time, text: EventSentence.text(record)))
        }
        number &+= 1
        slot += 1 + Int(record.pointee.tail)
      }
    }
    return found
  }

  /// Replay again from a checkpoint before the divergence, to see the engine just before it.
  private func findState(_ divergence: inout Divergence, from anchor: Int) throws(TraceError) {
    let isAtEnd = divergence.kind == .end
    let last = isAtEnd ? chunks.count - 1 : current
    guard var replayer = try replayer(from: anchor, to: last, isClosed: isAtEnd) else { return }
    let observer = LastState(target: divergence.event)
    replayer.observer = observer
    observer.observe(replayer.controller, event: replayer.event)
    _ = try replayer.run()
    let isAtRest = [.rest, .state, .invariant].contains(divergence.kind)
    guard let state = isAtRest ? replayer.controller.state : observer.state else { return }
    divergence.inFlight = state.commands.map(\.text)
    if divergence.kind == .rest { divergence.waits = state.idleReasons }
  }

  /// Keeps the last state before a divergence.
  private final class LastState: ReplayObserver {
    private let target: UInt64
    private(set) var state: EngineState?
    /// Between two observations of the engine lie the events of one command at most.
    private static let reach: UInt64 = 4096

    init(target: UInt64) { self.target = target }

    func observe(_ controller: borrowing Controller, event: UInt64) {
      if target - min(event, target) < LastState.reach { state = controller.state }
    }
  }
}
