import Glibc
import Platform
import Trace

/// Records a host's own events into rings in the directory of a trace that is being recorded.
public struct HostRecording: Sendable {
  let directory: String
  let traceID: TraceID

  /// Slots of a host's ring: 2 MiB.
  static let ringSlots: UInt64 = 1 << 16

  public init(directory: String, traceID: TraceID) {
    self.directory = directory
    self.traceID = traceID
  }

  /// Environment variables through which `nvmepf record` passes directory and trace to the command.
  public static let directoryVariable = "NVMEPF_RINGS"
  public static let traceVariable = "NVMEPF_TRACE"

  /// The recording in the environment; nil if there is none.
  public static func fromEnvironment() -> HostRecording? {
    guard let directory = getenv(directoryVariable), let id = getenv(traceVariable),
      let traceID = TraceID(String(cString: id))
    else { return nil }
    return HostRecording(directory: String(cString: directory), traceID: traceID)
  }

  /// Create a separate ring per queue and process, even if a process opens a queue again.
  func makeRing(stream: UInt16) throws(HostError) -> Ring {
    do throws(TraceError) {
      return try Ring(
        creating: "\(directory)/host-\(getpid())-\(stream)-\(Clock.monotonicNs()).ring",
        capacity: HostRecording.ringSlots,
        source: .host, stream: stream, traceID: traceID)
    } catch { throw HostError(error.description) }
  }
}
