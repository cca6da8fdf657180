import CPlatform
import CZstd
import Glibc

/// The events of one chunk, as they lay in the ring: records, each with its tail behind it, times and spans in
/// nanoseconds. Its memory serves one chunk after the other.
public struct DecodedChunk: ~Copyable {
  public private(set) var header: ChunkHeader?
  /// Records and tails, in stream order.
  public var slots: UnsafeBufferPointer<Record> {
    UnsafeBufferPointer(start: output.base.assumingMemoryBound(to: Record.self), count: output.count / Record.size)
  }

  private let zstd: OpaquePointer
  /// The chunk as it stands in the file.
  private var file = ByteBuffer()
  private var planes = ByteBuffer()
  private var work = ByteBuffer()
  /// The events of each kind, back to back, records and what always follows them.
  private var records = ByteBuffer()
  private var carried = ByteBuffer()
  private var output = ByteBuffer()
  private var columns: [Column] = []
  private var planeEntries: [(offset: Int, count: Int)] = []

  public init() throws(TraceError) {
    guard let zstd = ZSTD_createDCtx() else { throw TraceError.system("cannot begin to decompress", ENOMEM) }
    self.zstd = zstd
  }

  deinit { ZSTD_freeDCtx(zstd) }
}

extension DecodedChunk {
  /// Where a column's values are.
  private struct Column {
    var count: Int
    var transform = Transform.plain
    var base: UInt64 = 0
    var planeCount = 0
    /// Offset of each plane in `planes`, or -1 - its byte where all are equal.
    var planes = SIMD8<Int32>(repeating: -1)

    /// The one value of a column that has no more.
    var constant: UInt64? {
      guard transform == .plain else { return nil }
      var value: UInt64 = 0
      for plane in 0..<planeCount {
        guard planes[plane] < 0 else { return nil }
        value |= UInt64(-1 - planes[plane]) << UInt64(8 * plane)
      }
      return value
    }
  }

  /// One kind's part of the chunk.
  private struct Lane {
    let layout: KindLayout
    let count: Int
    /// In `records` and `carried`.
    var next: Int
    var end: Int
    var carriedNext = 0
    var carriedEnd = 0
  }

  /// Room for a chunk's bytes, header and body, for the file to be read into.
  mutating func room(for length: Int) -> UnsafeMutableRawPointer {
    header = nil
    output.removeAll()
    file.removeAll()
    file.reserve(length)
    file.advance(length)
    return file.base
  }

