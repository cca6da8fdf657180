import Text

/// What happens to an endpoint, seldom enough to be told.
public enum EndpointEvent: Equatable, Sendable {
  /// CSTS.RDY rose, or fell by a reset.
  case enabled, disabled
  /// CSTS.CFS rose: the controller stops until it is reset.
  case fatal(reason: String)
  /// Submission queues that exist, the admin queue included.
  case queues(count: Int)
  case namespaceAttached(nsid: UInt32, backend: String)
  case namespaceDetached(nsid: UInt32)
  case link(isUp: Bool)
  /// Memory of a namespace is being prepared, in bytes.
  case prefaulting(nsid: UInt32, done: Int, of: Int)
}

/// What of the host's memory the engine could not reach, and must.
enum Unreached {
  case submissionQueue(qid: UInt16, address: UInt64)
  case completionQueue(qid: UInt16, address: UInt64)

  /// - Parameter isGone: the client has truncated the file behind its memory.
  func reason(isGone: Bool) -> String {
    let (what, address) =
      switch self {
      case .submissionQueue(let qid, let address): ("cannot fetch from submission queue \(qid)", address)
      case .completionQueue(let qid, let address): ("cannot write to completion queue \(qid)", address)
      }
    let place = "host memory at \(address.hex)"
    guard !isGone else { return "\(what): \(place) is gone, since the client truncated the file behind it" }
    return "\(what): \(place) is not reachable; does the client share its memory "
      + "(QEMU: memory-backend-memfd,share=on)?"
  }
}
