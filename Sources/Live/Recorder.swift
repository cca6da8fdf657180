import CPlatform
import Glibc
import NVMe
import Trace

/// Where the live port's events go.
protocol Recorder: ~Copyable {
  /// Off, everything below and the time stamps that it would need cost nothing.
  static var isOn: Bool { get }
  /// Whether payloads are kept whole, not only as digests.
  var keepsPayload: Bool { get }
  mutating func append(_ record: Record)
  mutating func append(_ record: Record, entry: SubmissionEntry)
  mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer)
  /// Whether a chunk of the trace should end here and the next begin with a checkpoint.
  func isCheckpointDue(now: UInt64) -> Bool
  /// The engine's state as it is now: a chunk begins here.
  mutating func checkpoint(_ state: UnsafeRawBufferPointer)
  /// Nothing follows.
  mutating func finish()
}

/// Records nothing.
struct NoRecorder: Recorder, ~Copyable {
  static var isOn: Bool { false }
  var keepsPayload: Bool { false }
  func append(_ record: Record) {}
  func append(_ record: Record, entry: SubmissionEntry) {}
  func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) {}
  func isCheckpointDue(now: UInt64) -> Bool { false }
  func checkpoint(_ state: UnsafeRawBufferPointer) {}
  func finish() {}
}

/// Records into a ring, and says when a checkpoint is due.
struct RingRecorder: Recorder, ~Copyable {
  static var isOn: Bool { true }
  let keepsPayload: Bool
  private(set) var producer: RingProducer
  /// Slots between checkpoints: four chunks fit a ring.
  private let slotsPerChunk: UInt64
  private let ticksPerSecond: UInt64
  private var chunkBegin: UInt64 = 0
  private var chunkTime: UInt64 = 0

  init(_ producer: consuming RingProducer, keepsPayload: Bool, ticksPerSecond: UInt64) {
    slotsPerChunk = producer.ring.capacity / 4
    self.producer = producer
    self.keepsPayload = keepsPayload
    self.ticksPerSecond = ticksPerSecond
  }

  @inline(__always)
  mutating func append(_ record: Record) { producer.append(record) }

  @inline(__always)
  mutating func append(_ record: Record, entry: SubmissionEntry) { producer.append(record, entry: entry) }

  mutating func append(_ record: Record, _ bytes: UnsafeRawBufferPointer) { producer.append(record, bytes) }

  /// Whether enough was recorded, or a second has passed with anything recorded, since the last checkpoint.
  @inline(__always)
  func isCheckpointDue(now: UInt64) -> Bool {
    let slots = producer.position &- chunkBegin
    return slots >= slotsPerChunk || (now &- chunkTime >= ticksPerSecond && slots > 0) || producer.isDropping
  }

  mutating func checkpoint(_ state: UnsafeRawBufferPointer) {
    let now = nvmepf_ticks()
    let record = Record(time: now, kind: .checkpoint, flags: EventFlag.bytes, b: UInt64(state.count))
    if producer.isDropping {
      producer.resume(time: now, checkpoint: record, state)
      if producer.isDropping { return }
    } else {
      producer.append(record, state)
    }
    producer.append(
      Record(time: nvmepf_ticks(), kind: .clock, a: Clock.monotonicNs(), b: Clock.realtimeNs()))
    chunkBegin = producer.position
    chunkTime = now
  }

  mutating func finish() { producer.finish(time: nvmepf_ticks()) }
}
