import CPlatform

/// Format version. A reader reads every minor version of its major version.
public struct FormatVersion: Equatable, Sendable, CustomStringConvertible {
  public let major: UInt16
  public let minor: UInt16
  /// The version that this build writes.
  public static let current = FormatVersion(major: 1, minor: 1)
  public var description: String { "\(major).\(minor)" }
}

/// The header of a trace.
public struct TraceHeader: Sendable {
  public var version = FormatVersion.current
  public var id: TraceID
  /// The recording kept only its newest chunks; the file has zeros in place of older ones.
  public var isFlightRecorder = false
  /// Conversion from ticks to nanoseconds.
  public var scale: TickScale
  /// The system's clocks at time 0, nanoseconds.
  public var startMonotonic: UInt64
  public var startRealtime: UInt64
  /// Notes of the recorder about machine and subsystem, in order. Keys and values are text.
  public var metadata: [(key: String, value: String)]
  public var schema = TraceSchema.current

  static let magic: UInt64 = 0x0a1a_0a0d_5450_564e  // "NVPT\r\n\x1a\n"
  /// Bytes before the parts of variable length.
  static let fixedLength = 72
  static let lengthMax = 1 << 20
}

extension TraceHeader {
  func encoded() throws(TraceError) -> ByteBuffer {
    var buffer = ByteBuffer(capacity: 8192)
    buffer.append(Self.magic)
    buffer.append(version.major)
    buffer.append(version.minor)
    buffer.append(UInt32(0))
    buffer.append(id.high)
    buffer.append(id.low)
    buffer.append(scale.start)
    buffer.append(scale.multiplier)
    buffer.append(startMonotonic)
    buffer.append(startRealtime)
    buffer.append(UInt32(isFlightRecorder ? 1 : 0))
    buffer.append(UInt32(metadata.count))
    for (key, value) in metadata {
      buffer.append(UInt32(key.utf8.count))
      buffer.append(UInt32(value.utf8.count))
      buffer.append(utf8: key)
      buffer.append(utf8: value)
    }
    schema.append(to: &buffer)
    let length = (buffer.count + 4 + 7) & ~7
    while buffer.count < length - 4 { buffer.append(UInt8(0)) }
    guard length <= Self.lengthMax else {
      throw TraceError(.notATrace, "the metadata of a trace must be shorter than \(Self.lengthMax) bytes")
    }
    buffer.set(UInt32(length), at: 12)
    buffer.append(nvmepf_crc32c(0, buffer.base, buffer.count))
    return buffer
  }

  /// The length of the whole header, from its first `fixedLength` bytes.
  static func length(_ bytes: UnsafeRawBufferPointer, path: String) throws(TraceError) -> Int {
    var reader = ByteReader(bytes)
    guard let magic = try? reader.read(UInt64.self), magic == Self.magic, let major = try? reader.read(UInt16.self),
      let minor = try? reader.read(UInt16.self), let length = try? reader.read(UInt32.self)
    else { throw TraceError(.notATrace, "\(path) is not a trace of nvmepf") }
    guard major <= FormatVersion.current.major else {
      let version = FormatVersion(major: major, minor: minor)
      throw TraceError(
        .otherVersion,
        "\(path) was written by a newer nvmepf (format \(version)); this one reads formats up to "
          + "\(FormatVersion.current.major).x: update nvmepf")
    }
    guard length >= fixedLength, length <= lengthMax, length % 8 == 0 else {
      throw TraceError(.damaged, "\(path): the header is damaged; nothing after it can be read")
    }
    return Int(length)
  }

  init(_ bytes: UnsafeRawBufferPointer, path: String) throws(TraceError) {
    let body = UnsafeRawBufferPointer(rebasing: bytes.dropLast(4))
    guard bytes.count >= Self.fixedLength,
      UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: body.count, as: UInt32.self))
        == nvmepf_crc32c(0, body.baseAddress, body.count)
    else { throw TraceError(.damaged, "\(path): the header fails its checksum; nothing after it can be read") }
    do throws(Malformed) {
      try self.init(ByteReader(body))
    } catch {
      throw TraceError(.damaged, "\(path): the header is damaged: \(error.what)")
    }
  }

  private init(_ bytes: ByteReader) throws(Malformed) {
    var reader = bytes
    _ = try reader.read(UInt64.self)
    version = FormatVersion(major: try reader.read(), minor: try reader.read())
    _ = try reader.read(UInt32.self)
    id = TraceID(high: try reader.read(), low: try reader.read())
    scale = TickScale(start: try reader.read(), multiplier: try reader.read())
    startMonotonic = try reader.read()
    startRealtime = try reader.read()
    isFlightRecorder = try reader.read(UInt32.self) & 1 != 0
    metadata = []
    for _ in 0..<(try reader.read(UInt32.self)) {
      let (key, value) = (Int(try reader.read(UInt32.self)), Int(try reader.read(UInt32.self)))
      metadata.append((try reader.text(key), try reader.text(value)))
    }
    schema = try TraceSchema(&reader)
  }
}

extension TraceHeader {
  /// Metadata keys that a merged trace has in addition to its target's.
  public enum MergeKey {
    public static let offset = "host offset ns"
    /// Where the comparison of the clocks ended before the traces did; absent if it did not.
    public static let comparedUntil = "host compared until ns"
    /// Before the keys of the host's own notes.
    public static let hostPrefix = "host's "
    public static let drift = "host drift"
    public static let bound = "host bound ns"
  }
}

extension TraceHeader {
  /// The header of a trace made from this one, with a note on how; a second one of the same key follows the first.
  public func edited(_ key: String, _ note: String) -> TraceHeader {
    var header = self
    header.id = .random()
    if let place = metadata.firstIndex(where: { $0.key == key }) {
      header.metadata[place].value += "; then \(note)"
    } else {
      header.metadata.append((key, note))
    }
    return header
  }

  /// The clocks at a time of the trace, in nanoseconds, as far as they kept pace with it.
  public func clocks(at time: UInt64) -> ClockSnapshot {
    ClockSnapshot(
      ticks: scale.ticks(at: time), monotonic: startMonotonic &+ time, realtime: startRealtime &+ time)
  }
}
