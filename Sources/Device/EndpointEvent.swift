import NVMe
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
struct Unreached: BitwiseCopyable {
  /// What it could not do with the queue, as `cannot fetch from submission queue`.
  let what: StaticString
  let qid: QueueID
  let address: PCIAddress
  /// A fault pretends that it is inaccessible.
  var isInjected = false

  /// - Parameter isGone: the client has truncated the file of its memory.
  func reason(isGone: Bool) -> String {
    if isInjected { return "\(what) queue \(qid.rawValue) (--inject controller-fatal)" }
    return "\(what) \(qid.rawValue): host memory at \(address.rawValue.hex) "
      + (isGone
        ? "is gone, because the client truncated its file"
        : "is not accessible; does the client share its memory (QEMU: memory-backend-memfd,share=on)?")
  }
}
