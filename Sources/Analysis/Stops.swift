import Events
import Trace

/// How often the controller stopped until it was reset (CSTS.CFS), and the cause of the first stop.
public struct Stops: Equatable, Sendable {
  /// Why a controller stopped.
  public enum Cause: Equatable, Sendable {
    /// The queue in host memory was inaccessible; includes its address if the trace contains it.
    case submissionQueue(qid: UInt16, address: UInt64?)
    case completionQueue(qid: UInt16, address: UInt64?)
    /// The host read CSTS.CFS, and no earlier event shows the cause.
    case unknown
  }

  /// How often it stopped.
  public internal(set) var count: UInt64 = 1
  /// Time of the first stop, in nanoseconds since the trace began.
  public let firstNs: UInt64
  /// The cause of the first stop.
  public let firstCause: Cause
  /// A command was fetched after the last stop.
  public internal(set) var hasRecovered = false
}

/// ASQ or ACQ: an eight-byte register that hosts write whole or in halves.
struct QueueBase {
  let register: UInt64
  private(set) var address: UInt64?

  init(_ register: UInt64) { self.register = register }

  mutating func ingest(_ write: Event.RegisterWrite) {
    let offset = write.offset &- register
    guard offset == 0 || offset == 4 else { return }
    let mask: UInt64 = write.width == 8 ? .max : 0xffff_ffff
    address = (address ?? 0) & ~(mask << (offset * 8)) | (write.value & mask) << (offset * 8)
  }
}
