/// One ring on its way into the trace.
final class RecordedStream {
  let ring: Ring
  let id: StreamID
  let builder: ChunkBuilder
  /// Chunks and events of this stream that are in the trace.
  var sequence: UInt64 = 0
  var events: UInt64 = 0
  /// When the first event that waits for its chunk was seen, nanoseconds.
  var waitingSince: UInt64?
  /// What is wrong with the ring: from then on its contents are thrown away.
  private(set) var damage: TraceError?
  /// The producer has ended, and everything it wrote is in the builder or gone.
  private(set) var isExhausted = false
  /// Slots thrown away since the last event in the builder.
  private var slotsDiscarded: UInt64 = 0
  /// Slots of the builder that lie in the ring.
  private var slotsHeld = 0
  private var consumer: RingConsumer

  init(_ ring: Ring, as id: StreamID, scale: TickScale) {
    (self.ring, self.id) = (ring, id)
    ring.recordedStream = id.stream
    consumer = RingConsumer(ring)
    builder = ChunkBuilder(scale: scale)
  }

  /// The ring's number, or the first above that is not `taken`: each process that opens a queue numbers its ring after
  /// the queue.
  static func id(for ring: Ring, taken: Set<StreamID>) -> StreamID {
    var stream = ring.stream
    for _ in 0..<UInt16.max {
      let id = StreamID(source: ring.source, stream: stream)
      if !taken.contains(id) { return id }
      stream &+= 1
    }
    return StreamID(source: ring.source, stream: stream)
  }

  /// The chunk that the builder's events will be.
  var chunkHeader: ChunkHeader {
    ChunkHeader(id, sequence: sequence, firstEvent: events, ringEnd: position)
  }

  /// Slots ever written to the ring, up to the end of what the builder holds.
  var position: UInt64 { consumer.position &+ UInt64(slotsHeld) }

  /// Whether the events that were taken should become a chunk.
  enum Cut {
    case notYet
    /// Yes, and there is no more for now.
    case last
    /// Yes, and more is waiting behind it.
    case more
  }

  /// Take what the ring holds, up to where a chunk should end.
  func take(slotsMax: Int) -> Cut {
    if damage != nil {
      discard()
      return .notYet
    }
    do throws(TraceError) {
      return try takeEvents(slotsMax: slotsMax)
    } catch {
      damage = error
      return .last
    }
  }

  private func takeEvents(slotsMax: Int) throws(TraceError) -> Cut {
    // Asked first: what is closed gets no more.
    let closed = ring.isClosed
    let available = try consumer.available()
    guard slotsHeld <= available.count else { throw TraceError(.damaged, "the ring \(ring.path) contradicts itself") }
    let fresh = UnsafeBufferPointer(rebasing: available.dropFirst(slotsHeld))
    defer { slotsHeld = builder.slots }
    let stop: ChunkBuilder.Stop
    do throws(Malformed) {
      stop = try builder.append(fresh, slotsMax: slotsMax, stopAtCheckpoint: ring.source == .engine)
    } catch {
      throw TraceError(.damaged, "the ring \(ring.path) is damaged: \(error.what)")
    }
    if stop != .end { return .more }
    isExhausted = closed
    // Where no checkpoint comes to cut at, the producer must not have to wait for one.
    return closed || builder.slots >= min(slotsMax, Int(ring.capacity / 2)) ? .last : .notYet
  }

  /// The builder's events are safe in the trace, or lost for good: the producer may have their slots again.
  func free() {
    consumer.free(slotsHeld)
    slotsHeld = 0
    builder.removeAll()
    waitingSince = nil
  }

  /// Go on behind `last`, the stream's last chunk in a trace: what the ring still holds of it is not taken again. Events
  /// that the ring had given back although no chunk has them are missing, as many as the slots they took at most.
  func resume(after last: ChunkHeader?) {
    precondition(slotsHeld == 0)
    sequence = last.map { $0.sequence &+ 1 } ?? 0
    events = last.map { $0.firstEvent + UInt64($0.events) } ?? 0
    let ahead = (last?.ringEnd ?? 0) &- consumer.position
    if let available = try? consumer.available(), ahead <= UInt64(available.count) {
      consumer.free(Int(ahead))
    } else {
      events = events &+ min(0 &- ahead, UInt64(UInt32.max))
    }
  }

  /// Keep a producer going whose ring cannot be read.
  private func discard() {
    isExhausted = ring.isClosed
    slotsDiscarded &+= consumer.discard()
  }

  /// Put what was thrown away into the empty builder as a gap; counted in slots, which is at least as many as events.
  func tellOfDiscarded() {
    guard slotsDiscarded > 0, builder.isEmpty else { return }
    builder.appendGap(events: slotsDiscarded)
    slotsDiscarded = 0
  }

  /// How full the ring is, 0...1000.
  var fillPermille: UInt64 {
    guard let used = try? consumer.available().count else { return 1000 }
    return UInt64(used) * 1000 / ring.capacity
  }
}
