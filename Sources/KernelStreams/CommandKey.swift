import Events

/// What a command in flight is called: its submission queue and its command identifier.
public struct CommandKey: Hashable, Sendable {
  private let rawValue: UInt32

  public init(qid: UInt16, cid: UInt16) { rawValue = UInt32(qid) << 16 | UInt32(cid) }

  public var qid: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
}

extension CommandEvent {
  public var key: CommandKey { CommandKey(qid: qid, cid: cid) }
}

extension Event.Completion {
  /// The command's, whatever the entry says: the driver's queues of a pair have one number.
  public var queueKey: CommandKey { CommandKey(qid: cqid, cid: cid) }
}

/// Fetches that failed: no command came, so that the identifier is nobody's, and the descriptor that the driver then drops
/// is no command's.
public struct FailedFetches {
  private var keys: Set<CommandKey> = []
  private static let countMax = 1 << 17

  public init() {}

  /// - Returns: whether it is one that failed.
  public mutating func take(_ fetch: Event.Fetch) -> Bool {
    guard fetch.flags.contains(.failed) else {
      keys.remove(fetch.key)
      return false
    }
    if keys.count >= FailedFetches.countMax { keys = [] }
    keys.insert(fetch.key)
    return true
  }

  /// - Returns: whether a fetch that failed is dropped, not a command.
  public mutating func take(_ dropped: Event.Dropped) -> Bool {
    keys.remove(dropped.key) != nil || dropped.flags.contains(.failed)
  }
}
