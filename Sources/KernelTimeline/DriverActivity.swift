/// What a CPU does for nvmet-pci-epf at one moment, as far as events tell. The raw value is the index in this order.
public enum DriverActivity: Int, CaseIterable, Sendable {
  /// The thread that polls the submission queues fetches an entry.
  case fetch
  /// A worker serves a command in the stage of the same name; in execute it may sleep.
  case map, dataIn, execute
  /// The backend has executed a worker's command, and the worker has not moved its data yet.
  case wakeUp
  case dataOut
  /// A worker is done with a command, and its work item has not ended.
  case complete
  /// A completion queue's work item writes entries and raises interrupts.
  case completionWork
  /// No work item is open, and the latest fetch of a controller was on this CPU: the thread that polls its submission
  /// queues, which records nothing else, has the CPU, or an untraced thread, or nobody.
  case polling
  /// No work item is open, and nobody fetches on this CPU.
  case untraced
  /// The trace does not tell: events are lost, or it was too long ago.
  case unknown

  static let count = 11

  /// Somebody works on commands, or waits in the middle of one.
  public var isWork: Bool { rawValue <= DriverActivity.completionWork.rawValue }

  /// The name in every report.
  public var name: String {
    switch self {
    case .dataIn: "data-in"
    case .wakeUp: "wake-up"
    case .dataOut: "data-out"
    case .completionWork: "completion-work"
    default: "\(self)"
    }
  }
}

/// A time per activity, in nanoseconds.
public struct DriverTimes: Sendable {
  private var values = InlineArray<11, UInt64>(repeating: 0)

  public init() {}

  public subscript(activity: DriverActivity) -> UInt64 {
    get { values[activity.rawValue] }
    set { values[activity.rawValue] = newValue }
  }

  public var sum: UInt64 { DriverActivity.allCases.reduce(0) { $0 &+ self[$1] } }
  /// The time of work on commands.
  public var work: UInt64 { DriverActivity.allCases.reduce(0) { $1.isWork ? $0 &+ self[$1] : $0 } }

  public static func += (times: inout DriverTimes, more: DriverTimes) {
    for index in 0..<DriverActivity.count { times.values[index] &+= more.values[index] }
  }

  static func - (later: DriverTimes, earlier: DriverTimes) -> DriverTimes {
    var times = later
    for index in 0..<DriverActivity.count { times.values[index] &-= earlier.values[index] }
    return times
  }
}

/// A work item of the driver: a command's, or a completion queue's.
public struct WorkItem: Hashable, Comparable, Sendable {
  private let rawValue: UInt64

  private init(_ controller: UInt16, _ qid: UInt16, _ low: UInt32) {
    rawValue = UInt64(controller) << 48 | UInt64(qid) << 32 | UInt64(low)
  }

  static func command(_ controller: UInt16, qid: UInt16, cid: UInt16) -> WorkItem {
    WorkItem(controller, qid, UInt32(cid))
  }

  static func completionQueue(_ controller: UInt16, _ cqid: UInt16) -> WorkItem { WorkItem(controller, cqid, 1 << 16) }

  public static func < (first: WorkItem, second: WorkItem) -> Bool { first.rawValue < second.rawValue }

  /// No work item.
  static let none = WorkItem(0, 0, 1 << 17)

  public var controller: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 48) }
  public var qid: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
  public var cid: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
  public var isCommand: Bool { rawValue & 0xffff_0000 == 0 }
}
