import Events

/// How the engine's thread spent its time, from the first I/O command's begin to the last one's end.
public struct ServerUse: Sendable {
  public let times: ActivityTimes
  /// Periods in which it did not poll.
  public let stalls: Stalls

  /// Nanoseconds.
  public var totalNs: UInt64 { times.sum }
  /// Nanoseconds in which it did anything for commands, or for the recording.
  public var busyNs: UInt64 { Activity.allCases.reduce(0) { $1.isBusy ? $0 &+ times[$1] : $0 } }

  /// As a share of the time, 0...1.
  public func share(of ns: UInt64) -> Double { totalNs == 0 ? 0 : Double(ns) / Double(totalNs) }

  /// The activity that keeps it busy longest.
  public var largest: Activity { Activity.allCases.filter(\.isBusy).max { times[$0] < times[$1] }! }
}

/// How the host's threads spent their time, from the first event to the last of each.
public struct HostUse: Sendable {
  public let threads: UInt64
  /// Nanoseconds, over all threads: they did something between two of their events.
  public let workNs: UInt64
  /// A completion queue entry was visible and the thread had not yet seen it.
  public let reactionNs: UInt64
  /// No entry was visible: they waited for the device.
  public let waitNs: UInt64
  /// Silent periods in which it was the host's turn; they count as neither work nor reaction.
  public let stalls: Stalls

  init(_ threads: [HostActivity]) {
    self.threads = UInt64(threads.count)
    func sum(_ ns: (HostActivity) -> UInt64) -> UInt64 { threads.reduce(0) { $0 &+ ns($1) } }
    (workNs, reactionNs, waitNs) = (sum(\.workNs), sum(\.reactionNs), sum(\.waitNs))
    stalls = threads.reduce(into: Stalls()) { $0.add($1.stalls) }
  }

  public var busyNs: UInt64 { workNs &+ reactionNs }
  public var totalNs: UInt64 { busyNs &+ waitNs &+ stalls.totalNs }
  /// Of the time without stalls, 0...1.
  public var busyShare: Double { busyNs &+ waitNs == 0 ? 0 : Double(busyNs) / Double(busyNs &+ waitNs) }
}

/// What one thread of the host did between its events.
struct HostActivity {
  private var last: UInt64 = 0
  private(set) var isKnown = false
  private(set) var workNs: UInt64 = 0
  private(set) var reactionNs: UInt64 = 0
  private(set) var waitNs: UInt64 = 0
  private(set) var stalls = Stalls()
  /// Its latest rest, and the latest time in which it waited for an entry until it saw one.
  private(set) var rest: Range<UInt64> = 0..<0
  private(set) var idle: Range<UInt64> = 0..<0
  /// The command whose entry it saw last, until its next event.
  var latest = TrackedCommand.none

  /// It yielded its core, or slept.
  mutating func rested(until now: UInt64, span: UInt64) { rest = now - min(span, now)..<now }

  /// The thread submitted, rang a doorbell, or did anything else.
  mutating func acted(at now: UInt64) { spend(on: \.workNs, from: last, until: now) }

  /// It saw an entry that had been visible since `posted`; nil if that is unknown.
  mutating func saw(at now: UInt64, posted: UInt64?) {
    if !isKnown { idle = 0..<now }
    guard isKnown, let posted, posted > last else { return acted(at: now) }
    idle = last..<now
    waitNs &+= min(posted, now) - last
    spend(on: \.reactionNs, from: min(posted, now), until: now)
  }

  /// Events of the thread were lost.
  mutating func forget() { isKnown = false }

  private mutating func spend(on part: WritableKeyPath<HostActivity, UInt64>, from begin: UInt64, until now: UInt64) {
    defer { (last, isKnown) = (now, true) }
    guard isKnown, now > begin else { return }
    if now - begin >= Stalls.silenceMin {
      stalls.add(now - begin, at: begin)
    } else {
      self[keyPath: part] &+= now - begin
    }
  }
}

/// How often the engine did things for I/O queues.
public struct EngineCounts: Sendable {
  /// Times that it saw a submission queue's doorbell change.
  public internal(set) var doorbells: UInt64 = 0
  /// Transfers of one or more adjacent submission queue entries, and entries.
  public internal(set) var fetches: UInt64 = 0
  public internal(set) var entries: UInt64 = 0
  public internal(set) var segments: UInt64 = 0
  /// Reads of lists of segments.
  public internal(set) var listReads: UInt64 = 0
  public internal(set) var interrupts: UInt64 = 0
  /// Requests that the backend completed later.
  public internal(set) var later: UInt64 = 0
}
