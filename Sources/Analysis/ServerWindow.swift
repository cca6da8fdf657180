/// What the engine's thread did from the first beginning of a finished I/O command to the last end of one.
///
/// Which beginning is the first shows when its command has finished: until then, each that may be it keeps the totals.
/// The totals at the last end are kept before the timeline forgets them.
struct ServerWindow {
  private struct Opening {
    var index: UInt32
    var begin: UInt64
    var totals: ActivityTimes
    var stalls: Stalls
  }

  private static let openingsMax = 1024

  private var first: Opening?
  /// Commands in flight that began earlier.
  private var openings: [Opening] = []
  /// The stalls when the latest command finished.
  private var stalls = Stalls()
  /// When it finished, and how many pieces the timeline had by then.
  private var lastEnd: UInt64 = 0
  private var piecesAtEnd = 0
  private var totalsAtEnd: ActivityTimes?

  /// Nil without a finished command.
  func use(_ timeline: borrowing ServerTimeline) -> ServerUse? {
    guard let first, let end = totalsAtEnd ?? timeline.times(at: lastEnd) else { return nil }
    var times = ActivityTimes()
    for activity in Activity.allCases { times[activity] = end[activity] - min(first.totals[activity], end[activity]) }
    return ServerUse(times: times, stalls: stalls)
  }

  /// A new command, if it has begun before all that finished.
  @inline(__always)
  mutating func begin(_ index: UInt32, at begin: UInt64, _ timeline: borrowing ServerTimeline) {
    if let first, first.begin <= begin { return }
    guard let totals = timeline.times(at: begin) else { return }
    // Those that wait longest may never finish.
    if openings.count == ServerWindow.openingsMax { openings.removeFirst() }
    openings.append(Opening(index: index, begin: begin, totals: totals, stalls: timeline.stalls(since: begin)))
  }

  mutating func stalled(_ stall: Range<UInt64>) {
    first?.stalls.add(stall)
    for place in openings.indices { openings[place].stalls.add(stall) }
  }

  /// Totals since `begin` have changed.
  mutating func correct(since begin: UInt64, _ timeline: borrowing ServerTimeline) {
    func correct(_ opening: inout Opening) {
      if opening.begin > begin, let totals = timeline.times(at: opening.begin) { opening.totals = totals }
    }
    if first != nil { correct(&first!) }
    for place in openings.indices { correct(&openings[place]) }
  }

  /// Keep the totals at the end while the timeline knows them.
  @inline(__always)
  mutating func keepEnd(_ timeline: borrowing ServerTimeline) {
    guard totalsAtEnd == nil, timeline.pieceCount - piecesAtEnd >= ServerTimeline.piecesMax / 2 else { return }
    totalsAtEnd = timeline.times(at: lastEnd)
  }

  /// - Parameter finished: when the command did; nil if it was dropped.
  @inline(__always)
  mutating func end(_ index: UInt32, finished: UInt64?, _ timeline: borrowing ServerTimeline) {
    if !openings.isEmpty { close(index, finished != nil) }
    guard let finished, finished >= lastEnd else { return }
    stalls = first?.stalls ?? stalls
    (lastEnd, piecesAtEnd, totalsAtEnd) = (finished, timeline.pieceCount, nil)
  }

  private mutating func close(_ index: UInt32, _ isFinished: Bool) {
    guard let place = openings.firstIndex(where: { $0.index == index }) else { return }
    let opening = openings.remove(at: place)
    guard isFinished else { return }
    first = opening
    openings.removeAll { $0.begin >= opening.begin }
  }
}
