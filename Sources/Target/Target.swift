import NVMe

/// What stands behind the controller's front end: the subsystem with its namespaces, and the state that admin commands
/// read and change. It executes what needs no queue and no transfer; the engine does the rest.
public struct Target: ~Copyable {
  public let subsystem: Subsystem
  public internal(set) var features: Features
  public internal(set) var events = AsynchronousEvents()
  public internal(set) var errors = ErrorLog()
  /// By namespace identifier; a namespace with `nsid` 0 is a free place.
  private let namespaces: UnsafeMutablePointer<Namespace>

  public init(_ subsystem: Subsystem) {
    precondition(subsystem.isValid)
    self.subsystem = subsystem
    features = Features(vectors: subsystem.vectors)
    namespaces = .allocate(capacity: Int(Subsystem.namespacesMax) + 1)
    UnsafeMutableRawPointer(namespaces).initializeMemory(
      as: UInt8.self, repeating: 0, count: (Int(Subsystem.namespacesMax) + 1) * MemoryLayout<Namespace>.stride)
    for namespace in subsystem.namespaces { namespaces[Int(namespace.nsid)] = namespace }
  }

  deinit { namespaces.deallocate() }

  /// The namespace of that identifier, nil where none is attached.
  public func namespace(_ nsid: UInt32) -> Namespace? {
    guard nsid >= 1, nsid <= Subsystem.namespacesMax, namespaces[Int(nsid)].nsid == nsid else { return nil }
    return namespaces[Int(nsid)]
  }

  /// Back to the state after a controller reset (Base 2.1, 3.7.2): features and events are forgotten, the error log
  /// stays.
  public mutating func reset() {
    features = Features(vectors: subsystem.vectors)
    events = AsynchronousEvents()
  }
}
