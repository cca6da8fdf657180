import Synchronization

/// The progress of a recording, readable by any thread.
public final class RecordingProgress: Sendable {
  /// Events in the trace, in whole chunks.
  public var events: UInt64 { counters.events.load(ordering: .relaxed) }
  /// Fetched submission queue entries of I/O queues.
  public var commands: UInt64 { counters.commands.load(ordering: .relaxed) }
  /// Chunks written.
  public var chunks: UInt64 { counters.chunks.load(ordering: .relaxed) }
  /// Bytes written to the file.
  public var bytes: UInt64 { counters.bytes.load(ordering: .relaxed) }
  /// Lost events: dropped by their producers, or not written because the disk was full.
  public var lost: UInt64 { counters.lost.load(ordering: .relaxed) }
  /// Fill level of the fullest ring at the last drain, 0...1000.
  public var ringFillPermille: UInt64 { counters.ringFillPermille.load(ordering: .relaxed) }

  /// Largest fill level of any ring, 0...1000.
  public var ringPeakPermille: UInt64 { counters.ringPeakPermille.load(ordering: .relaxed) }
  /// Why writing has stopped; nil while it continues.
  public var error: TraceError? { failure.withLock { $0 } }

  /// Path of the trace: a temporary name until its first command, if another trace has its name.
  public var place: String { file.withLock { $0 } }

  struct Counters: ~Copyable {
    let events = Atomic<UInt64>(0)
    let commands = Atomic<UInt64>(0)
    let chunks = Atomic<UInt64>(0)
    let bytes = Atomic<UInt64>(0)
    let lost = Atomic<UInt64>(0)
    let ringFillPermille = Atomic<UInt64>(0)
    let ringPeakPermille = Atomic<UInt64>(0)
  }

  let counters = Counters()
  let failure = Mutex<TraceError?>(nil)
  let file = Mutex("")
  /// Rings that the writer has not adopted yet.
  let newRings = Mutex<[Ring]>([])
}

/// The result of a recording.
public struct RecordingSummary: Sendable {
  public let path: String
  public let events: UInt64
  public let commands: UInt64
  public let chunks: UInt64
  /// Length of the file.
  public let bytes: UInt64
  /// Lost events.
  public let lost: UInt64
  /// The recording holds no command, and the previous trace was kept.
  public let isDiscarded: Bool
  /// Why the recording ended early.
  public let error: TraceError?
  /// Other problems: rings that could not be read.
  public let problems: [TraceError]
}

extension RecordingProgress {
  func count(_ header: ChunkHeader) {
    counters.events.wrappingAdd(UInt64(header.events), ordering: .relaxed)
    counters.commands.wrappingAdd(UInt64(header.commands), ordering: .relaxed)
    counters.chunks.wrappingAdd(1, ordering: .relaxed)
    counters.bytes.wrappingAdd(header.length, ordering: .relaxed)
    counters.lost.wrappingAdd(header.lost, ordering: .relaxed)
  }
}
