import CPlatform
import Endpoint
import Events
import NVMe
import Platform
import Target
import Trace

/// The destination and time source of a recording port's events.
public protocol Recorder: ~Copyable {
  associatedtype Time: TimeSource
  var time: Time { get }
  /// If false, all calls below and their time stamps cost nothing.
  static var isOn: Bool { get }
  /// Whether payloads are recorded completely, not only as digests.
  var keepsPayload: Bool { get }
  mutating func append(_ record: Record)
  mutating func append(_ record: Record, entry: SubmissionEntry)
  mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer)
  /// The digest of a request's data.
  func digest(_ bytes: UnsafeRawBufferPointer, _ direction: Direction, _ request: IORequest) -> UInt32
  /// Whether a chunk should end here and the next one start with a checkpoint.
  func isCheckpointDue(now: UInt64) -> Bool
  /// The engine's current state: a chunk starts here.
  /// - Parameter begin: the tick at which the engine paused for it.
  mutating func checkpoint(_ state: UnsafeRawBufferPointer, since begin: UInt64)
  /// Whether the hash of the engine's state should be recorded here, between two polls.
  func isStateHashDue() -> Bool
  /// The hash of the engine's current state.
  /// - Parameter begin: the tick at which the engine paused for it.
  mutating func note(_ hash: StateHash, since begin: UInt64)
  /// No more events follow.
  mutating func finish()
}

extension Recorder where Self: ~Copyable {
  @inline(__always)
  public func digest(_ bytes: UnsafeRawBufferPointer, _ direction: Direction, _ request: IORequest) -> UInt32 {
    nvmepf_crc32c(0, bytes.baseAddress!, bytes.count)
  }
}

/// Records nothing.
public struct NoRecorder: Recorder, ~Copyable {
  public static var isOn: Bool { false }
  public var keepsPayload: Bool { false }
  public init() {}
  public func append(_ record: Record) {}
  public func append(_ record: Record, entry: SubmissionEntry) {}
  public func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) {}
  public func isCheckpointDue(now: UInt64) -> Bool { false }
  public func checkpoint(_ state: UnsafeRawBufferPointer, since begin: UInt64) {}
  public func isStateHashDue() -> Bool { false }
  public func note(_ hash: StateHash, since begin: UInt64) {}
  public func finish() {}
  public var time: MachineTime { MachineTime() }
}

/// Records into a ring, and decides when a checkpoint or the hash of the state is due.
public struct RingRecorder<Time: TimeSource>: Recorder, ~Copyable {
  public static var isOn: Bool { true }
  public let keepsPayload: Bool
  public let time: Time
  private var producer: RingProducer
  /// Slots between checkpoints: four chunks fit a ring.
  private let slotsPerChunk: UInt64
  private let ticksPerSecond: UInt64
  private var chunkBegin: UInt64 = 0
  private var chunkTime: UInt64 = 0
  /// Slots between two hashes of the state, if that is chosen; and where the next one is due.
  private let stateHashEvery: UInt64?
  private var hashDue: UInt64 = 0
  /// Without a choice: at least so many, and as many as the state has bytes, so that hashing costs less than recording
  /// does, however many queues and commands there are.
  private static var slotsPerHash: UInt64 { 4096 }

  /// - Parameter stateHashEvery: slots after which the pass that fills them ends with a hash of the state; nil if that
  ///   depends on the size of the state.
  public init(
    _ producer: consuming RingProducer, time: Time, keepsPayload: Bool, ticksPerSecond: UInt64,
    stateHashEvery: UInt64? = nil
  ) {
    slotsPerChunk = producer.ring.capacity / 4
    self.producer = producer
    self.time = time
    self.keepsPayload = keepsPayload
    self.ticksPerSecond = ticksPerSecond
    self.stateHashEvery = stateHashEvery
  }

  @inline(__always)
  public mutating func append(_ record: Record) { producer.append(record) }

  @inline(__always)
  public mutating func append(_ record: Record, entry: SubmissionEntry) { producer.append(record, entry: entry) }

  public mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) { producer.append(record, bytes) }

  /// Whether enough events were recorded since the last checkpoint, or any within a second.
  @inline(__always)
  public func isCheckpointDue(now: UInt64) -> Bool {
    let slots = producer.position &- chunkBegin
    return slots >= slotsPerChunk || (now &- chunkTime >= ticksPerSecond && slots > 0) || producer.isLosingEvents
  }

  public mutating func checkpoint(_ state: UnsafeRawBufferPointer, since begin: UInt64) {
    let now = time.ticks()
    let record = Event.Checkpoint(time: begin, flags: .bytes, length: UInt32(state.count)).record
    if producer.isLosingEvents {
      producer.resume(time: begin, checkpoint: record, state)
      if producer.isLosingEvents { return }
    } else {
      producer.append(record, state)
    }
    producer.append(
      Event.Clock(time: time.ticks(), monotonic: time.monotonicNs(), realtime: time.realtimeNs()).record)
    let hashing = time.ticks()
    note(StateHash(of: state), since: hashing)
    chunkBegin = producer.position
    chunkTime = now
  }

  @inline(__always)
  public func isStateHashDue() -> Bool { producer.position >= hashDue && !producer.isLosingEvents }

  public mutating func note(_ hash: StateHash, since begin: UInt64) {
    let now = time.ticks()
    let span = UInt32(truncatingIfNeeded: min(now &- begin, UInt64(UInt32.max)))
    producer.append(
      Event.StateHash(time: now, hash: hash.value, length: UInt32(hash.length), span: span).record)
    let length = UInt64(hash.length)
    hashDue = producer.position &+ (stateHashEvery ?? max(RingRecorder.slotsPerHash, length))
  }

  public mutating func finish() { producer.finish(time: time.ticks()) }
}
