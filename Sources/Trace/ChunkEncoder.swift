import CPlatform
import CZstd
import Events
import Glibc

/// Encodes the events of a `ChunkBuilder` as a chunk of the file. All streams of a writer share one coder, which keeps
/// its memory from chunk to chunk.
final class ChunkEncoder {
  private let zstd: OpaquePointer
  /// Header and body.
  private var output = ByteBuffer(capacity: 1 << 16)
  /// The values of columns that later ones may repeat, followed by those of the current column.
  private var values = ByteBuffer(capacity: 1 << 16)
  /// The same for planes.
  private var planes = ByteBuffer(capacity: 1 << 16)
  private var work = ByteBuffer(capacity: 1 << 16)
  private var columns: [ColumnEntry] = []
  private var planeEntries: [PlaneEntry] = []
  /// Number of columns of the chunk so far.
  private var columnCount = 0

  /// A column whose values vary.
  private struct ColumnEntry {
    let number: Int
    let count: Int
    /// A sample of its values, which distinguishes most columns.
    let probe: SIMD4<UInt64>
    /// In `values`: 32-bit words if all values fit, else 64-bit words.
    let offset: Int
    let isNarrow: Bool
  }

  private struct PlaneEntry {
    let count: Int
    let crc: UInt32
    /// In `planes`.
    let offset: Int
  }

  /// A stride through the records of one kind.
  private struct Column {
    let first: UnsafeRawPointer
    let stride: Int
    let count: Int
    /// Offset in the record, bytes.
    let width: Int
    let isTime: Bool

    subscript(index: Int) -> UInt64 { ChunkEncoder.load(first + index * stride, width: width) }
  }

