import CPlatform
import CZstd
import Glibc

/// Turns the events of a `ChunkBuilder` into a chunk as it stands in the file. One coder serves all streams of a writer;
/// its memory is kept from chunk to chunk.
final class ChunkEncoder {
  private let zstd: OpaquePointer
  /// Header and body.
  private var output = ByteBuffer(capacity: 1 << 16)
  /// The values of columns that later ones may repeat, and behind them those of the column at hand.
  private var values = ByteBuffer(capacity: 1 << 16)
  /// The same for planes.
  private var planes = ByteBuffer(capacity: 1 << 16)
  private var work = ByteBuffer(capacity: 1 << 16)
  private var columns: [ColumnEntry] = []
  private var planeEntries: [PlaneEntry] = []
  /// Columns of the chunk so far.
  private var columnCount = 0

  /// A column whose values vary.
  private struct ColumnEntry {
    let number: Int
    let count: Int
    let sum: UInt64
    /// In `values`.
    let offset: Int
  }

  private struct PlaneEntry {
    let count: Int
    let crc: UInt32
    /// In `planes`.
    let offset: Int
  }

  init() throws(TraceError) {
    guard let zstd = ZSTD_createCCtx() else { throw TraceError.system("cannot begin to compress", ENOMEM) }
    self.zstd = zstd
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1)
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0)
  }

  deinit { ZSTD_freeCCtx(zstd) }

  /// The chunk's bytes, valid until the next call. `header` gets what follows from the events.
  func encode(_ builder: ChunkBuilder, _ header: inout ChunkHeader) -> UnsafeRawBufferPointer {
    begin(builder)
    encodeBody(builder)
    output.pad(to: 8)
    let body = output.base + ChunkHeader.size
    header.beginsWithCheckpoint = builder.beginsWithCheckpoint
    header.events = UInt32(builder.events)
    header.slots = UInt32(builder.slots)
    header.firstTime = builder.firstTime
    header.lastTime = builder.lastTime
    header.commands = UInt32(builder.records(of: EventKind.fetch.rawValue).count)
    header.lost = lost(builder)
    header.bodyLength = UInt32(output.count - ChunkHeader.size)
    header.bodyCRC = nvmepf_crc32c(0, body, output.count - ChunkHeader.size)
    header.store(to: output.base)
    return output.bytes
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

  /// Make room for the largest that the chunk can become, so that nothing below has to.
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
      let bits = UnsafeRawPointer(varying.baseAddress!)
      encodeColumn(records, bits, stride: stride, count: count, offset: 0, width: 8, isTime: true)
      for field in layout.fields {
        encodeColumn(
          records, bits, stride: stride, count: count, offset: field.offset, width: field.width,
          isTime: field.unit == .span)
      }
    }
    if layout.carriesBytes { encodeCarried(builder.bytesCarried(by: layout.kind)) }
  }

  /// The bits of a slot that are not the same in all records.
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

  private func encodeColumn(
    _ records: UnsafeRawPointer, _ varyingBits: UnsafeRawPointer, stride: Int, count: Int, offset: Int, width: Int,
    isTime: Bool
  ) {
    let number = columnCount
    columnCount += 1
    let varying = Self.load(varyingBits + offset, width: width)
    if varying == 0 { return appendConstant(Self.load(records + offset, width: width)) }
    let column = values.end.assumingMemoryBound(to: UInt64.self)
    let sum = gather(records + offset, stride: stride, count: count, width: width, into: column)
    if let earlier = earlierColumn(equalTo: column, count: count, sum: sum) {
      output.append(ColumnTag.reference)
      output.append(UInt16(earlier))
      return
    }
    columns.append(ColumnEntry(number: number, count: count, sum: sum, offset: values.count))
    values.advance(8 * count)
    if isTime {
      encodeOffset(column, count: count, width: width)
    } else {
      encodePlainOrDelta(column, count: count, width: width, varying: varying)
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

  /// Copy a strided column into an array of its own. Returns the sum of the values, which tells columns apart quickly.
  private func gather(
    _ first: UnsafeRawPointer, stride: Int, count: Int, width: Int, into column: UnsafeMutablePointer<UInt64>
  ) -> UInt64 {
    @inline(__always)
    func gather<Value: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(_ type: Value.Type) -> UInt64 {
      var sum: UInt64 = 0
      var bytes = first
      for index in 0..<count {
        let value = UInt64(bytes.loadUnaligned(as: Value.self))
        column[index] = value
        sum &+= value
        bytes += stride
      }
      return sum
    }
    switch width {
    case 1: return gather(UInt8.self)
    case 2: return gather(UInt16.self)
    case 4: return gather(UInt32.self)
    default: return gather(UInt64.self)
    }
  }

  private func earlierColumn(equalTo column: UnsafeMutablePointer<UInt64>, count: Int, sum: UInt64) -> Int? {
    for entry in columns where entry.count == count && entry.sum == sum {
      if memcmp(values.base + entry.offset, column, 8 * count) == 0 { return entry.number }
    }
    return nil
  }

  /// Times and spans: how far each is from the middle one.
  private func encodeOffset(_ column: UnsafeMutablePointer<UInt64>, count: Int, width: Int) {
    let middle = Self.middle(column, count: count)
    let shift = UInt64(64 - 8 * width)
    let transformed = work.base.assumingMemoryBound(to: UInt64.self)
    for index in 0..<count { transformed[index] = zigzag(column[index] &- middle, shift: shift) }
    output.append(ColumnTag.planes + Transform.offset.rawValue)
    appendPlanes(transformed, count: count, base: middle)
  }

  /// The median of a few values from all over the column.
  private static func middle(_ column: UnsafeMutablePointer<UInt64>, count: Int) -> UInt64 {
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 63) { sample in
      let taken = min(count, 63)
      for index in 0..<taken { sample[index] = column[index * count / taken] }
      var sorted = UnsafeMutableBufferPointer(rebasing: sample[..<taken])
      sorted.sort()
      return sample[taken / 2]
    }
  }

  private func encodePlainOrDelta(_ column: UnsafeMutablePointer<UInt64>, count: Int, width: Int, varying: UInt64) {
    let shift = UInt64(64 - 8 * width)
    let transformed = work.base.assumingMemoryBound(to: UInt64.self)
    let sampled = min(count - 1, 256)
    let sample = column + (count - sampled + 1) / 2
    for index in 0..<sampled { transformed[index] = zigzag(sample[index] &- sample[index - 1], shift: shift) }
    if Self.bits(transformed, count: sampled, width: width) < Self.bits(sample, count: sampled, width: width) {
      var last: UInt64 = 0
      for index in 0..<count {
        transformed[index] = zigzag(column[index] &- last, shift: shift)
        last = column[index]
      }
      output.append(ColumnTag.planes + Transform.delta.rawValue)
      appendPlanes(transformed, count: count, base: nil)
    } else {
      output.append(ColumnTag.planes + Transform.plain.rawValue)
      appendPlanes(column, count: count, base: nil)
    }
  }

  /// About how many bits a value of the sample takes when each plane is coded alone: the planes' distinct bytes tell.
  private static func bits(_ sample: UnsafeMutablePointer<UInt64>, count: Int, width: Int) -> Double {
    var varying: UInt64 = 0
    for index in 0..<count { varying |= sample[index] ^ sample[0] }
    var product = 0.0
    for plane in 0..<width where varying >> UInt64(8 * plane) & 0xff != 0 {
      var seen = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
      for index in 0..<count {
        let byte = sample[index] >> UInt64(8 * plane) & 0xff
        let bit = UInt64(1) << (byte & 63)
        switch byte >> 6 {
        case 0: seen.0 |= bit
        case 1: seen.1 |= bit
        case 2: seen.2 |= bit
        default: seen.3 |= bit
        }
      }
      let distinct =
        seen.0.nonzeroBitCount + seen.1.nonzeroBitCount + seen.2.nonzeroBitCount + seen.3.nonzeroBitCount
      product += log2(Double(distinct))
    }
    return product
  }

  private func appendConstant(_ value: UInt64) {
    let bytes = (64 - value.leadingZeroBitCount + 7) / 8
    output.append(ColumnTag.constant + UInt8(bytes))
    for byte in 0..<bytes { output.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * byte))) }
  }

  /// As many planes as the largest value needs.
  private func appendPlanes(_ transformed: UnsafeMutablePointer<UInt64>, count: Int, base: UInt64?) {
    let first = transformed[0]
    var largest: UInt64 = 0
    var varying: UInt64 = 0
    for index in 0..<count {
      largest |= transformed[index]
      varying |= transformed[index] ^ first
    }
    let planeCount = max(1, (64 - largest.leadingZeroBitCount + 7) / 8)
    output.append(UInt8(planeCount))
    if let base { output.append(base) }
    for plane in 0..<planeCount {
      let shift = UInt64(8 * plane)
      if varying >> shift & 0xff == 0 {
        output.append(PlaneMode.constant)
        output.append(UInt8(truncatingIfNeeded: first >> shift))
        continue
      }
      planes.reserve(count)
      let target = planes.end.assumingMemoryBound(to: UInt8.self)
      for index in 0..<count { target[index] = UInt8(truncatingIfNeeded: transformed[index] >> shift) }
      planes.advance(count)
      appendPlane(count: count)
    }
  }

  /// The last `count` bytes of `planes`, which vary.
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

  /// Bytes, stored or compressed, whichever is shorter. A few are not worth a try.
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
