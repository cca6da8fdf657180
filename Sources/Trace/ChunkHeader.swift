import CPlatform
import Events

/// Identifies a stream of a trace: the events of one producer.
public struct StreamID: Hashable, Sendable {
  public let source: Source
  public let stream: UInt16

  public init(source: Source, stream: UInt16) { (self.source, self.stream) = (source, stream) }
}

/// The header of a chunk: consecutive events of one stream.
public struct ChunkHeader: Equatable, Sendable {
  public var id: StreamID
  /// The first event is a checkpoint: a replay can start here.
  public var beginsWithCheckpoint: Bool
  /// Number of earlier chunks of this stream.
  public var sequence: UInt64
  /// Number of earlier events of this stream.
  public var firstEvent: UInt64
  /// Number of events.
  public var events: UInt32
  /// Slots of 32 bytes of the events, including tails.
  public var slots: UInt32
  /// Times of the first and last event, nanoseconds.
  public var firstTime: UInt64
  public var lastTime: UInt64
  /// Slots written to the ring up to the end of this chunk: earlier content of a ring is already in the trace.
  public var ringEnd: UInt64
  /// Sum of the events lost in its `gap` events.
  public var lost: UInt64
  /// Number of its `fetch` events of I/O queues.
  public var commands: UInt32
  var bodyLength: UInt32 = 0
  var bodyCRC: UInt32 = 0

  /// The position of a chunk; the fields that depend on its events are set later.
  init(_ id: StreamID, sequence: UInt64, firstEvent: UInt64, ringEnd: UInt64) {
    self.id = id
    (self.sequence, self.firstEvent, self.ringEnd) = (sequence, firstEvent, ringEnd)
    beginsWithCheckpoint = false
    (events, slots, commands) = (0, 0, 0)
    (firstTime, lastTime, lost) = (0, 0, 0)
  }

  /// Number of the stream's events up to the end of this chunk.
  var eventsEnd: UInt64 { firstEvent + UInt64(events) }

  /// Bytes in the file.
  public var length: UInt64 { UInt64(Self.size) + UInt64(bodyLength) }

  static let magic: UInt32 = 0x4350_564e  // "NVPC"
  static let size = 88
  static let bodyMax = 1 << 26
  /// Maximum slots of a chunk's events: 16 MiB.
  static let slotsMax = 1 << 19
}

extension ChunkHeader {
  func store(to bytes: UnsafeMutableRawPointer) {
    bytes.storeBytes(of: Self.magic, toByteOffset: 0, as: UInt32.self)
    bytes.storeBytes(of: id.stream, toByteOffset: 4, as: UInt16.self)
    bytes.storeBytes(of: id.source.rawValue, toByteOffset: 6, as: UInt8.self)
    bytes.storeBytes(of: beginsWithCheckpoint ? 1 : 0, toByteOffset: 7, as: UInt8.self)
    bytes.storeBytes(of: sequence, toByteOffset: 8, as: UInt64.self)
    bytes.storeBytes(of: firstEvent, toByteOffset: 16, as: UInt64.self)
    bytes.storeBytes(of: events, toByteOffset: 24, as: UInt32.self)
    bytes.storeBytes(of: slots, toByteOffset: 28, as: UInt32.self)
    bytes.storeBytes(of: firstTime, toByteOffset: 32, as: UInt64.self)
    bytes.storeBytes(of: lastTime, toByteOffset: 40, as: UInt64.self)
    bytes.storeBytes(of: ringEnd, toByteOffset: 48, as: UInt64.self)
    bytes.storeBytes(of: lost, toByteOffset: 56, as: UInt64.self)
    bytes.storeBytes(of: commands, toByteOffset: 64, as: UInt32.self)
    bytes.storeBytes(of: 0, toByteOffset: 68, as: UInt64.self)
    bytes.storeBytes(of: bodyLength, toByteOffset: 76, as: UInt32.self)
    bytes.storeBytes(of: bodyCRC, toByteOffset: 80, as: UInt32.self)
    bytes.storeBytes(of: nvmepf_crc32c(0, bytes, 84), toByteOffset: 84, as: UInt32.self)
  }

  /// - Returns: nil if the bytes are not a chunk header or fail its checksum.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.size else { return nil }
    var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.size)))
    do throws(Malformed) {
      guard try reader.read(UInt32.self) == Self.magic,
        bytes.loadUnaligned(fromByteOffset: 84, as: UInt32.self) == nvmepf_crc32c(0, bytes.baseAddress, 84)
      else { return nil }
      let stream = try reader.read(UInt16.self)
      guard let source = Source(rawValue: try reader.read()) else { return nil }
      id = StreamID(source: source, stream: stream)
      beginsWithCheckpoint = try reader.read(UInt8.self) & 1 != 0
      sequence = try reader.read()
      firstEvent = try reader.read()
      events = try reader.read()
      slots = try reader.read()
      firstTime = try reader.read()
      lastTime = try reader.read()
      ringEnd = try reader.read()
      lost = try reader.read()
      commands = try reader.read()
      _ = try reader.read(UInt64.self)
      bodyLength = try reader.read()
      bodyCRC = try reader.read()
    } catch {
      return nil
    }
    guard events > 0, events <= slots, slots <= Self.slotsMax, bodyLength <= Self.bodyMax, bodyLength % 8 == 0,
      firstEvent <= .max - UInt64(events)
    else { return nil }
  }
}
