import CPlatform
import Events

/// Identifies a stream of a trace: the events of one producer.
public struct StreamID: Hashable, Sendable {
  public let source: Source
  public let stream: UInt16

  public init(source: Source, stream: UInt16) { (self.source, self.stream) = (source, stream) }
}

/// The header of a chunk, consecutive events of one stream: its fields as they stand in the file.
public struct ChunkHeader: BitwiseCopyable, Equatable, Sendable {
  private var magic = ChunkHeader.magic
  private var stream: UInt16
  private var source: UInt8
  private var flags: UInt8 = 0
  /// Number of earlier chunks of this stream.
  public var sequence: UInt64
  /// Number of earlier events of this stream.
  public var firstEvent: UInt64
  /// Number of events.
  public var events: UInt32 = 0
  /// Slots of 32 bytes of the events, including tails.
  public var slots: UInt32 = 0
  /// Times of the first and last event, nanoseconds.
  public var firstTime: UInt64 = 0
  public var lastTime: UInt64 = 0
  /// Slots written to the ring up to the end of this chunk: earlier content of a ring is already in the trace.
  public var ringEnd: UInt64
  /// Sum of the events lost in its `gap` events.
  public var lost: UInt64 = 0
  /// Number of its `fetch` events of I/O queues.
  public var commands: UInt32 = 0
  private var queuesLow: UInt32 = 0
  private var queuesHigh: UInt32 = 0
  var bodyLength: UInt32 = 0
  var bodyCRC: UInt32 = 0
  /// Of all fields above, where they stand in the file.
  private var crc: UInt32 = 0

  /// The position of a chunk; the fields that depend on its events are set later.
  init(_ id: StreamID, sequence: UInt64, firstEvent: UInt64, ringEnd: UInt64) {
    (source, stream) = (id.source.rawValue, id.stream)
    (self.sequence, self.firstEvent, self.ringEnd) = (sequence, firstEvent, ringEnd)
  }

  public internal(set) var id: StreamID {
    get { StreamID(source: Source(rawValue: source)!, stream: stream) }
    set { (source, stream) = (newValue.source.rawValue, newValue.stream) }
  }

  /// The first event is a checkpoint: a replay can start here.
  public var beginsWithCheckpoint: Bool {
    get { flags & 1 != 0 }
    set { flags = newValue ? 1 : 0 }
  }

  /// Bit N mod 64 is set if an event has a `qid` or `cqid` of N; 0 if none has, or an earlier version wrote the chunk.
  public internal(set) var queues: UInt64 {
    get { UInt64(queuesLow) | UInt64(queuesHigh) << 32 }
    set { (queuesLow, queuesHigh) = (UInt32(truncatingIfNeeded: newValue), UInt32(newValue >> 32)) }
  }

  /// Number of the stream's events up to the end of this chunk.
  var eventsEnd: UInt64 { firstEvent + UInt64(events) }

  /// Bytes in the file.
  public var length: UInt64 { UInt64(Self.size) + UInt64(bodyLength) }

  static let magic: UInt32 = 0x4350_564e  // "NVPC"
  static let size = 88
  private static let crcOffset = 84
  static let bodyMax = 1 << 26
  /// Maximum slots of a chunk's events: 16 MiB.
  static let slotsMax = 1 << 19
}

extension ChunkHeader {
  func store(to bytes: UnsafeMutableRawPointer) {
    bytes.storeBytes(of: self, as: ChunkHeader.self)
    bytes.storeBytes(
      of: nvmepf_crc32c(0, bytes, Self.crcOffset), toByteOffset: Self.crcOffset, as: UInt32.self)
  }

  /// - Returns: nil if the bytes are not a chunk header or fail its checksum.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.size else { return nil }
    self = bytes.loadUnaligned(as: ChunkHeader.self)
    guard magic == Self.magic, crc == nvmepf_crc32c(0, bytes.baseAddress, Self.crcOffset),
      Source(rawValue: source) != nil, events > 0, events <= slots, slots <= Self.slotsMax,
      bodyLength <= Self.bodyMax, bodyLength % 8 == 0, firstEvent <= .max - UInt64(events)
    else { return nil }
    crc = 0
  }
}
