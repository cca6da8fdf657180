/// What was written: a number that grows with every command, and the word that the block is filled with.
struct Version {
  var tag: UInt64 = 0
  var value: UInt64 = 0
}

/// What a block may hold: the newest version that must have survived, and all that was written after it.
struct BlockHistory {
  private(set) var durable = Version()
  private(set) var acknowledged: UInt64 = 0
  private var newer: [Version] = []
  /// The newest deallocation: it may have left zeros, or nothing.
  private var deallocated: UInt64 = 0

  init() {}

  /// The block holds this, and nothing is known of before.
  init(found version: Version) {
    durable = version
    acknowledged = version.tag
  }

  mutating func write(_ version: Version) { newer.append(version) }

  mutating func deallocate(_ tag: UInt64) { deallocated = tag }

  mutating func acknowledge(_ tag: UInt64, isDurable: Bool) {
    acknowledged = max(acknowledged, tag)
    if isDurable { settle(tag) }
  }

  /// A version must survive, and with it everything older need not be kept apart any more.
  mutating func settle(_ tag: UInt64) {
    guard tag > durable.tag, let version = newer.first(where: { $0.tag == tag }) else { return }
    durable = version
    newer.removeAll { $0.tag <= tag }
  }

  /// - Returns: the newest version that a block with this value can be; nil where it must not hold it.
  func tag(of value: UInt64) -> UInt64? {
    if value == 0, deallocated > durable.tag { return deallocated }
    if let version = newer.last(where: { $0.value == value }) { return version.tag }
    return value == durable.value ? durable.tag : nil
  }
}