  /// Decode what was read into `room`.
  mutating func decode(_ schema: TraceSchema) throws(Malformed) {
    let bytes = file.bytes
    guard let header = ChunkHeader(bytes), header.length == UInt64(bytes.count) else {
      throw Malformed("fails its checksum")
    }
    let body = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(ChunkHeader.size))
    guard nvmepf_crc32c(0, body.baseAddress, body.count) == header.bodyCRC else {
      throw Malformed("fails its checksum")
    }
    var reader = ByteReader(body)
    var lanes = try begin(&reader, header, schema)
    let sequence = try decodeSequence(&reader, events: Int(header.events))
    for index in lanes.indices { try decodeKind(&reader, &lanes[index], carriedMax: Int(header.slots) * Record.size) }
    try assemble(header, sequence, &lanes)
    self.header = header
  }

  /// Which kinds there are and how many of each, within what the header says.
  private mutating func begin(_ reader: inout ByteReader, _ header: ChunkHeader, _ schema: TraceSchema)
    throws(Malformed) -> [Lane]
  {
    planes.removeAll()
    records.removeAll()
    carried.removeAll()
    columns.removeAll(keepingCapacity: true)
    planeEntries.removeAll(keepingCapacity: true)
    var lanes: [Lane] = []
    var (events, bytes) = (0, 0)
    for _ in 0..<(try reader.read(UInt8.self)) {
      guard let layout = schema[try reader.read()] else {
        throw Malformed("holds a kind that its trace does not describe")
      }
      let count = Int(try reader.read(UInt32.self))
      guard layout.kind > lanes.last?.layout.kind ?? 0, count > 0, count <= Int(header.events) else {
        throw Malformed("contradicts itself")
      }
      lanes.append(Lane(layout: layout, count: count, next: bytes, end: bytes + count * layout.stride))
      events += count
      bytes += count * layout.stride
    }
    guard events == Int(header.events), bytes <= Int(header.slots) * Record.size else {
      throw Malformed("contradicts itself")
    }
    records.reserve(bytes)
    records.advance(bytes)
    work.removeAll()
    work.reserve(8 * events)
    return lanes
  }

  /// The kinds of the events in stream order: where they are in `planes`.
  private mutating func decodeSequence(_ reader: inout ByteReader, events: Int) throws(Malformed) -> Int {
    let column = try readColumn(&reader, count: events, width: 1)
    if let kind = column.constant {
      let offset = planes.count
      planes.reserve(events)
      memset(planes.end, Int32(kind), events)
      planes.advance(events)
      return offset
    }
    guard column.transform == .plain, column.planes[0] >= 0 else { throw Malformed("contradicts itself") }
    return Int(column.planes[0])
  }

  private mutating func decodeKind(_ reader: inout ByteReader, _ lane: inout Lane, carriedMax: Int) throws(Malformed) {
    let layout = lane.layout
    let first = columns.count
    _ = try readColumn(&reader, count: lane.count, width: 8)
    for field in layout.fields { _ = try readColumn(&reader, count: lane.count, width: field.width) }
    fillConstants(lane, first)
    if columns[first].constant == nil { scatter(columns[first], lane, offset: 0, width: 8) }
    for (index, field) in layout.fields.enumerated() where columns[first + 1 + index].constant == nil {
      scatter(columns[first + 1 + index], lane, offset: field.offset, width: field.width)
    }
    if layout.carriesBytes {
      let length = Int(try reader.read(UInt32.self))
      guard carried.count + length <= carriedMax else { throw Malformed("contradicts itself") }
      lane.carriedNext = carried.count
      lane.carriedEnd = carried.count + length
      if length > 0 { try Self.inflate(zstd, &reader, mode: try reader.read(), count: length, into: &carried) }
    }
  }

  /// Begin every record of a kind with the values that all of them share.
  private mutating func fillConstants(_ lane: Lane, _ firstColumn: Int) {
    let layout = lane.layout
    let start = records.base + lane.next
    memset(start, 0, layout.stride)
    start.storeBytes(of: layout.kind, toByteOffset: 8, as: UInt8.self)
    start.storeBytes(of: UInt16(layout.fixedTailSlots), toByteOffset: 14, as: UInt16.self)
    Self.store(columns[firstColumn].constant ?? 0, to: start, width: 8)
    for (index, field) in layout.fields.enumerated() {
      Self.store(columns[firstColumn + 1 + index].constant ?? 0, to: start + field.offset, width: field.width)
    }
    for index in 1..<max(lane.count, 1) { memcpy(start + index * layout.stride, start, layout.stride) }
  }

  private static func store(_ value: UInt64, to bytes: UnsafeMutableRawPointer, width: Int) {
    switch width {
    case 1: bytes.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    case 2: bytes.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
    case 4: bytes.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    default: bytes.storeBytes(of: value, as: UInt64.self)
    }
  }

  private mutating func scatter(_ column: Column, _ lane: Lane, offset: Int, width: Int) {
    let values = join(column)
    let stride = lane.layout.stride
    let first = records.base + lane.next + offset
    @inline(__always)
    func scatter<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) {
      var target = first
      for index in 0..<column.count {
        target.storeBytes(of: Value(truncatingIfNeeded: values[index]), as: Value.self)
        target += stride
      }
    }
    switch width {
    case 1: scatter(UInt8.self)
    case 2: scatter(UInt16.self)
    case 4: scatter(UInt32.self)
    default: scatter(UInt64.self)
    }
  }

  /// A column's values, from its planes, in `work`.
  private mutating func join(_ column: Column) -> UnsafeMutablePointer<UInt64> {
    let values = work.base.assumingMemoryBound(to: UInt64.self)
    var constant: UInt64 = 0
    for plane in 0..<column.planeCount where column.planes[plane] < 0 {
      constant |= UInt64(-1 - column.planes[plane]) << UInt64(8 * plane)
    }
    values.update(repeating: constant, count: column.count)
    for plane in 0..<column.planeCount where column.planes[plane] >= 0 {
      let bytes = (planes.base + Int(column.planes[plane])).assumingMemoryBound(to: UInt8.self)
      let shift = UInt64(8 * plane)
      for index in 0..<column.count { values[index] |= UInt64(bytes[index]) << shift }
    }
    switch column.transform {
    case .plain: break
    case .offset: for index in 0..<column.count { values[index] = column.base &+ unzigzag(values[index]) }
    case .delta:
      var last: UInt64 = 0
      for index in 0..<column.count {
        last = last &+ unzigzag(values[index])
        values[index] = last
      }
    }
    return values
  }

  /// Read how a column is stored, and its planes.
  private mutating func readColumn(_ reader: inout ByteReader, count: Int, width: Int) throws(Malformed) -> Column {
    let tag = try reader.read(UInt8.self)
    var column = Column(count: count)
    switch tag {
    case ColumnTag.constant...ColumnTag.constant + 8:
      column.planeCount = Int(tag)
      guard column.planeCount <= width else { throw Malformed("contradicts itself") }
      for plane in 0..<column.planeCount { column.planes[plane] = -1 - Int32(try reader.read(UInt8.self)) }
    case ColumnTag.reference:
      let number = Int(try reader.read(UInt16.self))
      guard number < columns.count, columns[number].count == count else { throw Malformed("contradicts itself") }
      column = columns[number]
    case ColumnTag.planes...ColumnTag.planes + 2:
      column.transform = Transform(rawValue: tag - ColumnTag.planes) ?? .plain
      column.planeCount = Int(try reader.read(UInt8.self))
      guard column.planeCount > 0, column.planeCount <= width else { throw Malformed("contradicts itself") }
      if column.transform == .offset { column.base = try reader.read() }
      for plane in 0..<column.planeCount { column.planes[plane] = try readPlane(&reader, count: count) }
    default: throw Malformed("holds a column that cannot be read")
    }
    columns.append(column)
    return column
  }

  private mutating func readPlane(_ reader: inout ByteReader, count: Int) throws(Malformed) -> Int32 {
    let mode = try reader.read(UInt8.self)
    switch mode {
    case PlaneMode.constant: return -1 - Int32(try reader.read(UInt8.self))
    case PlaneMode.reference:
      let number = Int(try reader.read(UInt16.self))
      guard number < planeEntries.count, planeEntries[number].count == count else {
        throw Malformed("contradicts itself")
      }
      return Int32(planeEntries[number].offset)
    default:
      let offset = planes.count
      try Self.inflate(zstd, &reader, mode: mode, count: count, into: &planes)
      planeEntries.append((offset, count))
      return Int32(offset)
    }
  }

  private static func inflate(
    _ zstd: OpaquePointer, _ reader: inout ByteReader, mode: UInt8, count: Int, into target: inout ByteBuffer
  ) throws(Malformed) {
    switch mode {
    case PlaneMode.stored: target.append(try reader.bytes(count))
    case PlaneMode.zstd:
      let bytes = try reader.bytes(Int(try reader.read(UInt32.self)))
      target.reserve(count)
      guard ZSTD_decompressDCtx(zstd, target.end, count, bytes.baseAddress, bytes.count) == count else {
        throw Malformed("cannot be decompressed")
      }
      target.advance(count)
    default: throw Malformed("holds bytes that cannot be read")
    }
  }

  /// Put the events of all kinds into stream order.
  private mutating func assemble(_ header: ChunkHeader, _ sequence: Int, _ lanes: inout [Lane]) throws(Malformed) {
    let room = Int(header.slots) * Record.size
    output.reserve(room)
    let kinds = planes.base + sequence
    let (records, carried, output) = (records.base, carried.base, output.base)
    var time = header.firstTime
    var written = 0
    try withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { laneOf throws(Malformed) in
      laneOf.initialize(repeating: .max)
      for (index, lane) in lanes.enumerated() { laneOf[Int(lane.layout.kind)] = UInt8(index) }
      for event in 0..<Int(header.events) {
        let number = Int(laneOf[Int(kinds.load(fromByteOffset: event, as: UInt8.self))])
        guard number < lanes.count, lanes[number].next < lanes[number].end else {
          throw Malformed("contradicts itself")
        }
        let source = records + lanes[number].next
        let stride = lanes[number].layout.stride
        lanes[number].next += stride
        guard written + stride <= room else { throw Malformed("contradicts itself") }
        let target = output + written
        written += stride
        for slot in 0..<stride / Record.size {
          let words = (source + slot * Record.size).load(as: SIMD4<UInt64>.self)
          (target + slot * Record.size).storeBytes(of: words, as: SIMD4<UInt64>.self)
        }
        time &+= source.load(as: UInt64.self)
        target.storeBytes(of: time, as: UInt64.self)
        guard lanes[number].layout.carriesBytes, target.load(fromByteOffset: 9, as: UInt8.self) & EventFlag.bytes != 0
        else { continue }
        let length = Int(target.load(fromByteOffset: 24, as: UInt32.self))
        let tail = (length + Record.size - 1) / Record.size
        guard tail <= Int(UInt16.max), written + tail * Record.size <= room,
          length <= lanes[number].carriedEnd - lanes[number].carriedNext
        else { throw Malformed("contradicts itself") }
        target.storeBytes(of: UInt16(tail), toByteOffset: 14, as: UInt16.self)
        let bytes = output + written
        if tail > 0 { memset(bytes + (tail - 1) * Record.size, 0, Record.size) }
        memcpy(bytes, carried + lanes[number].carriedNext, length)
        lanes[number].carriedNext += length
        written += tail * Record.size
      }
    }
    guard written == room else { throw Malformed("contradicts itself") }
    self.output.advance(room)
  }
}
