import Text

/// Rare events of an endpoint, for the log.
public enum EndpointEvent: Equatable, Sendable {
  /// CSTS.RDY was set, or cleared by a reset.
  case enabled, disabled
  /// CSTS.CFS was set: the controller stops until it is reset.
  case fatal(reason: String)
  /// Existing submission queues, including the admin queue.
  case queues(count: Int)
  case namespaceAttached(nsid: UInt32, backend: String)
  case namespaceDetached(nsid: UInt32)
  case link(isUp: Bool)
  /// Memory of a namespace is being allocated, in bytes.
  case prefaulting(nsid: UInt32, done: Int, of: Int)
}

/// Host memory that the engine needed but could not access.
enum Unreached {
  case submissionQueue(qid: UInt16, address: UInt64)
  case completionQueue(qid: UInt16, address: UInt64)

  /// - Parameter isGone: the client has truncated the file of its memory.
  func reason(isGone: Bool) -> String {
    let (what, address) =
      switch self {
      case .submissionQueue(let qid, let address): ("cannot fetch from submission queue \(qid)", address)
      case .completionQueue(let qid, let address): ("cannot write to completion queue \(qid)", address)
      }
    let place = "host memory at \(address.hex)"
    guard !isGone else { return "\(what): \(place) is gone, because the client truncated its file" }
    return "\(what): \(place) is not accessible; does the client share its memory "
      + "(QEMU: memory-backend-memfd,share=on)?"
  }
}
