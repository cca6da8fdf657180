import Synchronization

/// What a recording has done so far; any thread may look.
public final class RecordingProgress: Sendable {
  /// In the trace, in whole chunks.
  public var events: UInt64 { counters.events.load(ordering: .relaxed) }
  /// Submission queue entries of I/O queues that were fetched.
  public var commands: UInt64 { counters.commands.load(ordering: .relaxed) }
  public var chunks: UInt64 { counters.chunks.load(ordering: .relaxed) }
  /// Written to the file.
  public var bytes: UInt64 { counters.bytes.load(ordering: .relaxed) }
  /// Events that are missing: dropped by their producers, or for want of disk.
  public var lost: UInt64 { counters.lost.load(ordering: .relaxed) }
  /// How full the fullest ring was at the last look, 0...1000.
  public var ringFillPermille: UInt64 { counters.ringFillPermille.load(ordering: .relaxed) }

  /// How full any ring ever was at a look, 0...1000.
  public var ringPeakPermille: UInt64 { counters.ringPeakPermille.load(ordering: .relaxed) }
  /// Why nothing is written any more, as soon as that is so.
  public var error: TraceError? { failure.withLock { $0 } }

  /// Where the trace is: beside its name until it has a command, where another trace has that name.
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
  /// Rings that the writer has not taken on yet.
  let newRings = Mutex<[Ring]>([])
}

/// What became of a recording.
public struct RecordingSummary: Sendable {
  public let path: String
  public let events: UInt64
  public let commands: UInt64
  public let chunks: UInt64
  /// Length of the file.
  public let bytes: UInt64
  public let lost: UInt64
  /// The recording holds no command, and the previous trace was kept instead.
  public let isDiscarded: Bool
  /// Why the recording ended early.
  public let error: TraceError?
  /// What else went wrong: rings that could not be read.
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
