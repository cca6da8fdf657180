/// What the engine's thread did at every nanosecond, from its events: without a gap, and without an overlap.
///
/// It holds the newest pieces with the total of each activity before them, so that the totals at a moment in the recent
/// past are known. The difference of two totals is what the thread did between them: for a command that waited, the
/// reason.
struct ServerTimeline: ~Copyable {
  /// Holds no reference, so that nothing must be done to forget one.
  private struct Piece {
    /// Totals at its begin.
    var before: ActivityTimes
    var begin: UInt64
    var activity: Activity
  }

  static let piecesMax = 1 << 15
  /// A poll of all doorbells is shorter than this, in nanoseconds: a longer silence is none.
  private static let absenceMin: UInt64 = 4000

  /// A ring, by position modulo its size. It takes memory only as it fills.
  private let pieces = UnsafeMutablePointer<Piece>.allocate(capacity: piecesMax)
  /// Positions of the oldest piece and after the newest, counted from the first ever.
  private var oldest = 0
  private var end = 0
  private var hasBegun = false

  /// Until when it is known what the thread did.
  private(set) var cursor: UInt64 = 0
  /// The total of the recording until then.
  private(set) var recorded: UInt64 = 0
  /// The totals at `cursor` if there is no piece.
  private var base = ActivityTimes()
  /// The latest periods in which the thread did not poll.
  private var latestStalls: [Range<UInt64>] = []
  private static let latestStallsMax = 16
  /// More pieces than the reads of one command's lists make.
  private static let renameMax = 4096

  deinit { pieces.deallocate() }

  /// The totals at `cursor`.
  var total: ActivityTimes { end == oldest ? base : times(in: end - 1, at: cursor) }

  /// Since the newest known moment, the thread did this.
  @inline(__always)
  mutating func advance(to time: UInt64, _ activity: Activity) {
    if !hasBegun { (hasBegun, cursor) = (true, time) }
    append(activity, until: time)
  }

  /// It did this for the last `span` before `time`, and work of its own before that.
  @inline(__always)
  mutating func cover(_ activity: Activity, until time: UInt64, span: UInt64) {
    advance(to: time - min(span, time), .engine)
    advance(to: time, activity)
  }

  /// A poll found something. The poll before had begun `interval` before `time`.
  /// - Returns: the period in which it did not poll, if that was a stall.
  mutating func found(at time: UInt64, since interval: UInt64) -> Range<UInt64>? {
    let silence = min(interval, hasBegun && time > cursor ? time - cursor : 0)
    guard silence >= ServerTimeline.absenceMin else {
      advance(to: time, .poll)
      return nil
    }
    advance(to: time - silence, .poll)
    advance(to: time, .absent)
    guard silence >= Stalls.silenceMin else { return nil }
    if latestStalls.count == ServerTimeline.latestStallsMax { latestStalls.removeFirst() }
    latestStalls.append(time - silence..<time)
    return latestStalls.last
  }

  /// What counts as work of its own since `begin` was this activity, as far back as one command's reads can reach.
  /// - Returns: whether totals since `begin` have changed.
  mutating func rename(since begin: UInt64, to activity: Activity) -> Bool {
    guard begin < cursor, let first = position(at: begin) else { return false }
    let position = max(first, end - ServerTimeline.renameMax)
    let begin = max(begin, place(position).pointee.begin)
    // Most often it is the newest piece, or none of its own work.
    guard (position..<end).contains(where: { place($0).pointee.activity == .engine }) else { return false }
    let pieces = (position..<end).map { (activity: place($0).pointee.activity, until: self.until($0)) }
    let start = times(in: position, at: begin)
    end = place(position).pointee.begin < begin ? position + 1 : position
    let recorded = recorded
    (cursor, base) = (begin, start)
    for piece in pieces { append(piece.activity == .engine ? activity : piece.activity, until: piece.until) }
    self.recorded = recorded
    return true
  }

  /// The latest stalls, as far as they ended after `begin`.
  func stalls(since begin: UInt64) -> Stalls {
    latestStalls.reduce(into: Stalls()) { if $1.upperBound > begin { $0.add($1) } }
  }

  /// Events were lost: it is unknown what the thread did until the next event.
  mutating func restart() {
    base = total
    oldest = end
    hasBegun = false
  }

