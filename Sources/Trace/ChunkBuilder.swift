import Events

/// The events of one stream's next chunk, sorted by kind as they come from the ring.
///
/// Each slot of the ring is read once. Times become nanoseconds since the previous event, spans become nanoseconds.
/// `ChunkEncoder` gets arrays of equal records, in which a column is a stride.
final class ChunkBuilder {
  /// The events of one kind: records with their fixed tails, contiguous.
  struct Lane {
    /// Where the next event goes; equal to `end` if there is no room, nil before the first.
    var next: UnsafeMutableRawPointer?
    var end: UnsafeMutableRawPointer?
    var start: UnsafeMutableRawPointer?
    /// Bytes per event; 0 for a kind that the schema does not contain.
    var stride = 0
    /// Slots after the record. Kinds that need more than a copy have a number that no event has.
    var tailSlots = UInt64.max
    /// Position in `b` of the span that ends at the event; the mask is 0 if there is none.
    var spanShift: UInt64 = 0
    var spanMask: UInt64 = 0
    var spanIsA = false
    var carriesBytes = false
  }

  /// Why `append` stopped.
  enum Stop {
    case end
    /// The next event is a checkpoint, and this chunk already has events.
    case checkpoint
    /// The chunk has its maximum number of slots.
    case full
  }

  let schema: TraceSchema
  private let scale: TickScale
  /// By kind.
  private let lanes: UnsafeMutablePointer<Lane>
  /// Bytes that events carry, by kind, contiguous.
  private let carried: UnsafeMutablePointer<ByteBuffer>
  /// The kinds of the events in stream order.
  private(set) var sequence = ByteBuffer(capacity: 1 << 15)
  /// Slots read from the ring.
  private(set) var slots = 0
  private(set) var firstTime: UInt64 = 0
  private(set) var lastTime: UInt64 = 0
  /// Ticks of the last event ever read, as in the ring.
  private var lastTicks: UInt64 = 0

  init(schema: TraceSchema = .current, scale: TickScale) {
    self.schema = schema
    self.scale = scale
    lanes = .allocate(capacity: 256)
    lanes.initialize(repeating: Lane(), count: 256)
    carried = .allocate(capacity: 256)
    for kind in 0..<256 { (carried + kind).initialize(to: ByteBuffer(capacity: 0)) }
    for layout in schema.kinds { lanes[Int(layout.kind)] = Lane(layout) }
  }

  deinit {
    for kind in 0..<256 { lanes[kind].start?.deallocate() }
    lanes.deallocate()
    carried.deinitialize(count: 256)
    carried.deallocate()
  }

  var events: Int { sequence.count }
  var isEmpty: Bool { sequence.count == 0 }
  var beginsWithCheckpoint: Bool {
    !isEmpty && sequence.base.load(as: UInt8.self) == EventKind.checkpoint.rawValue
  }

  /// The events of one kind: `count` of them, `stride` bytes each.
  func records(of kind: UInt8) -> (start: UnsafeMutableRawPointer?, count: Int, stride: Int) {
    let lane = lanes[Int(kind)]
    guard lane.stride != 0, let start = lane.start, let next = lane.next else { return (nil, 0, lane.stride) }
    return (start, (next - start) / lane.stride, lane.stride)
  }

  func bytesCarried(by kind: UInt8) -> UnsafeRawBufferPointer { carried[Int(kind)].bytes }

  /// Events were lost after the last one read: add a gap event.
  func appendGap(events: UInt64) {
    let gap = Event.Gap(time: lastTicks, events: events).record
    withUnsafePointer(to: gap) {
      let record = UnsafeBufferPointer(start: $0, count: 1)
      guard (try? append(record, slotsMax: slots + 1, stopAtCheckpoint: false)) == .end else {
        preconditionFailure("a gap is an event")
      }
    }
  }

  /// Remove the events, keep the memory.
  func removeAll() {
    for kind in 0..<256 {
      lanes[kind].next = lanes[kind].start
      carried[kind].removeAll()
    }
    sequence.removeAll()
    slots = 0
  }

