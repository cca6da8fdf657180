/// Turns the body of a chunk back into slots. The body is not trusted.
public final class ChunkDecoder {
  private var columns = ColumnDecoder()
  private var values = Scratch()
  private var kinds = Scratch()
  private var slots = Scratch()
  private var blob = Scratch()

  public init() {}

  /// A kind's columns of the chunk being decoded, by their place in the run of all values.
  private struct KindColumns {
    var kind: Schema.Kind
    var count: Int
    /// The times; the fields follow, each `count` values later.
    var begin: Int
    var cursor = 0
    var bytes: [UInt8] = []
    var bytesTaken = 0
    var flags: Int?
    var lengths: Int?
  }

  /// - Returns: whole events in order, times in nanoseconds; they stay valid until the next call.
  func decode(_ body: UnsafeRawBufferPointer, _ header: ChunkHeader, _ schema: Schema) throws(TraceError)
    -> UnsafeBufferPointer<Record>
  {
    var reader = ByteReader(body)
    let events = Int(header.events)
    let kinds = self.kinds.reserve(events).assumingMemoryBound(to: UInt8.self)
    try columns.takeBytes(
      &reader, try reader.get(UInt8.self), UnsafeMutableRawBufferPointer(start: kinds, count: events))
    var decoded = try plan(kinds, events, schema)
    let total = decoded.reduce(0) { $0 + $1.count * (1 + $1.kind.fields.count) }
    let values = self.values.reserve(8 * total).assumingMemoryBound(to: UInt64.self)
    try decodeColumns(&reader, &decoded, values, Int(header.slots))
    return try assemble(kinds, header, &decoded, values)
  }

  /// Which kinds there are, how often, and where their values will lie.
  private func plan(_ kinds: UnsafePointer<UInt8>, _ events: Int, _ schema: Schema) throws(TraceError) -> [KindColumns]
  {
    var counts = [Int](repeating: 0, count: 256)
    for event in 0..<events { counts[Int(kinds[event])] += 1 }
    var decoded: [KindColumns] = []
    var begin = 0
    for kind in 0..<256 where counts[kind] > 0 {
      guard let description = schema.kinds[kind] else {
        throw TraceError(.damaged, "an event is of a kind that the file does not describe")
      }
      var columns = KindColumns(kind: description, count: counts[kind], begin: begin)
      for (index, field) in description.fields.enumerated() {
        if field.place == .flags { columns.flags = begin + (1 + index) * counts[kind] }
        if field.place == .bLow { columns.lengths = begin + (1 + index) * counts[kind] }
      }
      decoded.append(columns)
      begin += counts[kind] * (1 + description.fields.count)
      guard begin <= Format.chunkValuesMax else { throw .damagedColumn }
    }
    return decoded
  }

  private func decodeColumns(
    _ reader: inout ByteReader, _ decoded: inout [KindColumns], _ values: UnsafeMutablePointer<UInt64>, _ slots: Int
  ) throws(TraceError) {
    /// Begin and length of each column that a reference may name.
    var all: [(begin: Int, count: Int)] = []
    /// Bytes that the kinds still to come can carry: all of them lie in slots.
    var bytesLeft = slots * Record.size
    for index in decoded.indices {
      let count = decoded[index].count
      var begin = decoded[index].begin
      for _ in 0...decoded[index].kind.fields.count {
        try columns.take(&reader, values + begin, count) { number in
          number < all.count ? (values + all[number].begin, all[number].count) : nil
        }
        all.append((begin, count))
        begin += count
      }
      guard decoded[index].kind.carriesBytes else { continue }
      let mode = try reader.get(UInt8.self)
      let total = try byteCount(decoded[index], values, bytesLeft)
      bytesLeft -= total
      decoded[index].bytes = [UInt8](repeating: 0, count: total)
      let target = blob.reserve(total)
      try columns.takeBytes(&reader, mode, UnsafeMutableRawBufferPointer(start: target, count: total))
      decoded[index].bytes.withUnsafeMutableBytes {
        $0.copyMemory(from: UnsafeRawBufferPointer(start: target, count: total))
      }
    }
  }

  private func byteCount(_ columns: KindColumns, _ values: UnsafePointer<UInt64>, _ most: Int) throws(TraceError)
    -> Int
  {
    var total = 0
    for event in 0..<columns.count {
      total += try bytes(behind: event, columns, values)
      guard total <= most else { throw .damagedColumn }
    }
    return total
  }

  /// Bytes that follow an event because its flags say so.
  private func bytes(behind event: Int, _ columns: KindColumns, _ values: UnsafePointer<UInt64>) throws(TraceError)
    -> Int
  {
    guard columns.kind.carriesBytes, let flags = columns.flags, let lengths = columns.lengths,
      values[flags + event] & UInt64(EventFlag.bytes) != 0
    else { return 0 }
    let count = values[lengths + event]
    guard count <= UInt64(UInt16.max) * UInt64(Record.size) else { throw .damagedColumn }
    return Int(count)
  }

  private func assemble(
    _ kinds: UnsafePointer<UInt8>, _ header: ChunkHeader, _ decoded: inout [KindColumns],
    _ values: UnsafePointer<UInt64>
  ) throws(TraceError) -> UnsafeBufferPointer<Record> {
    let count = Int(header.slots)
    let base = slots.reserve(count * Record.size)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: count * Record.size)
    var place = [Int](repeating: -1, count: 256)
    for (index, columns) in decoded.enumerated() { place[Int(columns.kind.kind)] = index }
    var position = 0
    var time = header.firstTime
    for event in 0..<Int(header.events) {
      let index = place[Int(kinds[event])]
      let own = decoded[index].cursor
      decoded[index].cursor += 1
      let bytes = try bytes(behind: own, decoded[index], values)
      let tail = bytes > 0 ? (bytes + Record.size - 1) / Record.size : decoded[index].kind.fixedTail
      guard count - position > tail else { throw .damagedColumn }
      time = time &+ values[decoded[index].begin + own]
      let record = base + position * Record.size
      record.storeBytes(of: time, as: UInt64.self)
      record.storeBytes(of: kinds[event], toByteOffset: 8, as: UInt8.self)
      record.storeBytes(of: UInt16(tail), toByteOffset: 14, as: UInt16.self)
      scatter(decoded[index], own, values, record)
      if bytes > 0 {
        decoded[index].bytes.withUnsafeBytes {
          (record + Record.size).copyMemory(from: $0.baseAddress! + decoded[index].bytesTaken, byteCount: bytes)
        }
        decoded[index].bytesTaken += bytes
      }
      position += 1 + tail
    }
    guard position == count else { throw .damagedColumn }
    return UnsafeBufferPointer(start: base.assumingMemoryBound(to: Record.self), count: count)
  }

  @inline(__always)
  private func scatter(
    _ columns: borrowing KindColumns, _ event: Int, _ values: UnsafePointer<UInt64>, _ record: UnsafeMutableRawPointer
  ) {
    var value = values + columns.begin + columns.count + event
    for field in columns.kind.fields {
      let (offset, width) = field.place.location
      switch width {
      case 1: record.storeBytes(of: UInt8(truncatingIfNeeded: value.pointee), toByteOffset: offset, as: UInt8.self)
      case 2: record.storeBytes(of: UInt16(truncatingIfNeeded: value.pointee), toByteOffset: offset, as: UInt16.self)
      case 4: record.storeBytes(of: UInt32(truncatingIfNeeded: value.pointee), toByteOffset: offset, as: UInt32.self)
      default: record.storeBytes(of: value.pointee, toByteOffset: offset, as: UInt64.self)
      }
      value += columns.count
    }
  }
}
