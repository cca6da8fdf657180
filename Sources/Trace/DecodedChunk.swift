import CPlatform
import CZstd
import Events
import Glibc

/// The events of one chunk, as in the ring: records, each followed by its tail, with times and spans in nanoseconds.
/// Its memory is reused from chunk to chunk.
public struct DecodedChunk: ~Copyable {
  /// Header of the decoded chunk; nil before the first.
  public private(set) var header: ChunkHeader?
  /// Records and tails, in stream order.
  public var slots: UnsafeBufferPointer<Record> {
    UnsafeBufferPointer(start: output.base.assumingMemoryBound(to: Record.self), count: output.count / Record.size)
  }

  private let zstd: OpaquePointer
  /// The encoded chunk.
  private var file = ByteBuffer()
  private var planes = ByteBuffer()
  private var work = ByteBuffer()
  /// The events of each kind, records with their fixed tails, contiguous.
  private var records = ByteBuffer()
  private var carried = ByteBuffer()
  private var output = ByteBuffer()
  private var columns: [Column] = []
  private var planeEntries: [(offset: Int, count: Int)] = []

  public init() throws(TraceError) {
    guard let zstd = ZSTD_createDCtx() else { throw TraceError.system("cannot begin to decompress", ENOMEM) }
    self.init(zstd)
  }

  private init(_ zstd: OpaquePointer) { self.zstd = zstd }

  deinit { ZSTD_freeDCtx(zstd) }
}

extension DecodedChunk {
  /// Location of a column's values.
  private struct Column {
    var count: Int
    var transform = Transform.plain
    var base: UInt64 = 0
    var planeCount = 0
    /// Mask of the width at which differences wrap around.
    var mask = UInt64.max
    /// Offset of each plane in `planes`, or -1 - its byte if all bytes are equal.
    var planes = SIMD8<Int32>(repeating: -1)

    /// The value of a constant column.
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
    /// Positions in `records` and `carried`.
    let next: Int
    let end: Int
    var carriedNext = 0
    var carriedEnd = 0
  }

  /// Memory for a chunk's header and body, to read the file into.
  mutating func room(for length: Int) -> UnsafeMutableRawPointer {
    header = nil
    output.removeAll()
    file.resize(to: length)
    return file.base
  }

  /// Exchange the buffer of decoded events with `buffer`.
  mutating func exchangeEvents(_ buffer: inout ByteBuffer) { swap(&output, &buffer) }

