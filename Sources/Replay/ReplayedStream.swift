import Endpoint
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
    try findState(&divergence)
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

  /// Replay again from the checkpoint before the divergence, to see the engine just before it.
  private func findState(_ divergence: inout Divergence) throws(TraceError) {
    let anchor = (0...current).last { header($0).beginsWithCheckpoint && header($0).firstEvent < divergence.event }
    guard let anchor else { return }
    var decoded = try DecodedChunk()
    var next = anchor
    let isAtEnd = divergence.kind == .end
    var replayer: Replayer
    do throws(TraceError) {
      replayer = try Replayer(stream: stream, isClosed: isAtEnd, first: header(anchor).firstEvent) {
        [self] () throws(TraceError) in
        guard next <= current || isAtEnd && next < chunks.count else { return nil }
        defer { next += 1 }
        try reader.decode(chunks[next], into: &decoded)
        return decoded.slots
      }
    } catch { return }
    let observer = LastState(target: divergence.event)
    replayer.observer = observer
    observer.observe(replayer.controller, event: replayer.event)
    guard let again = try replayer.run().divergence, again.event == divergence.event, again.kind == divergence.kind
    else {
      return
    }
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
