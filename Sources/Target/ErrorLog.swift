import NVMe

/// The newest failed commands (Base 2.1, 5.1.12.1.2). It outlives resets.
public struct ErrorLog: Equatable, Sendable {
  public static let entriesMax = 16
  static let entryBytes = 64

  public struct Entry: Equatable, Sendable {
    public var count: UInt64
    public var qid: QueueID
    public var cid: CommandID
    public var status: Status
    public var lba: UInt64
    public var nsid: UInt32

    public init(count: UInt64, qid: QueueID, cid: CommandID, status: Status, lba: UInt64, nsid: UInt32) {
      self.count = count
      self.qid = qid
      self.cid = cid
      self.status = status
      self.lba = lba
      self.nsid = nsid
    }
  }

  /// Errors since the controller was made.
  public package(set) var count: UInt64 = 0
  /// Newest first.
  public package(set) var entries: [Entry] = []

  public init(count: UInt64 = 0, entries: [Entry] = []) {
    self.count = count
    self.entries = entries
    self.entries.reserveCapacity(ErrorLog.entriesMax)
  }
}

extension Target {
  /// Remember that a command failed.
  public mutating func noteError(_ sqe: SubmissionEntry, qid: QueueID, status: Status) {
    errors.count += 1
    if errors.entries.count == ErrorLog.entriesMax { errors.entries.removeLast() }
    errors.entries.insert(
      .init(count: errors.count, qid: qid, cid: sqe.cid, status: status, lba: sqe.slba, nsid: sqe.nsid), at: 0)
  }

  /// Remember an error that no command made: its queue and command identifier read FFFFh.
  public mutating func noteError(_ status: Status) {
    var sqe = SubmissionEntry(opcode: 0, cid: CommandID(.max))
    sqe.slba = 0
    noteError(sqe, qid: QueueID(.max), status: status)
  }
}
