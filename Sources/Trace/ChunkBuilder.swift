/// The events of one stream's next chunk, sorted by kind as they are taken from the ring.
///
/// Each slot of the ring is read once. Times become nanoseconds since the event before, spans nanoseconds; what remains
/// for `ChunkEncoder` are arrays of equal records, a column being a stride through one of them.
final class ChunkBuilder {
  /// The events of one kind: records and what always follows them, back to back.
  struct Lane {
    /// Where the next event goes; equal to `end` when there is no room, nil before the first.
    var next: UnsafeMutableRawPointer?
    var end: UnsafeMutableRawPointer?
    var start: UnsafeMutableRawPointer?
    /// Bytes an event; 0 for a kind that the schema does not know.
    var stride = 0
    var tailSlots: UInt64 = 0
    var span = SpanPlace.none
    var carriesBytes = false
  }

  enum SpanPlace: UInt8 {
    case none, a, bLow, bHigh
  }

  /// Why `append` stopped.
  enum Stop {
    case end
    /// The next event is a checkpoint, and this chunk has events already.
    case checkpoint
    /// The chunk has as many slots as it may have.
    case full
  }

  let schema: TraceSchema
  private let scale: TickScale
  /// By kind.
  private let lanes: UnsafeMutablePointer<Lane>
  /// Bytes that events carry, by kind, one event's behind the other's.
  private let carried: UnsafeMutablePointer<ByteBuffer>
  /// The kinds of the events in stream order.
  private(set) var sequence = ByteBuffer(capacity: 1 << 15)
  /// Slots taken from the ring.
  private(set) var slots = 0
  private(set) var firstTime: UInt64 = 0
  private(set) var lastTime: UInt64 = 0
  /// Of the last event that was ever taken, as it stood in the ring.
  private var lastTicks: UInt64 = 0

