import Events

/// Identifies a command in flight: its submission queue and its command identifier.
public struct CommandKey: Hashable, Sendable {
  private let rawValue: UInt32

  public init(qid: UInt16, cid: UInt16) { rawValue = UInt32(qid) << 16 | UInt32(cid) }

  public var qid: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
  public var cid: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
}

extension CommandEvent {
  public var key: CommandKey { CommandKey(qid: qid, cid: cid) }
}

extension Event.Completion {
  /// The command's own queue, whatever the entry contains: the driver's queues of a pair share one number.
  public var queueKey: CommandKey { CommandKey(qid: cqid, cid: cid) }
}

/// Failed fetches: no command arrived, so the identifier is invalid, and the descriptor that the driver then drops
/// belongs to no command.
public struct FailedFetches {
  private var keys: Set<CommandKey> = []
  private static let countMax = 1 << 17

  public init() {}

  /// - Returns: whether the fetch failed.
  public mutating func ingest(_ fetch: Event.Fetch) -> Bool {
    guard fetch.flags.contains(.failed) else {
      keys.remove(fetch.key)
      return false
    }
    if keys.count >= FailedFetches.countMax { keys = [] }
    keys.insert(fetch.key)
    return true
  }

  /// - Returns: whether the event drops a failed fetch, not a command.
  public mutating func ingest(_ dropped: Event.Dropped) -> Bool {
    keys.remove(dropped.key) != nil || dropped.flags.contains(.failed)
  }
}
