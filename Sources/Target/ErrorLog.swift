import NVMe

/// The newest failed commands (Base 2.1, 5.1.12.1.2).
public struct ErrorLog: Equatable, Sendable {
  public static let entriesMax = 16
  public static let entryBytes = 64

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
  public internal(set) var count: UInt64 = 0
  /// Newest first.
  public internal(set) var entries: [Entry] = []

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

  public static let logBytesMax = ErrorLog.entriesMax * ErrorLog.entryBytes

  /// Get Log Page (Base 2.1, 5.1.12), the whole page from its beginning into `bytes`.
  /// - Returns: bytes of the page.
  public mutating func getLogPage(_ sqe: SubmissionEntry, into bytes: UnsafeMutableRawBufferPointer) throws(Status)
    -> Int
  {
    guard let page = LogPageID(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10)), page == .errorInformation else {
      throw .invalidLogPage
    }
    let layout = Layout(UnsafeMutableRawBufferPointer(rebasing: bytes[..<Target.logBytesMax]))
    for (index, entry) in errors.entries.enumerated() {
      let at = index * ErrorLog.entryBytes
      layout.put(entry.count, at: at)
      layout.put(entry.qid.rawValue, at: at + 8)
      layout.put(entry.cid.rawValue, at: at + 10)
      layout.put(entry.status.rawValue << 1, at: at + 12)
      layout.put(UInt16.max, at: at + 14)  // the field at fault is not known
      layout.put(entry.lba, at: at + 16)
      layout.put(entry.nsid, at: at + 24)
    }
    // Retain Asynchronous Event: else reading the page lets its event type be reported again.
    if sqe.cdw10 & 1 << 15 == 0 { events.clear(type: 0) }
    return Target.logBytesMax
  }
}
