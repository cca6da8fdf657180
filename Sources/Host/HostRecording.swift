import Glibc
import Platform
import Trace

/// Where a host's own events go: into rings of the trace that is being recorded, for its recorder to find.
public struct HostRecording: Sendable {
  let directory: String
  let traceID: TraceID

  /// Slots of a host's ring: 2 MiB.
  static let ringSlots: UInt64 = 1 << 16

  public init(directory: String, traceID: TraceID) {
    self.directory = directory
    self.traceID = traceID
  }

  /// Environment variables through which `nvmepf record` tells the command that it runs.
  public static let directoryVariable = "NVMEPF_RINGS"
  public static let traceVariable = "NVMEPF_TRACE"

  /// What the environment says; nil where nothing is being recorded.
  public static func fromEnvironment() -> HostRecording? {
    guard let directory = getenv(directoryVariable), let id = getenv(traceVariable),
      let traceID = TraceID(String(cString: id))
    else { return nil }
    return HostRecording(directory: String(cString: directory), traceID: traceID)
  }

  /// A ring of its own for each queue of each process, even where one process opens a queue again.
  func makeRing(stream: UInt16) throws(HostError) -> Ring {
    do throws(TraceError) {
      return try Ring(
        creating: "\(directory)/host-\(getpid())-\(stream)-\(Clock.monotonicNs()).ring",
        capacity: HostRecording.ringSlots,
        source: .host, stream: stream, traceID: traceID)
    } catch { throw HostError(error.description) }
  }
}
