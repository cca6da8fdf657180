import NVMe

/// The target behind the controller's front end: the subsystem with its namespaces, and the state that commands read
/// and change. It executes everything that needs no queue and no transfer; the engine does the rest.
public struct Target: ~Copyable {
  public let subsystem: Subsystem
  public package(set) var features: Features
  public package(set) var events = AsynchronousEvents()
  public package(set) var errors = ErrorLog()
  public var health = Health()
  public package(set) var namespaces = NamespaceTable()
  /// Namespaces added or removed since the host read the list, ascending.
  public package(set) var changedNamespaces: [UInt32] = []
  public package(set) var reservations = Reservations()

  public init(_ subsystem: Subsystem) {
    precondition(subsystem.isValid)
    self.subsystem = subsystem
    features = Features(subsystem)
  }

  /// The namespace with that identifier; nil if none is attached.
  public func namespace(_ nsid: UInt32) -> Namespace? { namespaces[nsid] }

  /// Return to the state after a controller reset (Base 2.1, 3.7.2): clear features and events; keep the logs, write
  /// protection and reservations.
  public mutating func reset() {
    features = Features(subsystem)
    events = AsynchronousEvents()
    changedNamespaces = []
  }

  // MARK: Namespaces

  /// Add a namespace. Its identifier must be free.
  public mutating func attach(_ namespace: Namespace) {
    precondition(namespace.isValid && namespaces[namespace.nsid] == nil)
    namespaces.insert(namespace)
    noteChange(namespace.nsid)
  }

  public mutating func detach(_ nsid: UInt32) {
    namespaces.remove(nsid)
    reservations.forget(nsid)
    features.forget(nsid)
    noteChange(nsid)
  }

  private mutating func noteChange(_ nsid: UInt32) {
    let place = changedNamespaces.firstIndex { $0 >= nsid } ?? changedNamespaces.endIndex
    guard place == changedNamespaces.endIndex || changedNamespaces[place] != nsid else { return }
    changedNamespaces.insert(nsid, at: place)
  }

  /// Clear the list of changes: a controller's initial namespaces are not changes.
  public mutating func settleNamespaces() { changedNamespaces = [] }
}

/// The attached namespaces, in order of identifier.
public struct NamespaceTable: ~Copyable {
  /// A namespace with `nsid` 0 is an unused entry.
  private let table: UnsafeMutablePointer<Namespace>
  /// By namespace identifier, for lookups by every command.
  package var places: UnsafePointer<Namespace> { UnsafePointer(table) }
  public private(set) var count = 0

  init() {
    let places = Int(Subsystem.namespacesLimit) + 1
    table = .allocate(capacity: places)
    table.initialize(repeating: Namespace(nsid: 0, blocks: 0, blockShift: 9), count: places)
  }

  deinit { table.deallocate() }

  public subscript(nsid: UInt32) -> Namespace? {
    guard nsid >= 1, nsid <= Subsystem.namespacesLimit, table[Int(nsid)].nsid == nsid else { return nil }
    return table[Int(nsid)]
  }

  /// The first namespace with an identifier of at least `nsid`.
  public func first(from nsid: UInt32) -> Namespace? {
    var next = max(nsid, 1)
    while next <= Subsystem.namespacesLimit {
      if table[Int(next)].nsid == next { return table[Int(next)] }
      next += 1
    }
    return nil
  }

  package mutating func insert(_ namespace: Namespace) {
    table[Int(namespace.nsid)] = namespace
    count += 1
  }

  package mutating func remove(_ nsid: UInt32) {
    guard self[nsid] != nil else { return }
    table[Int(nsid)].nsid = 0
    count -= 1
  }

  mutating func setWriteProtected(_ nsid: UInt32, _ value: Bool) {
    guard self[nsid] != nil else { return }
    table[Int(nsid)].isWriteProtected = value
  }
}
