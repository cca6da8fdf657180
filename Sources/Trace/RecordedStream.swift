/// A ring that is being written to the trace.
final class RecordedStream {
  let ring: Ring
  let id: StreamID
  let builder: ChunkBuilder
  /// Chunks and events of this stream in the trace.
  var sequence: UInt64 = 0
  var events: UInt64 = 0
  /// When the first event that waits for its chunk was read, nanoseconds.
  var waitingSince: UInt64?
  /// Why the ring is unreadable; from then on its content is discarded.
  private(set) var damage: TraceError?
  /// The producer has ended, and all its events are in the builder or lost.
  private(set) var isExhausted = false
  /// Slots discarded since the last event in the builder.
  private var slotsDiscarded: UInt64 = 0
  /// Slots of the builder that still occupy the ring.
  private var slotsHeld = 0
  private var consumer: RingConsumer

  init(_ ring: Ring, as id: StreamID, scale: TickScale) {
    (self.ring, self.id) = (ring, id)
    ring.recordedStream = id.stream
    consumer = RingConsumer(ring)
    builder = ChunkBuilder(scale: scale)
  }

  /// The ring's number, or the next one that is not `taken`: each process that opens a queue numbers its ring after the
  /// queue.
  static func id(for ring: Ring, taken: Set<StreamID>) -> StreamID {
    var stream = ring.stream
    for _ in 0..<UInt16.max {
      let id = StreamID(source: ring.source, stream: stream)
      if !taken.contains(id) { return id }
      stream &+= 1
    }
    return StreamID(source: ring.source, stream: stream)
  }

  /// The header of the chunk for the builder's events.
  var chunkHeader: ChunkHeader {
    ChunkHeader(id, sequence: sequence, firstEvent: events, ringEnd: position)
  }

  /// Slots written to the ring up to the last event in the builder.
  var position: UInt64 { consumer.position &+ UInt64(slotsHeld) }

  /// Whether the collected events should become a chunk.
  enum Cut {
    case notYet
    /// Yes, and no more are ready.
    case last
    /// Yes, and more are waiting.
    case more
  }

  /// Read the ring up to the end of the next chunk.
  func cut(slotsMax: Int) -> Cut {
    if damage != nil {
      discard()
      return .notYet
    }
    do throws(TraceError) {
      return try cutEvents(slotsMax: slotsMax)
    } catch {
      damage = error
      return .last
    }
  }

  private func cutEvents(slotsMax: Int) throws(TraceError) -> Cut {
    // Checked first: a closed ring gets no more events.
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
    // Without a checkpoint to cut at, the producer must not wait for one.
    return closed || builder.slots >= min(slotsMax, Int(ring.capacity / 2)) ? .last : .notYet
  }

  /// The time of the first event after the builder's; nil if there is none yet.
  var nextTicks: UInt64? {
    guard let available = try? consumer.available(), available.count > slotsHeld else { return nil }
    return available[slotsHeld].time
  }

  /// Read the events before a time, all of which are in the ring. The builder is empty.
  func cut(before ticks: UInt64) {
    guard damage == nil, let available = try? consumer.available() else { return }
    var count = 0
    while count < available.count, available[count].time < ticks { count += 1 + Int(available[count].tail) }
    let events = UnsafeBufferPointer(rebasing: available.prefix(count))
    do throws(Malformed) {
      _ = try builder.append(events, slotsMax: count, stopAtCheckpoint: false)
    } catch {
      damage = TraceError(.damaged, "the ring \(ring.path) is damaged: \(error.what)")
    }
    slotsHeld = builder.slots
  }

  /// The builder's events are in the trace or lost for good: return their slots to the producer.
  func free() {
    consumer.free(slotsHeld)
    slotsHeld = 0
    builder.removeAll()
    waitingSince = nil
  }

  /// Continue after `last`, the stream's last chunk in a trace: skip events in the ring that the trace already
  /// contains. Events that the ring released although no chunk contains them are lost; their number is at most that of
  /// their slots.
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

  /// Keep the producer of an unreadable ring running.
  private func discard() {
    isExhausted = ring.isClosed
    slotsDiscarded &+= consumer.discard()
  }

  /// Add a gap for discarded slots to the empty builder; it counts slots, which are at least as many as events.
  func tellOfDiscarded() {
    guard slotsDiscarded > 0, builder.isEmpty else { return }
    builder.appendGap(events: slotsDiscarded)
    slotsDiscarded = 0
  }

  /// Fill level of the ring, 0...1000.
  var fillPermille: UInt64 {
    guard let used = try? consumer.available().count else { return 1000 }
    return UInt64(used) * 1000 / ring.capacity
  }
}