  /// Number of pieces so far.
  var pieceCount: Int { end }

  /// The totals at `time`.
  /// - Returns: nil if that is before the first piece that is still known.
  @inline(__always)
  func times(at time: UInt64) -> ActivityTimes? {
    if time >= cursor { return total }
    guard let position = position(at: time) else { return nil }
    return times(in: position, at: min(time, until(position)))
  }

  /// Add to `times` what the thread did between two moments, if that is known.
  @inline(__always)
  func add(from begin: UInt64, to later: UInt64, into times: inout ActivityTimes) {
    guard end > oldest, let first = position(at: min(begin, cursor)), let last = position(at: min(later, cursor)) else {
      return
    }
    if first != last { times.add(from: place(first).pointee.before, to: place(last).pointee.before) }
    times[place(last).pointee.activity] &+= min(later, until(last)) &- place(last).pointee.begin
    times[place(first).pointee.activity] &-= min(begin, until(first)) &- place(first).pointee.begin
  }

  // MARK: Pieces

  /// Read through a pointer, so that no piece is copied for one of its fields.
  @inline(__always)
  private func place(_ position: Int) -> UnsafeMutablePointer<Piece> {
    pieces + position & (ServerTimeline.piecesMax - 1)
  }

  private func until(_ position: Int) -> UInt64 { position + 1 < end ? place(position + 1).pointee.begin : cursor }

  /// The totals at a moment within a piece.
  private func times(in position: Int, at time: UInt64) -> ActivityTimes {
    var times = place(position).pointee.before
    times[place(position).pointee.activity] &+= time - place(position).pointee.begin
    return times
  }

  @inline(__always)
  private mutating func append(_ activity: Activity, until time: UInt64) {
    guard time > cursor else { return }
    if end == oldest || place(end - 1).pointee.activity != activity { begin(activity) }
    if activity == .recording { recorded &+= time &- cursor }
    cursor = time
  }

  /// Begin a piece at `cursor`.
  private mutating func begin(_ activity: Activity) {
    let new = place(end)
    if end == oldest {
      new.pointee.before = base
    } else {
      let last = place(end - 1)
      new.pointee.before.become(
        last.pointee.before, plus: cursor - last.pointee.begin, of: last.pointee.activity)
    }
    new.pointee.begin = cursor
    new.pointee.activity = activity
    end += 1
    oldest = max(oldest, end - ServerTimeline.piecesMax)
  }

  /// The newest piece that begins at `time` or before. Most callers ask for one of the last few.
  private func position(at time: UInt64) -> Int? {
    var (low, high, step) = (end, end, 1)
    repeat {
      guard low > oldest else { return nil }
      high = low
      low = max(oldest, low - step)
      step *= 2
    } while place(low).pointee.begin > time
    // The piece at `low` begins in time, and that at `high`, if there is one, too late.
    while high - low > 1 {
      let middle = (low + high) / 2
      if place(middle).pointee.begin > time { high = middle } else { low = middle }
    }
    return low
  }
}

/// Periods in which a side did nothing although it is expected to look for work all the time.
public struct Stalls: Sendable {
  /// A shorter silence is none, in nanoseconds.
  public static let silenceMin: UInt64 = 100_000

  public private(set) var count: UInt64 = 0
  /// Nanoseconds.
  public private(set) var totalNs: UInt64 = 0
  public private(set) var longestNs: UInt64 = 0
  /// When the longest began, in nanoseconds since the trace began.
  public private(set) var longestAtNs: UInt64 = 0

  mutating func add(_ stall: Range<UInt64>) { add(stall.upperBound - stall.lowerBound, at: stall.lowerBound) }

  mutating func add(_ ns: UInt64, at time: UInt64) {
    count += 1
    totalNs = totalNs.addingReportingOverflow(ns).overflow ? .max : totalNs + ns
    if ns > longestNs { (longestNs, longestAtNs) = (ns, time) }
  }

  mutating func add(_ other: Stalls) {
    let longest = other.longestNs > longestNs ? other : self
    (longestNs, longestAtNs) = (longest.longestNs, longest.longestAtNs)
    count += other.count
    totalNs = totalNs.addingReportingOverflow(other.totalNs).overflow ? .max : totalNs + other.totalNs
  }
}
