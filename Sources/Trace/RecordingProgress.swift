import Synchronization

/// The progress of a recording, readable by any thread.
@dynamicMemberLookup
public final class RecordingProgress: Sendable {
  /// A moment of it.
  public struct State: Sendable {
    /// Events in the trace, in whole chunks.
    public var events: UInt64 = 0
    /// Fetched submission queue entries of I/O queues.
    public var commands: UInt64 = 0
    /// Chunks written.
    public var chunks: UInt64 = 0
    /// Bytes written to the file.
    public var bytes: UInt64 = 0
    /// Lost events: dropped by their producers, or not written because the disk was full.
    public var lost: UInt64 = 0
    /// Fill level of the fullest ring at the last drain, 0...1000.
    public var ringFillPermille: UInt64 = 0
    /// Largest fill level of any ring, 0...1000.
    public var ringPeakPermille: UInt64 = 0
    /// Why writing has stopped; nil while it continues.
    public var error: TraceError?
    /// Path of the trace: a temporary name until its first command, if another trace has its name.
    public var place = ""

    mutating func count(_ header: ChunkHeader) {
      events &+= UInt64(header.events)
      commands &+= UInt64(header.commands)
      chunks &+= 1
      bytes &+= header.length
      lost &+= header.lost
    }
  }

  let state = Mutex(State())
  /// Rings that the writer has not adopted yet.
  let newRings = Mutex<[Ring]>([])

  /// A part of it, as it is now.
  public subscript<Value: Sendable>(dynamicMember path: KeyPath<State, Value>) -> Value {
    state.withLock { $0[keyPath: path] }
  }
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
