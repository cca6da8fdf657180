import Backends
import Target

/// A namespace as it is at this moment.
public struct NamespaceState: Equatable, Sendable {
  public var nsid: UInt32
  public var bytes: UInt64
  public var blockBytes: UInt32
  /// As a configuration names it.
  public var backend: String
  public var isReadOnly: Bool

  public init(nsid: UInt32, bytes: UInt64, blockBytes: UInt32, backend: String, isReadOnly: Bool) {
    self.nsid = nsid
    self.bytes = bytes
    self.blockBytes = blockBytes
    self.backend = backend
    self.isReadOnly = isReadOnly
  }
}

/// What can be changed of an endpoint while it runs, from any thread.
public protocol ControlledEndpoint: AnyObject, Sendable {
  /// By namespace identifier, ascending.
  var namespaceStates: [NamespaceState] { get }
  /// Attach a namespace; the host hears of it.
  func add(_ configuration: NamespaceConfiguration) throws(EndpointError)
  /// Detach a namespace; what is under way in it completes.
  func remove(nsid: UInt32) throws(EndpointError)
  /// Take the PCI link down, or up again.
  func setLink(isUp: Bool) throws(EndpointError)
}