  /// Read whole events from `source`, up to the first checkpoint that is not at the start of this chunk
  /// (`stopAtCheckpoint`) or to `slotsMax` slots.
  /// - Throws: if an event contradicts its kind; the events before it have been read.
  func append(_ source: UnsafeBufferPointer<Record>, slotsMax: Int, stopAtCheckpoint: Bool) throws(Malformed) -> Stop {
    guard let base = source.baseAddress, !source.isEmpty else { return .end }
    let start = UnsafeRawPointer(base)
    let end = start + source.count * Record.size
    let limit = start + min(source.count, max(slotsMax - slots, 0)) * Record.size
    sequence.reserve((limit - start) / Record.size)
    let lanes = self.lanes
    let scale = self.scale
    let kinds = sequence.end
    var kind = kinds
    var record = start
    if isEmpty {
      lastTime = scale.nanoseconds(start.load(as: UInt64.self))
      firstTime = lastTime
    }
    var last = lastTime
    var lastTicks = self.lastTicks
    defer {
      sequence.advance(kind - kinds)
      slots += (record - start) / Record.size
      (lastTime, self.lastTicks) = (last, lastTicks)
    }
    while record < limit {
      let time = record.load(as: UInt64.self)
      let head = record.load(fromByteOffset: 8, as: UInt64.self)
      var a = record.load(fromByteOffset: 16, as: UInt64.self)
      var b = record.load(fromByteOffset: 24, as: UInt64.self)
      let lane = lanes + Int(head & 0xff)
      var stride = lane.pointee.stride
      let nanoseconds = scale.nanoseconds(time)
      if head >> 48 != lane.pointee.tailSlots {
        if stopAtCheckpoint && head & 0xff == UInt64(EventKind.checkpoint.rawValue) && !(isEmpty && record == start) {
          return .checkpoint
        }
        stride = try strideOfOther(lane, head: head, b: b)
        if lane.pointee.spanIsA { a = nanoseconds &- scale.nanoseconds(time &- a) }
      }
      guard stride <= end - record else { throw Malformed("an event is longer than what is there") }
      if lane.pointee.next == lane.pointee.end { grow(lane) }
      let (mask, shift) = (lane.pointee.spanMask, lane.pointee.spanShift)
      let begin = scale.nanoseconds(time &- (b &>> shift & mask))
      b = b & ~(mask &<< shift) | min(nanoseconds &- begin, mask) &<< shift
      let target = lane.pointee.next.unsafelyUnwrapped
      target.storeBytes(of: nanoseconds &- last, as: UInt64.self)
      target.storeBytes(of: head, toByteOffset: 8, as: UInt64.self)
      target.storeBytes(of: a, toByteOffset: 16, as: UInt64.self)
      target.storeBytes(of: b, toByteOffset: 24, as: UInt64.self)
      if stride != Record.size { copyTail(of: record, to: target, lane, stride, b) }
      lane.pointee.next = target + lane.pointee.stride
      last = nanoseconds
      lastTicks = time
      kind.storeBytes(of: UInt8(truncatingIfNeeded: head), as: UInt8.self)
      kind += 1
      record += stride
    }
    return record < end ? .full : .end
  }

  /// Bytes of an event whose kind needs more than a copy.
  @inline(never)
  private func strideOfOther(_ lane: UnsafeMutablePointer<Lane>, head: UInt64, b: UInt64) throws(Malformed) -> Int {
    guard lane.pointee.stride != 0 else { throw Malformed("an event is of no known kind") }
    let tail = head >> 48
    let expected = lane.pointee.carriesBytes ? Self.tailSlots(head: head, b: b) : 0
    guard tail == expected, lane.pointee.carriesBytes || lane.pointee.spanIsA else {
      throw Malformed("an event is not as long as its kind")
    }
    return Record.size * (1 + Int(tail))
  }

  @inline(__always)
  private func copyTail(
    of record: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ lane: UnsafeMutablePointer<Lane>, _ stride: Int,
    _ b: UInt64
  ) {
    if lane.pointee.carriesBytes {
      carry(UnsafeRawBufferPointer(start: record + Record.size, count: Int(b & 0xffff_ffff)), lane)
    } else {
      var offset = Record.size
      repeat {
        let slot = (record + offset).loadUnaligned(as: SIMD4<UInt64>.self)
        target.storeBytes(of: slot, toByteOffset: offset, as: SIMD4<UInt64>.self)
        offset += Record.size
      } while offset < stride
    }
  }

  @inline(never)
  private func carry(_ bytes: UnsafeRawBufferPointer, _ lane: UnsafeMutablePointer<Lane>) {
    carried[lane - lanes].append(bytes)
  }

  /// Slots after an event that may carry bytes.
  private static func tailSlots(head: UInt64, b: UInt64) -> UInt64 {
    if UInt8(truncatingIfNeeded: head >> 8) & Record.carriesBytesFlag == 0 { return 0 }
    return ((b & 0xffff_ffff) + UInt64(Record.size - 1)) / UInt64(Record.size)
  }

  @inline(never)
  private func grow(_ lane: UnsafeMutablePointer<Lane>) {
    let used = lane.pointee.start.map { lane.pointee.next! - $0 } ?? 0
    let capacity = max(2 * used, 64 * lane.pointee.stride)
    let moved = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
    if let start = lane.pointee.start {
      moved.copyMemory(from: start, byteCount: used)
      start.deallocate()
    }
    lane.pointee.start = moved
    lane.pointee.next = moved + used
    lane.pointee.end = moved + capacity
  }
}

extension ChunkBuilder.Lane {
  init(_ layout: KindLayout) {
    stride = layout.stride
    carriesBytes = layout.carriesBytes
    if let span = layout.fields.first(where: { $0.unit == .span }) {
      precondition([16, 24, 28].contains(span.offset) && span.width == (span.offset == 16 ? 8 : 4))
      spanIsA = span.offset == 16
      (spanMask, spanShift) = spanIsA ? (0, 0) : (0xffff_ffff, UInt64(span.offset - 24) * 8)
    }
    if !carriesBytes && !spanIsA { tailSlots = UInt64(layout.fixedTailSlots) }
  }
}
