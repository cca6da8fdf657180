/// What one CPU did for the driver at every nanosecond since its first event: without a gap, and without an overlap.
///
/// It holds the total of each activity until now, and the newest pieces, so that the totals at a moment in the recent
/// past are known too. The difference of two totals is what the CPU did between them.
struct CPUTimeline: Sendable {
  private struct Piece {
    var begin: UInt64
    var activity: DriverActivity
    var item: WorkItem
    /// At its begin: totals, and how many commands had started.
    var before: DriverTimes
    var starts: UInt64
  }

  /// A work item that has begun and not ended.
  private struct Open {
    var item: WorkItem
    var activity: DriverActivity
  }

  private static let piecesMax = 1 << 13
  private static let openMax = 64

  let cpu: UInt16
  /// A ring, by position modulo its size.
  private var pieces: [Piece] = []
  /// Positions of the oldest piece and after the newest, counted from the first ever.
  private var oldest = 0
  private var end = 0
  private var hasBegun = false
  /// Until when it is known what the CPU did, and the totals at that time.
  private var cursor: UInt64 = 0
  private var total = DriverTimes()
  private var starts: UInt64 = 0

  /// The last one runs; when it ends, the one before it goes on.
  private var open: [Open] = []
  /// Of how many controllers the thread that polls runs here.
  var pollers = 0
  /// Nil until its use counts.
  private var window: UseWindow?

  init(cpu: UInt16) { self.cpu = cpu }

  // MARK: What it does

  var running: WorkItem? { open.last?.item }

  private var current: Open { open.last ?? Open(item: .none, activity: pollers > 0 ? .polling : .untraced) }

  /// It went on until `time` with what it did.
  mutating func advance(to time: UInt64) {
    let current = current
    append(current.activity, current.item, until: time)
  }

  /// It did this for the last `span` before `time`, and before that what it had been doing.
  mutating func cover(_ activity: DriverActivity, _ item: WorkItem, until time: UInt64, span: UInt32) {
    advance(to: time - min(UInt64(span), time))
    append(activity, item, until: time)
  }

  /// The work item runs now.
  /// - Returns: the oldest open one if there were too many, which is forgotten.
  mutating func run(_ item: WorkItem, _ activity: DriverActivity) -> WorkItem? {
    if open.last?.item == item {
      open[open.count - 1].activity = activity
      return nil
    }
    close(item)
    let forgotten = open.count == CPUTimeline.openMax ? open.removeFirst().item : nil
    open.append(Open(item: item, activity: activity))
    return forgotten
  }

  /// A command's work item starts.
  mutating func countStart() { starts &+= 1 }

  /// An open work item is now in this activity, whether it runs or not.
  mutating func set(_ item: WorkItem, _ activity: DriverActivity) {
    guard let index = open.lastIndex(where: { $0.item == item }) else { return }
    open[index].activity = activity
  }

  mutating func close(_ item: WorkItem) {
    if let index = open.lastIndex(where: { $0.item == item }) { open.remove(at: index) }
  }

  var works: DriverTimeline.CPUWorks {
    DriverTimeline.CPUWorks(
      cpu: cpu, works: open.map { DriverTimeline.CPUWorks.Work(item: $0.item, activity: $0.activity) },
      isPolling: pollers > 0)
  }

  mutating func forgetPast() { (pieces, oldest, end) = ([], 0, 0) }

  /// Events were lost: it is unknown what the CPU did until its next event.
  mutating func restart() {
    oldest = end
    hasBegun = false
    open = []
    pollers = 0
  }

  // MARK: What it did

  /// Its use counts from this time on.
  mutating func count(since begin: UInt64) { window = UseWindow(since: begin, rest: times(since: begin)) }

  /// Its use counts until this time at least.
  mutating func count(until end: UInt64) {
    guard var window, end > window.end else { return }
    if cursor <= end || firstKnown <= end {
      window.extend(to: end, rest: times(since: end))
    } else {
      window.skip(to: end)
    }
    self.window = window
  }

  /// What it did while its use counted; adds up to that time. What it does now goes on until then.
  var use: CPUUse {
    guard let window else { return CPUUse(cpu: cpu, times: DriverTimes()) }
    var times = window.times
    let known = max(cursor, window.begin)
    if hasBegun, known < window.end { times[current.activity] &+= window.end - known }
    times[.unknown] &+= window.end - window.begin - times.sum
    return CPUUse(cpu: cpu, times: times)
  }

  /// What it certainly did since `begin`.
  private func times(since begin: UInt64) -> DriverTimes {
    var times = DriverTimes()
    forEach(from: begin, to: cursor) { activity, _, ns in times[activity] &+= ns }
    return times
  }

  /// What it did between two moments; adds up to the time between them.
  func times(from begin: UInt64, to end: UInt64) -> DriverTimes {
    let known = max(begin, min(firstKnown, end))
    var times = totals(at: end) - totals(at: known)
    times[.unknown] &+= known - min(begin, known)
    return times
  }

  /// How many commands started on it.
  func starts(from begin: UInt64, to end: UInt64) -> UInt64 { starts(at: end) &- starts(at: begin) }

  /// Totals at `time`, of which what is known; what it does now goes on until then.
  private func totals(at time: UInt64) -> DriverTimes {
    guard time < cursor, let position = position(at: time) else {
      var times = total
      if hasBegun, time > cursor { times[current.activity] &+= time - cursor }
      return times
    }
    var times = piece(position).before
    times[piece(position).activity] &+= min(time, until(position)) - piece(position).begin
    return times
  }

  /// What it did between two moments, latest first.
  func forEach(from begin: UInt64, to end: UInt64, _ body: (DriverActivity, WorkItem, _ ns: UInt64) -> Void) {
    var position = self.end
    while position > oldest, until(position - 1) > begin {
      position -= 1
      let (from, to) = (max(piece(position).begin, begin), min(until(position), end))
      if from < to { body(piece(position).activity, piece(position).item, to - from) }
    }
  }

  private var firstKnown: UInt64 { !hasBegun ? .max : oldest < end ? piece(oldest).begin : cursor }

  private func starts(at time: UInt64) -> UInt64 {
    guard time < cursor, let position = position(at: time) else { return starts }
    return piece(position).starts
  }

  // MARK: Pieces

  private func piece(_ position: Int) -> Piece { pieces[position & (CPUTimeline.piecesMax - 1)] }

  private func until(_ position: Int) -> UInt64 { position + 1 < end ? piece(position + 1).begin : cursor }

  private mutating func append(_ activity: DriverActivity, _ item: WorkItem, until time: UInt64) {
    // A span may reach back to before a gap.
    if !hasBegun { (hasBegun, cursor) = (true, max(cursor, time)) }
    guard time > cursor else { return }
    if end == oldest || piece(end - 1).activity != activity || piece(end - 1).item != item {
      let new = Piece(begin: cursor, activity: activity, item: item, before: total, starts: starts)
      if pieces.count < CPUTimeline.piecesMax, end == pieces.count {
        pieces.append(new)
      } else {
        pieces[end & (CPUTimeline.piecesMax - 1)] = new
      }
      end += 1
      oldest = max(oldest, end - CPUTimeline.piecesMax)
    }
    total[activity] &+= time - cursor
    window?.add(activity, from: cursor, to: time)
    cursor = time
  }

  /// The newest piece that begins at `time` or before.
  private func position(at time: UInt64) -> Int? {
    var (low, high) = (oldest, end)
    while low < high {
      let middle = (low + high) / 2
      if piece(middle).begin <= time { low = middle + 1 } else { high = middle }
    }
    return low == oldest ? nil : low - 1
  }
}
