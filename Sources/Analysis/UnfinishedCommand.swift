/// An I/O command that had not completed when the trace ended.
public struct UnfinishedCommand: Equatable, Sendable {
  public let qid: UInt16
  public let cid: UInt16
  /// Nil if the trace does not contain it.
  public let opcode: UInt8?
  /// From its beginning to the end of the trace, in nanoseconds.
  public let ageNs: UInt64
  /// The first stage without an end in the trace.
  public let stage: Stage

  /// A report lists this many, oldest first.
  static let namedMax = 8

  init(_ command: TrackedCommand, now: UInt64) {
    (qid, cid, opcode, ageNs) = (command.qid, command.cid, command.opcode, now - min(command.begin, now))
    stage =
      if command.posted != 0 {
        .reap
      } else if command.execute.isKnown || command.ready != 0 {
        .complete
      } else if command.execute.begin != .max {
        .execute
      } else if command.map.isKnown {
        .dataIn
      } else {
        .dispatch
      }
  }
}

extension [UnfinishedCommand] {
  /// Keep the oldest, oldest first.
  mutating func keep(_ command: UnfinishedCommand) {
    let place = firstIndex { $0.ageNs < command.ageNs } ?? endIndex
    guard place < UnfinishedCommand.namedMax else { return }
    insert(command, at: place)
    if count > UnfinishedCommand.namedMax { removeLast() }
  }
}
