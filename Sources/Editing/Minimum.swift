import Events
import Glibc
import Replay
import Trace

/// The fewest passes whose replay shows the divergence of a trace.
public struct Minimum {
  /// The first divergence of the trace.
  public let divergence: Divergence
  private let input: EditInput
  private let window: EngineWindow

  /// Find the passes.
  /// - Returns: nil if no replay of the trace diverges.
  public init?(_ input: EditInput) throws(TraceError) {
    self.input = input
    for (id, all) in input.reader.streams where id.source == .engine {
      guard let first = all.firstIndex(where: { input.reader.chunks[$0].header.beginsWithCheckpoint }) else { continue }
      let chunks = Array(all[first...])
      var replayer = try input.replayer(id, chunks, isClosed: input.reader.isClosed)
      guard let divergence = try replayer.run().divergence else { continue }
      self.divergence = divergence
      let passes = try PassesToDivergence(input, id, chunks, divergence)
      window = Minimum.withoutQueues(try passes.shortest(), input)
      return
    }
    return nil
  }

  /// Leave out every queue without which the window diverges in the same way.
  private static func withoutQueues(_ window: EngineWindow, _ input: EditInput) -> EngineWindow {
    var queues: Set<UInt16> = []
    try? window.forEach(input) { (record) in if let qid = record.pointee.queue { queues.insert(qid) } }
    var best = window
    for qid in queues.sorted() where qid != 0 {
      var candidate = best
      do throws(TraceError) {
        try candidate.keepQueues(input) { $0 != qid }
        best = candidate
      } catch { continue }
    }
    return best
  }

  /// Write the passes to `path`.
  /// - Throws: if they do not show the divergence, or cannot be written; then nothing is.
  public func write(to path: String, note: String) throws(TraceError) -> EditedTrace {
    try TraceCut(input, window).write(to: path, as: "minimized", note: note)
  }
}

/// The passes from a checkpoint of a recording to its first divergence.
private struct PassesToDivergence {
  let input: EditInput
  let id: StreamID
  let divergence: Divergence
  /// The stream's chunks from the checkpoint.
  private(set) var chunks: [Int]
  /// Number of the first event of each pass, from 0 at the checkpoint, and of the event that diverges.
  private var passes: [UInt64] = []
  private var end: UInt64 = 0
  /// The number after the last event of a window.
  private var last: UInt64 = .max
  /// Of a difference of states: passes since the last hash of the state that agrees, or the checkpoint.
  private var passesOfState = 0

  init(_ input: EditInput, _ id: StreamID, _ chunks: [Int], _ divergence: Divergence) throws(TraceError) {
    (self.input, self.id, self.divergence, self.chunks) = (input, id, divergence, chunks)
    // The last checkpoint from which the replay still diverges there.
    for first in chunks.indices.reversed() {
      let header = input.reader.chunks[chunks[first]].header
      guard header.beginsWithCheckpoint, divergence.recordedKind == nil || header.firstTime <= divergence.timeNs else {
        continue
      }
      self.chunks = Array(chunks[first...])
      if try findPasses() { return }
    }
    throw TraceError(.damaged, "\(input.reader.path): its replay diverges, but not from any checkpoint")
  }

  /// - Returns: whether a replay from the checkpoint finds the divergence.
  private mutating func findPasses() throws(TraceError) -> Bool {
    var replayer = try input.replayer(id, chunks, isClosed: input.reader.isClosed)
    passes = []
    repeat {
      if replayer.isBetweenPasses { passes.append(replayer.event) }
    } while try replayer.step()
    end = replayer.event
    guard try replayer.run().divergence?.isSame(as: divergence) == true else { return false }
    try findEnds()
    return true
  }

  /// What the recorded engine's state was is known at its checkpoints and hashes only: a difference of states begins
  /// after the last of them that agrees.
  private var isOfState: Bool { divergence.kind == .state }

  /// Where a window ends: after the event that diverges, or at the stream's end if that is it. After a hash that differs it
  /// ends behind the next checkpoint, which tells the fields, unless more than a tenth of the events would lie in between.
  /// And where a difference of states begins.
  private mutating func findEnds() throws(TraceError) {
    let isOfHash = isOfState && divergence.recordedKind == .stateHash
    last = isOfHash || divergence.recordedKind == nil ? .max : end + 1
    passesOfState = passes.count
    guard isOfState else { return }
    var walk = try EventWalk(input, chunks)
    while walk.number <= end || last == .max, let record = try walk.next() {
      if walk.number <= end {
        guard record.pointee.is(.stateHash), Event.StateHash(record.pointee).length != 0 else { continue }
        passesOfState = passes.count { $0 >= walk.number }
      } else if walk.number > end + 1, record.pointee.is(.checkpoint) {
        last = walk.number
      } else if record.pointee.is(.gap) {
        last = walk.number - 1
      }
    }
    let events = input.reader.chunks.reduce(UInt64(0)) { $1.header.id == id ? $0 &+ UInt64($1.header.events) : $0 }
    if isOfHash, min(last, walk.number) - end > events / 10 { last = end + 1 }
  }

  /// The shortest window that still diverges in the same way: twice as many passes until one does, then bisection.
  func shortest() throws(TraceError) -> EngineWindow {
    var best = try window(passes: passes.count)
    if isOfState {
      guard passesOfState > 0, passesOfState < passes.count else { return best }
      let candidate = try window(passes: passesOfState)
      return try diverges(candidate) ? candidate : best
    }
    // The longest window known not to diverge, and the shortest known to.
    var (without, with) = (0, passes.count)
    do throws(TraceError) {
      while with - without > 1 {
        let count = with == passes.count ? min(max(2 * without, 1), with - 1) : (without + with) / 2
        let candidate = try window(passes: count)
        if try diverges(candidate) { (with, best) = (count, candidate) } else { without = count }
      }
    } catch {
      // What was found so far is kept.
      guard case .system(EINTR) = error.kind else { throw error }
    }
    return best
  }

  /// The last passes.
  private func window(passes count: Int) throws(TraceError) -> EngineWindow {
    guard count < passes.count else {
      return try EngineWindow(input, id, chunks, 0..<last, state: nil, divergence)
    }
    let first = passes[passes.count - count]
    var replayer = try input.replayer(id, chunks, isClosed: false)
    while replayer.event < first, try replayer.step() {}
    return try EngineWindow(input, id, chunks, first..<last, state: replayer.checkpoint(), divergence)
  }

  private func diverges(_ window: EngineWindow) throws(TraceError) -> Bool {
    var slots: [Record] = []
    try window.forEach(input) { (record) throws(TraceError) in
      slots += UnsafeBufferPointer(start: record, count: 1 + Int(record.pointee.tail))
    }
    var isGiven = false
    let chunk = UnsafeMutableBufferPointer<Record>.allocate(capacity: slots.count)
    _ = chunk.initialize(fromContentsOf: slots)
    defer { chunk.deallocate() }
    // What does not fit into memory is no improvement.
    guard slots.count <= EngineWindow.slotsMax else { return false }
    let isClosed = divergence.recordedKind == nil && input.reader.isClosed
    var replayer = try Replayer(stream: id.stream, isClosed: isClosed) { () throws(TraceError) in
      defer { isGiven = true }
      return isGiven ? nil : UnsafeBufferPointer(chunk)
    }
    return try replayer.run().divergence?.isSame(as: divergence) == true
  }
}