  init() throws(TraceError) {
    guard let zstd = ZSTD_createCCtx() else { throw TraceError.system("cannot begin to compress", ENOMEM) }
    self.zstd = zstd
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1)
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0)
  }

  deinit { ZSTD_freeCCtx(zstd) }

  /// Append the builder's events as a chunk, and set the fields of `header` that depend on the events.
  func append(_ builder: ChunkBuilder, _ header: inout ChunkHeader, to file: inout TraceFile) throws(TraceError) {
    encode(builder, &header)
    try file.append(output)
  }

  private func encode(_ builder: ChunkBuilder, _ header: inout ChunkHeader) {
    begin(builder)
    encodeBody(builder)
    output.pad(to: 8)
    let body = output.base + ChunkHeader.size
    header.beginsWithCheckpoint = builder.beginsWithCheckpoint
    header.events = UInt32(builder.events)
    header.slots = UInt32(builder.slots)
    header.firstTime = builder.firstTime
    header.lastTime = builder.lastTime
    header.commands = commands(builder)
    header.lost = lost(builder)
    header.queues = queues(builder)
    header.bodyLength = UInt32(output.count - ChunkHeader.size)
    header.bodyCRC = nvmepf_crc32c(0, body, output.count - ChunkHeader.size)
    header.store(to: output.base)
  }

  /// Submission queue entries of I/O queues.
  private func commands(_ builder: ChunkBuilder) -> UInt32 {
    let fetches = builder.records(of: EventKind.fetch.rawValue)
    var count: UInt32 = 0
    for index in 0..<fetches.count {
      let qid = fetches.start!.load(fromByteOffset: index * fetches.stride + 10, as: UInt16.self)
      count += qid == 0 ? 0 : 1
    }
    return count
  }

  /// The queues of its events, as bits.
  private func queues(_ builder: ChunkBuilder) -> UInt64 {
    var queues: UInt64 = 0
    for layout in builder.schema.kinds where layout.queueOffset != nil {
      let records = builder.records(of: layout.kind)
      guard let start = records.start, let offset = layout.queueOffset else { continue }
      for index in 0..<records.count {
        let qid = start.load(fromByteOffset: index * records.stride + offset, as: UInt16.self)
        queues |= 1 << UInt64(qid & 63)
      }
    }
    return queues
  }

  private func lost(_ builder: ChunkBuilder) -> UInt64 {
    let gaps = builder.records(of: EventKind.gap.rawValue)
    var sum: UInt64 = 0
    for index in 0..<gaps.count {
      let (total, overflow) = sum.addingReportingOverflow(
        gaps.start!.load(fromByteOffset: index * gaps.stride + 16, as: UInt64.self))
      sum = overflow ? .max : total
    }
    return sum
  }

  /// Reserve the maximum size of the chunk, so that the code below need not.
  private func begin(_ builder: ChunkBuilder) {
    output.removeAll()
    values.removeAll()
    planes.removeAll()
    columns.removeAll(keepingCapacity: true)
    planeEntries.removeAll(keepingCapacity: true)
    columnCount = 0
    var valueBytes = 8 * builder.events
    var planeBytes = builder.events
    var columnMetadata = 4096
    var carried = 0
    for layout in builder.schema.kinds {
      let count = builder.records(of: layout.kind).count
      valueBytes += 8 * count * (layout.fields.count + 1)
      planeBytes += count * layout.stride
      columnMetadata += 64 * (layout.fields.count + 2)
      carried += ZSTD_compressBound(builder.bytesCarried(by: layout.kind).count)
    }
    values.reserve(valueBytes)
    planes.reserve(planeBytes)
    work.reserve(8 * builder.events)
    output.reserve(ChunkHeader.size + planeBytes + planeBytes / 128 + columnMetadata + carried)
    output.advance(ChunkHeader.size)
  }

  private func encodeBody(_ builder: ChunkBuilder) {
    let present = builder.schema.kinds.filter { builder.records(of: $0.kind).count > 0 }
    output.append(UInt8(present.count))
    for layout in present {
      output.append(layout.kind)
      output.append(UInt32(builder.records(of: layout.kind).count))
    }
    encodeSequence(builder)
    for layout in present { encodeKind(layout, builder) }
  }

  /// The kinds of the events in stream order: a column of one plane.
  private func encodeSequence(_ builder: ChunkBuilder) {
    columnCount += 1
    let sequence = builder.sequence.bytes
    if builder.schema.kinds.contains(where: { builder.records(of: $0.kind).count == sequence.count }) {
      return appendConstant(UInt64(sequence[0]))
    }
    output.append(ColumnTag.planes + Transform.plain.rawValue)
    output.append(UInt8(1))
    planes.append(sequence)
    appendPlane(count: sequence.count)
  }

  private func encodeKind(_ layout: KindLayout, _ builder: ChunkBuilder) {
    let (start, count, stride) = builder.records(of: layout.kind)
    let records = UnsafeRawPointer(start!)
    withUnsafeTemporaryAllocation(of: SIMD4<UInt64>.self, capacity: stride / Record.size) { varying in
      for slot in 0..<stride / Record.size {
        varying[slot] = Self.varyingBits(records + slot * Record.size, stride: stride, count: count)
      }
      let varying = UnsafeRawPointer(varying.baseAddress!)
      encode(Column(first: records, stride: stride, count: count, width: 8, isTime: true), varying: varying)
      for field in layout.fields {
        let column = Column(
          first: records + field.offset, stride: stride, count: count, width: field.width, isTime: field.unit == .span)
        encode(column, varying: varying + field.offset)
      }
    }
    if layout.carriesBytes { encodeCarried(builder.bytesCarried(by: layout.kind)) }
  }

  /// The bits of a slot that differ between records.
  private static func varyingBits(_ slot: UnsafeRawPointer, stride: Int, count: Int) -> SIMD4<UInt64> {
    let first = slot.load(as: SIMD4<UInt64>.self)
    var varying = SIMD4<UInt64>.zero
    var record = slot
    for _ in 0..<count {
      varying |= record.load(as: SIMD4<UInt64>.self) ^ first
      record += stride
    }
    return varying
  }

  private func encode(_ column: Column, varying: UnsafeRawPointer) {
    let number = columnCount
    columnCount += 1
    let varying = Self.load(varying, width: column.width)
    if varying == 0 { return appendConstant(column[0]) }
    let isNarrow = (column[0] | varying) >> 32 == 0
    let (count, last) = (column.count, column.count - 1)
    let probe = SIMD4(column[0], column[last / 3], column[last - last / 3], column[last])
    if let earlier = columns.first(where: {
      $0.count == count && $0.isNarrow == isNarrow && $0.probe == probe && isEqual(column, to: $0)
    }) {
      output.append(ColumnTag.reference)
      output.append(UInt16(earlier.number))
      return
    }
    columns.append(
      ColumnEntry(number: number, count: count, probe: probe, offset: values.count, isNarrow: isNarrow))
    if isNarrow {
      encode(column, varying, width: min(column.width, 4), as: UInt32.self)
    } else {
      encode(column, varying, width: 8, as: UInt64.self)
    }
  }

  private static func load(_ bytes: UnsafeRawPointer, width: Int) -> UInt64 {
    switch width {
    case 1: UInt64(bytes.load(as: UInt8.self))
    case 2: UInt64(bytes.loadUnaligned(as: UInt16.self))
    case 4: UInt64(bytes.loadUnaligned(as: UInt32.self))
    default: bytes.loadUnaligned(as: UInt64.self)
    }
  }

  private func isEqual(_ column: Column, to earlier: ColumnEntry) -> Bool {
    let values = self.values.base + earlier.offset
    @inline(__always)
    func isEqual<Value: FixedWidthInteger & BitwiseCopyable, Word: FixedWidthInteger & BitwiseCopyable>(
      _: Value.Type, _: Word.Type
    ) -> Bool {
      let words = values.assumingMemoryBound(to: Word.self)
      var record = column.first
      var index = 0
      while index < column.count {
        let blockEnd = min(index + 256, column.count)
        var difference: Word = 0
        while index < blockEnd {
          difference |= words[index] ^ Word(truncatingIfNeeded: record.loadUnaligned(as: Value.self))
          record += column.stride
          index += 1
        }
        if difference != 0 { return false }
      }
      return true
    }
    switch (column.width, earlier.isNarrow) {
    case (1, _): return isEqual(UInt8.self, UInt32.self)
    case (2, _): return isEqual(UInt16.self, UInt32.self)
    case (4, _): return isEqual(UInt32.self, UInt32.self)
    case (_, true): return isEqual(UInt64.self, UInt32.self)
    case (_, false): return isEqual(UInt64.self, UInt64.self)
    }
  }

  /// Copy a column into `values` and encode it, with arithmetic in `width` bytes.
  @inline(__always)
  private func encode<Word: ColumnWord>(
    _ column: Column, _ varying: UInt64, width: Int, as type: Word.Type
  ) {
    let words = values.end.assumingMemoryBound(to: Word.self)
    @inline(__always)
    func gather<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) {
      var record = column.first
      for index in 0..<column.count {
        words[index] = Word(truncatingIfNeeded: record.loadUnaligned(as: Value.self))
        record += column.stride
      }
    }
    switch column.width {
    case 1: gather(UInt8.self)
    case 2: gather(UInt16.self)
    case 4: gather(UInt32.self)
    default: gather(UInt64.self)
    }
    // A multiple of eight, for alignment of the next column.
    values.advance((column.count * MemoryLayout<Word>.size + 7) & ~7)
    if column.isTime {
      let middle = Self.middle(words, count: column.count)
      encodeDifferences(words, count: column.count, width: width, .offset, base: middle)
    } else if deltaIsShorter(words, count: column.count, width: width) {
      encodeDifferences(words, count: column.count, width: width, .delta, base: 0)
    } else {
      appendPlanes(
        words, count: column.count, largest: words[0] | Word(truncatingIfNeeded: varying),
        varying: Word(truncatingIfNeeded: varying), .plain, width: width)
    }
  }

  /// The distances of the words from `base` (`offset`), or of each from the previous one, the first from `base` (`delta`).
  @inline(__always)
  private func encodeDifferences<Word: ColumnWord>(
    _ words: UnsafeMutablePointer<Word>, count: Int, width: Int, _ transform: Transform, base: Word
  ) {
    let shift = Word(Word.bitWidth - 8 * width)
    let transformed = work.base.assumingMemoryBound(to: Word.self)
    let first = zigzag(words[0] &- base, shift: shift)
    transformed[0] = first
    var (largest, varying) = (first, Word.zero)
    for index in 1..<max(count, 1) {
      let value = zigzag(words[index] &- (transform == .delta ? words[index - 1] : base), shift: shift)
      transformed[index] = value
      largest |= value
      varying |= value ^ first
    }
    appendPlanes(
      transformed, count: count, largest: largest, varying: varying, transform, width: width,
      base: transform == .offset ? UInt64(base) : nil)
  }

  /// The median of a sample from the whole column.
  @inline(__always)
  private static func middle<Word: FixedWidthInteger & BitwiseCopyable>(
    _ words: UnsafeMutablePointer<Word>, count: Int
  ) -> Word {
    withUnsafeTemporaryAllocation(of: Word.self, capacity: 31) { sample in
      let taken = min(count, 31)
      for index in 0..<taken {
        let value = words[index * count / taken]
        var place = index
        while place > 0 && sample[place - 1] > value {
          sample[place] = sample[place - 1]
          place -= 1
        }
        sample[place] = value
      }
      return sample[taken / 2]
    }
  }

  /// Whether the differences of a sample need fewer bits than its values.
  @inline(__always)
  private func deltaIsShorter<Word: ColumnWord>(
    _ words: UnsafeMutablePointer<Word>, count: Int, width: Int
  ) -> Bool {
    let sampled = min(count - 1, 192)
    let sample = words + (count - sampled + 1) / 2
    let shift = Word(Word.bitWidth - 8 * width)
    let differences = work.base.assumingMemoryBound(to: Word.self)
    for index in 0..<sampled { differences[index] = zigzag(sample[index] &- sample[index - 1], shift: shift) }
    return Self.bits(differences, count: sampled) < Self.bits(sample, count: sampled)
  }

  /// Estimated bits per value of the sample with each plane coded alone, from the planes' distinct bytes.
  @inline(__always)
  private static func bits<Word: ColumnWord>(
    _ sample: UnsafeMutablePointer<Word>, count: Int
  ) -> Double {
    var varying = Word.zero
    for index in 0..<count { varying |= sample[index] ^ sample[0] }
    var sum = 0.0
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { seen in
      let seen = seen.baseAddress!
      for plane in 0..<MemoryLayout<Word>.size {
        let shift = Word(8 * plane)
        if varying &>> shift & 0xff == 0 { continue }
        seen.update(repeating: 0, count: 256)
        for index in 0..<count { seen[Int(truncatingIfNeeded: sample[index] &>> shift & 0xff)] = 1 }
        var distinct: UInt32 = 0
        for byte in 0..<256 { distinct &+= UInt32(seen[byte]) }
        sum += log2(Double(distinct))
      }
    }
    return sum
  }

  private func appendConstant(_ value: UInt64) {
    let bytes = (64 - value.leadingZeroBitCount + 7) / 8
    output.append(ColumnTag.constant + UInt8(bytes))
    for byte in 0..<bytes { output.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * byte))) }
  }

  /// As many planes as the largest value needs.
  @inline(__always)
  private func appendPlanes<Word: ColumnWord>(
    _ words: UnsafeMutablePointer<Word>, count: Int, largest: Word, varying: Word, _ transform: Transform, width: Int,
    base: UInt64? = nil
  ) {
    let planeCount = max(1, (Word.bitWidth - largest.leadingZeroBitCount + 7) / 8)
    output.append(ColumnTag.planes + transform.rawValue)
    output.append(UInt8(planeCount | width.trailingZeroBitCount << 4))
    if let base { output.append(base) }
    for plane in 0..<planeCount {
      let shift = Word(8 * plane)
      if varying &>> shift & 0xff == 0 {
        output.append(PlaneMode.constant)
        output.append(UInt8(truncatingIfNeeded: words[0] &>> shift))
        continue
      }
      let target = planes.end.assumingMemoryBound(to: UInt8.self)
      for index in 0..<count { target[index] = UInt8(truncatingIfNeeded: words[index] &>> shift) }
      planes.advance(count)
      appendPlane(count: count)
    }
  }

  /// The last `count` bytes of `planes`, whose values vary.
  private func appendPlane(count: Int) {
    let offset = planes.count - count
    let plane = planes.base + offset
    let crc = nvmepf_crc32c(0, plane, count)
    for (number, entry) in planeEntries.enumerated() where entry.count == count && entry.crc == crc {
      if memcmp(planes.base + entry.offset, plane, count) == 0 {
        output.append(PlaneMode.reference)
        output.append(UInt16(number))
        planes.removeLast(count)
        return
      }
    }
    planeEntries.append(PlaneEntry(count: count, crc: crc, offset: offset))
    appendCompressed(UnsafeRawBufferPointer(start: plane, count: count))
  }

  private func encodeCarried(_ bytes: UnsafeRawBufferPointer) {
    output.append(UInt32(bytes.count))
    if bytes.count > 0 { appendCompressed(bytes) }
  }

  /// Bytes, stored or compressed, whichever is shorter. A few bytes are not worth compressing.
  private func appendCompressed(_ bytes: UnsafeRawBufferPointer) {
    if bytes.count >= 64 {
      let room = ZSTD_compressBound(bytes.count)
      output.reserve(5 + room)
      let length = ZSTD_compress2(zstd, output.end + 5, room, bytes.baseAddress, bytes.count)
      if ZSTD_isError(length) == 0 && length + 4 < bytes.count {
        output.append(PlaneMode.zstd)
        output.append(UInt32(length))
        output.advance(length)
        return
      }
    }
    output.append(PlaneMode.stored)
    output.append(bytes)
  }
}
