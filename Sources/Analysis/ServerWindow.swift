/// What the engine's thread did from the first beginning of a finished I/O command to the last end of one.
///
/// Which beginning is the first shows when its command has finished: until then, each that may be it keeps the totals.
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
  private(set) var stalls = Stalls()

  /// The totals of the timeline when it begins.
  var totals: ActivityTimes? { first?.totals }

  /// A new command, if it has begun before all that finished.
  @inline(__always)
  mutating func begin(_ index: UInt32, at begin: UInt64, _ timeline: borrowing ServerTimeline) {
    if let first, first.begin <= begin { return }
    guard openings.count < ServerWindow.openingsMax, let totals = timeline.times(at: begin) else { return }
    openings.append(Opening(index: index, begin: begin, totals: totals, stalls: timeline.stalls(since: begin)))
  }

  mutating func stalled(_ stall: Range<UInt64>) {
    first?.stalls.add(stall)
    for place in openings.indices { openings[place].stalls.add(stall) }
  }

  @inline(__always)
  mutating func end(_ index: UInt32, isFinished: Bool) {
    if !openings.isEmpty { close(index, isFinished) }
    if isFinished { stalls = first?.stalls ?? stalls }
  }

  private mutating func close(_ index: UInt32, _ isFinished: Bool) {
    guard let place = openings.firstIndex(where: { $0.index == index }) else { return }
    let opening = openings.remove(at: place)
    guard isFinished else { return }
    first = opening
    openings.removeAll { $0.begin >= opening.begin }
  }
}