  init(schema: TraceSchema = .current, scale: TickScale) {
    self.schema = schema
    self.scale = scale
    lanes = .allocate(capacity: 256)
    lanes.initialize(repeating: Lane(), count: 256)
    carried = .allocate(capacity: 256)
    for kind in 0..<256 { (carried + kind).initialize(to: ByteBuffer(capacity: 0)) }
    for layout in schema.kinds {
      let lane = lanes + Int(layout.kind)
      lane.pointee.stride = layout.stride
      lane.pointee.tailSlots = UInt64(layout.fixedTailSlots)
      lane.pointee.carriesBytes = layout.carriesBytes
      lane.pointee.span = SpanPlace(layout)
    }
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

  /// The events of a kind: `count` of them, `stride` bytes each.
  func records(of kind: UInt8) -> (start: UnsafeMutableRawPointer?, count: Int, stride: Int) {
    let lane = lanes[Int(kind)]
    guard lane.stride != 0, let start = lane.start, let next = lane.next else { return (nil, 0, lane.stride) }
    return (start, (next - start) / lane.stride, lane.stride)
  }

  func bytesCarried(by kind: UInt8) -> UnsafeRawBufferPointer { carried[Int(kind)].bytes }

  /// Events are missing behind the last one that was ever taken: say so, with an event that no ring has.
  func appendGap(events: UInt64) {
    let gap = Record(time: lastTicks, kind: .gap, a: events)
    withUnsafePointer(to: gap) {
      let record = UnsafeBufferPointer(start: $0, count: 1)
      guard (try? append(record, slotsMax: slots + 1, stopAtCheckpoint: false)) == .end else {
        preconditionFailure("a gap is an event")
      }
    }
  }

  /// Forget the events, keep the memory.
  func removeAll() {
    for kind in 0..<256 {
      lanes[kind].next = lanes[kind].start
      carried[kind].removeAll()
    }
    sequence.removeAll()
    slots = 0
  }

  /// Take whole events from `source`, up to the first checkpoint that is not at the front of this chunk
  /// (`stopAtCheckpoint`) or until there are `slotsMax` slots.
  /// - Throws: when an event is not what its kind says; the events before it have been taken.
  func append(_ source: UnsafeBufferPointer<Record>, slotsMax: Int, stopAtCheckpoint: Bool) throws(Malformed) -> Stop {
    guard let base = source.baseAddress else { return .end }
    let first = UnsafeRawPointer(base)
    let roomEnd = slotsMax - slots
    sequence.reserve(min(source.count, max(roomEnd, 0)))
    let lanes = self.lanes
    let scale = self.scale
    var kindEnd = sequence.end
    let kindStart = kindEnd
    var last = lastTime
    var lastTicks = self.lastTicks
    var position = 0
    defer {
      self.lastTicks = lastTicks
      sequence.advance(kindEnd - kindStart)
      slots += position
      lastTime = last
    }
    if isEmpty {
      last = scale.nanoseconds(first.load(as: UInt64.self))
      firstTime = last
    }
    while position < source.count {
      if position >= roomEnd { return .full }
      let record = first + position * Record.size
      let time = record.load(as: UInt64.self)
      let head = record.load(fromByteOffset: 8, as: UInt64.self)
      var a = record.load(fromByteOffset: 16, as: UInt64.self)
      var b = record.load(fromByteOffset: 24, as: UInt64.self)
      let kind = UInt8(truncatingIfNeeded: head)
      let tail = head >> 48
      let lane = lanes + Int(kind)
      if stopAtCheckpoint && kind == EventKind.checkpoint.rawValue && slots + position > 0 { return .checkpoint }
      if tail != lane.pointee.tailSlots || lane.pointee.carriesBytes {
        guard lane.pointee.carriesBytes, tail == Self.tailSlots(head: head, b: b) else {
          throw Malformed("an event is not as long as its kind")
        }
      }
      guard position + Int(tail) < source.count else { throw Malformed("an event is longer than what is there") }
      if lane.pointee.next == lane.pointee.end { try grow(lane) }
      let nanoseconds = scale.nanoseconds(time)
      switch lane.pointee.span {
      case .none: break
      case .bLow:
        let span = nanoseconds &- scale.nanoseconds(time &- (b & 0xffff_ffff))
        b = b & 0xffff_ffff_0000_0000 | min(span, 0xffff_ffff)
      case .bHigh:
        let span = nanoseconds &- scale.nanoseconds(time &- (b >> 32))
        b = b & 0xffff_ffff | min(span, 0xffff_ffff) << 32
      case .a:
        a = nanoseconds &- scale.nanoseconds(time &- a)
      }
      let target = lane.pointee.next.unsafelyUnwrapped
      target.storeBytes(of: nanoseconds &- last, as: UInt64.self)
      target.storeBytes(of: head, toByteOffset: 8, as: UInt64.self)
      target.storeBytes(of: a, toByteOffset: 16, as: UInt64.self)
      target.storeBytes(of: b, toByteOffset: 24, as: UInt64.self)
      if tail != 0 {
        if lane.pointee.carriesBytes {
          carried[Int(kind)].append(
            UnsafeRawBufferPointer(start: record + Record.size, count: Int(b & 0xffff_ffff)))
        } else {
          for slot in 1...Int(tail) {
            let words = (record + slot * Record.size).loadUnaligned(as: SIMD4<UInt64>.self)
            (target + slot * Record.size).storeBytes(of: words, as: SIMD4<UInt64>.self)
          }
        }
      }
      lane.pointee.next = target + lane.pointee.stride
      last = nanoseconds
      lastTicks = time
      kindEnd.storeBytes(of: kind, as: UInt8.self)
      kindEnd += 1
      position += 1 + Int(tail)
    }
    return .end
  }

  /// Slots behind an event that may carry bytes.
  private static func tailSlots(head: UInt64, b: UInt64) -> UInt64 {
    if UInt8(truncatingIfNeeded: head >> 8) & EventFlag.bytes == 0 { return 0 }
    return ((b & 0xffff_ffff) + UInt64(Record.size - 1)) / UInt64(Record.size)
  }

  @inline(never)
  private func grow(_ lane: UnsafeMutablePointer<Lane>) throws(Malformed) {
    let stride = lane.pointee.stride
    guard stride != 0 else { throw Malformed("an event is of no known kind") }
    let used = lane.pointee.start.map { lane.pointee.next! - $0 } ?? 0
    let capacity = max(2 * used, 64 * stride)
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

extension ChunkBuilder.SpanPlace {
  /// Where the kind has its stretch of time: the places that the event table uses for one.
  fileprivate init(_ layout: KindLayout) {
    switch layout.fields.first(where: { $0.unit == .span }).map({ ($0.offset, $0.width) }) {
    case (16, 8)?: self = .a
    case (24, 4)?: self = .bLow
    case (28, 4)?: self = .bHigh
    default: self = .none
    }
  }
}
