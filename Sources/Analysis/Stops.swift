import Events
import Trace

/// How often the controller stopped until it was reset (CSTS.CFS), and why it did the first time.
public struct Stops: Equatable, Sendable {
  public enum Cause: Equatable, Sendable {
    /// The queue in the host's memory could not be reached; its address where the trace tells it.
    case submissionQueue(qid: UInt16, address: UInt64?)
    case completionQueue(qid: UInt16, address: UInt64?)
    /// The host read CSTS.CFS, and no event before says why.
    case unknown
  }

  public internal(set) var count: UInt64 = 1
  /// Of the first, in nanoseconds since the trace began.
  public let firstNs: UInt64
  public let firstCause: Cause
  /// A command was fetched after the last one.
  public internal(set) var hasRecovered = false
}

/// ASQ or ACQ: a register of eight bytes, which hosts write whole or by halves.
struct QueueBase {
  let register: UInt64
  private(set) var address: UInt64?

  init(_ register: UInt64) { self.register = register }

  mutating func take(_ write: Event.RegisterWrite) {
    let offset = write.offset &- register
    guard offset == 0 || offset == 4 else { return }
    let mask: UInt64 = write.width == 8 ? .max : 0xffff_ffff
    address = (address ?? 0) & ~(mask << (offset * 8)) | (write.value & mask) << (offset * 8)
  }
}