  /// Decode the bytes read into `room`.
  /// - Parameter expected: the chunk's header in the trace's index, which determined the reader's memory.
  mutating func decode(_ schema: TraceSchema, expected: ChunkHeader) throws(Malformed) {
    let bytes = file.bytes
    guard let header = ChunkHeader(bytes) else { throw Malformed("fails its checksum") }
    guard header == expected else { throw Malformed("differs from its index entry") }
    let body = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(ChunkHeader.size))
    guard nvmepf_crc32c(0, body.baseAddress, body.count) == header.bodyCRC else {
      throw Malformed("fails its checksum")
    }
    var reader = ByteReader(body)
    var lanes = try begin(&reader, header, schema)
    let sequence = try decodeSequence(&reader, events: Int(header.events))
    for index in lanes.indices { try decodeKind(&reader, &lanes[index], carriedMax: Int(header.slots) * Record.size) }
    try assemble(header, sequence, lanes)
    self.header = header
  }

  /// Read the kinds and their counts, within the limits of the header.
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
        throw .contradiction
      }
      lanes.append(Lane(layout: layout, count: count, next: bytes, end: bytes + count * layout.stride))
      events += count
      bytes += count * layout.stride
    }
    guard events == Int(header.events), bytes <= Int(header.slots) * Record.size else { throw .contradiction }
    records.reserve(bytes)
    records.advance(bytes)
    // A column is no longer than its events, so this suffices for all planes.
    planes.reserve(events + bytes)
    work.removeAll()
    work.reserve(8 * events)
    return lanes
  }

  /// Locate the kinds of the events in stream order within `planes`.
  private mutating func decodeSequence(_ reader: inout ByteReader, events: Int) throws(Malformed) -> Int {
    let column = try readColumn(&reader, count: events, width: 1)
    if let kind = column.constant {
      let offset = planes.count
      planes.reserve(events)
      memset(planes.end, Int32(kind), events)
      planes.advance(events)
      return offset
    }
    guard column.transform == .plain, column.planes[0] >= 0 else { throw .contradiction }
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
      guard carried.count + length <= carriedMax else { throw .contradiction }
      lane.carriedNext = carried.count
      lane.carriedEnd = carried.count + length
      if length > 0 { try Self.inflate(zstd, &reader, mode: try reader.read(), count: length, into: &carried) }
    }
  }

  /// Start every record of a kind with the values that all of them share.
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

  /// Decode a column's values from its planes into `work`.
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
    case .offset:
      for index in 0..<column.count { values[index] = (column.base &+ unzigzag(values[index])) & column.mask }
    case .delta:
      var last: UInt64 = 0
      for index in 0..<column.count {
        last = (last &+ unzigzag(values[index])) & column.mask
        values[index] = last
      }
    }
    return values
  }

  /// Read a column's encoding and its planes.
  private mutating func readColumn(_ reader: inout ByteReader, count: Int, width: Int) throws(Malformed) -> Column {
    let tag = try reader.read(UInt8.self)
    var column = Column(count: count)
    switch tag {
    case ColumnTag.constant...ColumnTag.constant + 8:
      column.planeCount = Int(tag)
      guard column.planeCount <= width else { throw .contradiction }
      for plane in 0..<column.planeCount { column.planes[plane] = -1 - Int32(try reader.read(UInt8.self)) }
    case ColumnTag.reference:
      let number = Int(try reader.read(UInt16.self))
      guard number < columns.count, columns[number].count == count else { throw .contradiction }
      column = columns[number]
    case ColumnTag.planes...ColumnTag.planes + 2:
      column.transform = Transform(rawValue: tag - ColumnTag.planes) ?? .plain
      let shape = try reader.read(UInt8.self)
      let wrapWidth = 1 << Int(shape >> 4)
      column.planeCount = Int(shape & 15)
      guard wrapWidth <= width, column.planeCount > 0, column.planeCount <= wrapWidth else { throw .contradiction }
      column.mask = .max >> UInt64(64 - 8 * wrapWidth)
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
      guard number < planeEntries.count, planeEntries[number].count == count else { throw .contradiction }
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

  /// Arrange the events of all kinds in stream order.
  private mutating func assemble(_ header: ChunkHeader, _ sequence: Int, _ lanes: [Lane]) throws(Malformed) {
    let room = Int(header.slots) * Record.size
    output.reserve(room)
    let kinds = (planes.base + sequence).assumingMemoryBound(to: UInt8.self)
    let start = output.base
    let end = start + room
    var target = start
    var time = header.firstTime
    let sources = UnsafeMutablePointer<Source>.allocate(capacity: 256)
    defer { sources.deallocate() }
    sources.initialize(repeating: Source(), count: 256)
    for lane in lanes { sources[Int(lane.layout.kind)] = Source(lane, records: records.base, carried: carried.base) }
    for event in 0..<Int(header.events) {
      let source = sources + Int(kinds[event])
      let stride = source.pointee.stride
      guard source.pointee.next < source.pointee.end, stride <= end - target else { throw .contradiction }
      let record = source.pointee.next
      source.pointee.next = record + stride
      time &+= record.load(as: UInt64.self)
      target.storeBytes(of: record.load(as: SIMD4<UInt64>.self), as: SIMD4<UInt64>.self)
      target.storeBytes(of: time, as: UInt64.self)
      var offset = Record.size
      while offset < stride {
        let slot = record.load(fromByteOffset: offset, as: SIMD4<UInt64>.self)
        target.storeBytes(of: slot, toByteOffset: offset, as: SIMD4<UInt64>.self)
        offset += Record.size
      }
      if source.pointee.carriesBytes && target.load(fromByteOffset: 9, as: UInt8.self) & Record.carriesBytesFlag != 0 {
        target = try appendCarried(target, end, source)
      } else {
        target += stride
      }
    }
    guard target == end else { throw .contradiction }
    output.advance(room)
  }

  /// The events of one kind that remain to be arranged.
  private struct Source {
    var next = UnsafeRawPointer(bitPattern: 1)!
    var end = UnsafeRawPointer(bitPattern: 1)!
    var stride = 0
    var carriesBytes = false
    var carried = UnsafeRawPointer(bitPattern: 1)!
    var carriedEnd = UnsafeRawPointer(bitPattern: 1)!

    init() {}

    init(_ lane: Lane, records: UnsafeMutableRawPointer, carried: UnsafeMutableRawPointer) {
      next = UnsafeRawPointer(records + lane.next)
      end = UnsafeRawPointer(records + lane.end)
      stride = lane.layout.stride
      carriesBytes = lane.layout.carriesBytes
      self.carried = UnsafeRawPointer(carried + lane.carriedNext)
      carriedEnd = UnsafeRawPointer(carried + lane.carriedEnd)
    }
  }

  /// Append the bytes that the record at `target` carries. Returns the position of the next record.
  private func appendCarried(
    _ target: UnsafeMutableRawPointer, _ end: UnsafeMutableRawPointer, _ source: UnsafeMutablePointer<Source>
  ) throws(Malformed) -> UnsafeMutableRawPointer {
    let length = Int(target.load(fromByteOffset: 24, as: UInt32.self))
    let tail = (length + Record.size - 1) / Record.size
    let bytes = target + Record.size
    guard tail <= Int(UInt16.max), tail * Record.size <= end - bytes,
      length <= source.pointee.carriedEnd - source.pointee.carried
    else { throw .contradiction }
    target.storeBytes(of: UInt16(tail), toByteOffset: 14, as: UInt16.self)
    if tail > 0 { memset(bytes + (tail - 1) * Record.size, 0, Record.size) }
    memcpy(bytes, source.pointee.carried, length)
    source.pointee.carried += length
    return bytes + tail * Record.size
  }
}
