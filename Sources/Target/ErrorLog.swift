import NVMe

/// The newest failed commands (Base 2.1, 5.1.12.1.2). Resets do not clear it.
public struct ErrorLog: Equatable, Sendable {
  /// Number of entries, as ELPE reports.
  public static let entriesMax = 16
  static let entryBytes = 64

  /// An entry of the Error Information log page (Base 2.1, 5.1.12.1.2).
  public struct Entry: Equatable, Sendable {
    public var count: UInt64 = 0
    public var qid = QueueID.admin
    public var cid = CommandID(0)
    public var opcode: UInt8 = 0
    public var status = Status.success
    /// The field in error: byte of the command 7:0, bit 10:8; FFFFh if unknown.
    public var location: UInt16 = 0
    /// The command's first logical block; 0 if it has none.
    public var lba: UInt64 = 0
    /// The command's namespace; 0 if it names none.
    public var nsid: UInt32 = 0

    public init() {}
  }

  static let unknownLocation = UInt16.max

  /// The field for a status that always concerns the same one.
  static func location(_ status: Status, _ sqe: SubmissionEntry) -> UInt16 {
    let (nsid, prp1, prp2, cdw10, cdw11): (UInt16, UInt16, UInt16, UInt16, UInt16) = (4, 24, 32, 40, 44)
    return switch status.code {
    case Status.invalidOpcode.code: 0
    case Status.commandIDConflict.code: 2
    case Status.invalidNamespaceOrFormat.code, Status.featureNotNamespaceSpecific.code: nsid
    // An error within a list is in the list.
    case Status.prpOffsetInvalid.code:
      sqe.prp1 & 3 != 0 ? prp1 : sqe.prp2 & 7 != 0 ? prp2 : unknownLocation
    // A command's ranges are in its data.
    case Status.lbaOutOfRange.code:
      [IOOpcode.copy.rawValue, IOOpcode.datasetManagement.rawValue].contains(sqe.opcode) ? unknownLocation : cdw10
    // Creating a submission queue names two queues.
    case Status.invalidQueueIdentifier.code:
      sqe.opcode == AdminOpcode.createIOSubmissionQueue.rawValue ? unknownLocation : cdw10
    case Status.invalidQueueDeletion.code, Status.invalidLogPage.code,
      Status.featureNotChangeable.code:
      cdw10
    case Status.invalidQueueSize.code: cdw10 + 2
    case Status.featureIdentifierNotSaveable.code: cdw10 + 3 | 7 << 8
    case Status.completionQueueInvalid.code, Status.invalidInterruptVector.code: cdw11 + 2
    default: unknownLocation
    }
  }

  /// The namespace and logical block of a command. An unknown command has neither.
  static func place(of sqe: SubmissionEntry, qid: QueueID) -> (nsid: UInt32, lba: UInt64) {
    guard qid == .admin else {
      guard let opcode = IOOpcode(rawValue: sqe.opcode) else { return (0, 0) }
      return (sqe.nsid, opcode.hasStartingBlock ? sqe.slba : 0)
    }
    let namesNamespace =
      switch AdminOpcode(rawValue: sqe.opcode) {
      case .identify: IdentifyCNS(rawValue: UInt8(truncatingIfNeeded: sqe.cdw10))?.namesNamespace ?? false
      case .some(let opcode): opcode.namesNamespace
      case nil: false
      }
    return (namesNamespace ? sqe.nsid : 0, 0)
  }

  /// Number of errors since the controller was created.
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
  /// Log a failed command.
  public mutating func noteError(_ sqe: SubmissionEntry, qid: QueueID, status: Status) {
    errors.count &+= 1
    if errors.entries.count == ErrorLog.entriesMax { errors.entries.removeLast() }
    var entry = ErrorLog.Entry()
    (entry.count, entry.qid, entry.cid, entry.opcode) = (errors.count, qid, sqe.cid, sqe.opcode)
    (entry.status, entry.location) = (status, ErrorLog.location(status, sqe))
    (entry.nsid, entry.lba) = ErrorLog.place(of: sqe, qid: qid)
    errors.entries.insert(entry, at: 0)
  }

  /// Log an error without a command: its queue and command identifiers read FFFFh.
  public mutating func noteError(_ status: Status) {
    noteError(SubmissionEntry(opcode: .max, cid: CommandID(.max)), qid: QueueID(.max), status: status)
  }
}
