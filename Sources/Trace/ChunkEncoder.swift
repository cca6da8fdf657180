/// Turns slots of a ring into the body of a chunk: the kinds in order, then for each kind its times and fields.
struct ChunkEncoder: ~Copyable {
  private let scale: TimeScale
  private let schema = Schema.own
  private var columns = ColumnEncoder()
  private var values = Scratch()
  private var kinds = Scratch()
  private var places = Scratch()
  private var times = Scratch()
  private var blob = Scratch()
  private var copy = Scratch()
  private var sortedTimes = Scratch()
  private var sortedPlaces = Scratch()
  private var ends = Scratch()

  init(_ scale: TimeScale) { self.scale = scale }

  /// What is counted on the way.
  struct Summary {
    var events = 0
    var commands: UInt64 = 0
    var lost: UInt64 = 0
    var firstTime: UInt64 = 0
    var lastTime: UInt64 = 0
  }

  var body: UnsafeRawBufferPointer { columns.bytes }

  /// - Parameter slots: whole events, of kinds that this version knows; times in ticks.
  mutating func encode(_ slots: UnsafeBufferPointer<Record>) throws(TraceError) -> Summary {
    // Another process may write to the ring at any moment: what is checked must be what is encoded.
    let own = copy.reserve(slots.count * Record.size).bindMemory(to: Record.self, capacity: slots.count)
    own.update(from: slots.baseAddress!, count: slots.count)
    return try encode(own: UnsafeBufferPointer(start: own, count: slots.count))
  }

  private mutating func encode(own slots: UnsafeBufferPointer<Record>) throws(TraceError) -> Summary {
    columns.reset()
    var summary = Summary()
    let kinds = self.kinds.reserve(slots.count).assumingMemoryBound(to: UInt8.self)
    let places = self.places.reserve(4 * slots.count).assumingMemoryBound(to: UInt32.self)
    let times = self.times.reserve(8 * slots.count).assumingMemoryBound(to: UInt64.self)
    var counts = [Int](repeating: 0, count: 256)
    var position = 0
    while position < slots.count {
      let record = slots[position]
      guard let kind = schema.kinds[Int(record.kind)], slots.count - position > Int(record.tail),
        isWhole(record, kind)
      else { throw TraceError(.damaged, "an event in the ring is not whole") }
      kinds[summary.events] = record.kind
      places[summary.events] = UInt32(position)
      times[summary.events] = scale.ns(record.time)
      counts[Int(record.kind)] += 1
      if record.kind == EventKind.fetch.rawValue, record.qid != 0 { summary.commands += 1 }
      if record.kind == EventKind.gap.rawValue { summary.lost &+= record.a }
      summary.events += 1
      position += 1 + Int(record.tail)
    }
    summary.firstTime = times[0]
    summary.lastTime = times[summary.events - 1]
    columns.put(UnsafeRawBufferPointer(start: kinds, count: summary.events))
    // Times and places of each kind together, in one pass over the events.
    let sortedTimes = self.sortedTimes.reserve(8 * summary.events).assumingMemoryBound(to: UInt64.self)
    let sortedPlaces = self.sortedPlaces.reserve(4 * summary.events).assumingMemoryBound(to: UInt32.self)
    let ends = self.ends.reserve(8 * 256).assumingMemoryBound(to: Int.self)
    var begin = 0
    for kind in 0..<256 {
      ends[kind] = begin
      begin += counts[kind]
    }
    var previous = summary.firstTime
    for event in 0..<summary.events {
      let kind = Int(kinds[event])
      sortedTimes[ends[kind]] = times[event] &- previous
      sortedPlaces[ends[kind]] = places[event]
      ends[kind] += 1
      previous = times[event]
    }
    for kind in 0..<256 where counts[kind] > 0 {
      let begin = ends[kind] - counts[kind]
      put(schema.kinds[kind]!, counts[kind], slots, sortedTimes + begin, sortedPlaces + begin)
    }
    return summary
  }

  /// Whether the tail is as long as the kind and its fields say: a reader derives it from them.
  private func isWhole(_ record: Record, _ kind: Schema.Kind) -> Bool {
    if kind.carriesBytes, record.flags & EventFlag.bytes != 0 {
      return Int(record.tail) == (Int(record.bLow) + Record.size - 1) / Record.size
    }
    return Int(record.tail) == kind.fixedTail
  }

  private mutating func put(
    _ kind: Schema.Kind, _ count: Int, _ slots: UnsafeBufferPointer<Record>, _ times: UnsafeMutablePointer<UInt64>,
    _ own: UnsafePointer<UInt32>
  ) {
    columns.put(times, count)
    let values = self.values.reserve(8 * count).assumingMemoryBound(to: UInt64.self)
    let base = UnsafeRawPointer(slots.baseAddress!)
    for field in kind.fields {
      let (offset, width) = field.place.location
      gather(base + offset, width, own, count, values)
      if field.isSpan {
        let most = width < 8 ? UInt64(1) << (8 * UInt64(width)) - 1 : .max
        for index in 0..<count {
          values[index] = min(most, scale.span(values[index], endingAt: slots[Int(own[index])].time))
        }
      }
      columns.put(values, count)
    }
    if kind.carriesBytes { putBytes(slots, own, count) }
  }

  private func gather(
    _ base: UnsafeRawPointer, _ width: Int, _ places: UnsafePointer<UInt32>, _ count: Int,
    _ values: UnsafeMutablePointer<UInt64>
  ) {
    switch width {
    case 1: gather(base, UInt8.self, places, count, values)
    case 2: gather(base, UInt16.self, places, count, values)
    case 4: gather(base, UInt32.self, places, count, values)
    default: gather(base, UInt64.self, places, count, values)
    }
  }

  @inline(__always)
  private func gather<Value: FixedWidthInteger & BitwiseCopyable>(
    _ base: UnsafeRawPointer, _: Value.Type, _ places: UnsafePointer<UInt32>, _ count: Int,
    _ values: UnsafeMutablePointer<UInt64>
  ) {
    for index in 0..<count {
      values[index] = UInt64(base.load(fromByteOffset: Int(places[index]) * Record.size, as: Value.self))
    }
  }

  /// The bytes behind all events of a kind, one run after the other.
  private mutating func putBytes(
    _ slots: UnsafeBufferPointer<Record>, _ places: UnsafePointer<UInt32>, _ count: Int
  ) {
    var total = 0
    for index in 0..<count { total += length(slots[Int(places[index])]) }
    let target = blob.reserve(total)
    var filled = 0
    for index in 0..<count {
      let record = slots[Int(places[index])]
      let bytes = length(record)
      if bytes > 0 {
        (target + filled).copyMemory(from: slots.baseAddress! + Int(places[index]) + 1, byteCount: bytes)
      }
      filled += bytes
    }
    columns.put(UnsafeRawBufferPointer(start: target, count: total))
  }

  private func length(_ record: Record) -> Int {
    record.flags & EventFlag.bytes != 0 ? Int(record.bLow) : 0
  }
}
