import Backends
import Target

/// The current state of a namespace.
public struct NamespaceState: Codable, Equatable, Sendable {
  public var nsid: UInt32
  /// Size of the namespace.
  public var bytes: UInt64
  /// Size of a logical block.
  public var blockBytes: UInt32
  /// As in a configuration.
  public var backend: String
  public var isReadOnly: Bool

  public init(nsid: UInt32, bytes: UInt64, blockBytes: UInt32, backend: String, isReadOnly: Bool) {
    (self.nsid, self.bytes, self.blockBytes) = (nsid, bytes, blockBytes)
    (self.backend, self.isReadOnly) = (backend, isReadOnly)
  }
}

/// Changes to a running endpoint, callable from any thread.
public protocol ControlledEndpoint: AnyObject, Sendable {
  /// By namespace identifier, ascending.
  var namespaceStates: [NamespaceState] { get }
  /// Attach a namespace and notify the host.
  func add(_ configuration: NamespaceConfiguration) throws(EndpointError)
  /// Detach a namespace; its commands in flight complete.
  func remove(nsid: UInt32) throws(EndpointError)
  /// Take the PCI link down, or up again.
  func setLink(isUp: Bool) throws(EndpointError)
}
