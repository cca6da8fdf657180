import CPlatform

/// The layout of a `.nvpt` file: header, chunks, and, once it was closed, an index and a footer.
/// docs/trace-format.md describes it.
enum Format {
  static let magic: UInt64 = 0x4543_4152_5450_564e  // "NVPTRACE"
  static let major: UInt16 = 1
  static let minor: UInt16 = 0
  static let headerBytesMax = 1 << 20

  static let chunkMagic: UInt32 = 0x4b4e_4843  // "CHNK"
  static let indexMagic: UInt32 = 0x5844_4e49  // "INDX"
  static let footerMagic: UInt64 = 0x454e_4f44_5450_564e  // "NVPTDONE"
  static let footerBytes = 16

  /// Slots of a chunk, bytes of its body, and values of all its columns that a reader accepts. A writer stays below
  /// half of the first.
  static let chunkSlotsMax = 1 << 22
  static let chunkBytesMax = 1 << 28
  static let chunkValuesMax = 1 << 26
}

/// What a file says of itself before its first chunk.
public struct TraceHeader: Sendable {
  public let id: TraceID
  /// CLOCK_REALTIME when the trace began, in nanoseconds since 1970.
  public let startRealtimeNs: UInt64
  /// Cycle counter ticks a second, and the count at time zero.
  public let ticksPerSecond: UInt64
  public let startTicks: UInt64
  /// Who recorded what: `command`, `backend`, `version`…
  public let metadata: [(key: String, value: String)]

  public init(
    id: TraceID, startRealtimeNs: UInt64, ticksPerSecond: UInt64, startTicks: UInt64,
    metadata: [(key: String, value: String)]
  ) {
    self.id = id
    self.startRealtimeNs = startRealtimeNs
    self.ticksPerSecond = ticksPerSecond
    self.startTicks = startTicks
    self.metadata = metadata
  }

  func encode(_ schema: Schema) -> [UInt8] {
    var body = ByteWriter()
    for value in [id.high, id.low, startRealtimeNs, ticksPerSecond, startTicks] { body.put(value) }
    body.put(UInt16(metadata.count))
    for (key, value) in metadata {
      body.put(key)
      body.put(value)
    }
    schema.encode(into: &body)
    var whole = ByteWriter()
    whole.put(Format.magic)
    whole.put(Format.major)
    whole.put(Format.minor)
    whole.put(UInt32(16 + body.bytes.count + 4))
    body.bytes.withUnsafeBytes { whole.put($0) }
    whole.put(checksum(whole.bytes))
    return whole.bytes
  }

  /// - Parameter bytes: behind the first 16 bytes of the file, without the checksum.
  static func decode(_ bytes: UnsafeRawBufferPointer) throws(TraceError) -> (TraceHeader, Schema) {
    var reader = ByteReader(bytes)
    let id = TraceID(high: try reader.get(), low: try reader.get())
    let realtime = try reader.get(UInt64.self)
    let ticksPerSecond = try reader.get(UInt64.self)
    let startTicks = try reader.get(UInt64.self)
    var metadata: [(key: String, value: String)] = []
    for _ in 0..<(try reader.get(UInt16.self)) { metadata.append((try reader.getText(), try reader.getText())) }
    let header = TraceHeader(
      id: id, startRealtimeNs: realtime, ticksPerSecond: ticksPerSecond, startTicks: startTicks, metadata: metadata)
    return (header, try Schema(&reader))
  }
}

func checksum(_ bytes: [UInt8]) -> UInt32 {
  bytes.withUnsafeBytes { nvmepf_crc32c(0, $0.baseAddress, $0.count) }
}

/// What stands before a chunk's body: 88 bytes.
public struct ChunkHeader: Sendable, Equatable {
  public var stream: UInt16
  public var source: Source
  public var beginsWithCheckpoint: Bool
  /// Number of this chunk in its stream, from 0.
  public var sequence: UInt32
  /// Number of its first event in its stream, from 0.
  public var firstEvent: UInt64
  public var events: UInt32
  /// Slots of 32 bytes that it decodes to.
  public var slots: UInt32
  /// Nanoseconds since the trace began.
  public var firstTime: UInt64
  public var lastTime: UInt64
  /// The ring that these events came from, and its slots that were written up to the chunk's end.
  public var ring: UInt64
  public var ringEnd: UInt64
  /// I/O commands fetched.
  public var commands: UInt64
  /// Events that gaps count as lost.
  public var lost: UInt64
  var bodyBytes: UInt32
  var bodyChecksum: UInt32

  static let size = 88

  func encode() -> [UInt8] {
    var writer = ByteWriter()
    writer.put(Format.chunkMagic)
    writer.put(bodyBytes)
    writer.put(stream)
    writer.put(source.rawValue)
    writer.put(UInt8(beginsWithCheckpoint ? 1 : 0))
    writer.put(sequence)
    writer.put(firstEvent)
    writer.put(events)
    writer.put(slots)
    for value in [firstTime, lastTime, ring, ringEnd, commands, lost] { writer.put(value) }
    writer.put(bodyChecksum)
    writer.put(checksum(writer.bytes))
    return writer.bytes
  }

  /// nil when the bytes are not a chunk's header.
  init?(_ bytes: [UInt8]) {
    guard bytes.count == ChunkHeader.size, checksum(Array(bytes[..<84])) == bytes.integer(at: 84, as: UInt32.self),
      bytes.integer(at: 0, as: UInt32.self) == Format.chunkMagic, let source = Source(rawValue: bytes[10])
    else { return nil }
    self.init(
      stream: bytes.integer(at: 8), source: source, beginsWithCheckpoint: bytes[11] & 1 != 0,
      sequence: bytes.integer(at: 12), firstEvent: bytes.integer(at: 16), events: bytes.integer(at: 24),
      slots: bytes.integer(at: 28), firstTime: bytes.integer(at: 32), lastTime: bytes.integer(at: 40),
      ring: bytes.integer(at: 48), ringEnd: bytes.integer(at: 56), commands: bytes.integer(at: 64),
      lost: bytes.integer(at: 72), bodyBytes: bytes.integer(at: 4), bodyChecksum: bytes.integer(at: 80))
    guard events > 0, events <= slots, Int(slots) <= Format.chunkSlotsMax, Int(bodyBytes) <= Format.chunkBytesMax
    else { return nil }
  }

  init(
    stream: UInt16, source: Source, beginsWithCheckpoint: Bool, sequence: UInt32, firstEvent: UInt64, events: UInt32,
    slots: UInt32, firstTime: UInt64, lastTime: UInt64, ring: UInt64, ringEnd: UInt64, commands: UInt64,
    lost: UInt64, bodyBytes: UInt32, bodyChecksum: UInt32
  ) {
    self.stream = stream
    self.source = source
    self.beginsWithCheckpoint = beginsWithCheckpoint
    self.sequence = sequence
    self.firstEvent = firstEvent
    self.events = events
    self.slots = slots
    self.firstTime = firstTime
    self.lastTime = lastTime
    self.ring = ring
    self.ringEnd = ringEnd
    self.commands = commands
    self.lost = lost
    self.bodyBytes = bodyBytes
    self.bodyChecksum = bodyChecksum
  }
}

extension [UInt8] {
  func integer<Value: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as: Value.Type = Value.self) -> Value {
    Value(littleEndian: withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Value.self) })
  }
}
