import Intervals

/// Statistics of the finished commands.
struct Tally {
  private(set) var io = Statistics()
  private(set) var adminCommands: UInt64 = 0
  private(set) var turn = DistributionRecorder()
  private(set) var queueFull = DistributionRecorder()
  private(set) var handling = DistributionRecorder()
  private(set) var hostSubmit = DistributionRecorder()
  private(set) var undetected = DistributionRecorder()
  private var doorbellHandoff = DistributionRecorder()
  private var dispatchHandoff = DistributionRecorder()
  private var wakeUpHandoff = DistributionRecorder()
  private var completionHandoff = DistributionRecorder()
  private(set) var bands = BandTable()
  private(set) var groups: Groups?
  private(set) var windows: TimeWindows?

  init(_ grouping: Grouping?, windowNs: UInt64? = nil) {
    groups = grouping.map(Groups.init)
    windows = windowNs.map { TimeWindows(lengthNs: $0) }
  }

  mutating func record(_ times: borrowing CommandTimes) {
    groups?.record(times)
    guard times.qid != .admin else {
      adminCommands += 1
      return
    }
    io.record(times)
    windows?.record(times)
    bands.record(times)
    turn.record(times.turn)
    queueFull.record(times.queueFull)
    if let handling = times.handling { self.handling.record(handling) }
    if let submit = times.hostSubmit { hostSubmit.record(submit) }
    if let bound = times.undetectedMax { undetected.record(bound) }
    if let handoffs = times.handoffs {
      doorbellHandoff.record(handoffs.doorbell)
      dispatchHandoff.record(handoffs.dispatch)
      wakeUpHandoff.record(handoffs.wakeUp)
      completionHandoff.record(handoffs.completion)
    }
  }

  /// Nil if no command had any.
  var handoffs: HandoffDistributions? {
    guard let dispatch = dispatchHandoff.known else { return nil }
    return HandoffDistributions(
      doorbell: doorbellHandoff.distribution, dispatch: dispatch, wakeUp: wakeUpHandoff.distribution,
      completion: completionHandoff.distribution)
  }
}

extension DistributionRecorder {
  /// Nil if nothing was recorded.
  var known: Distribution? {
    let all = distribution
    return all.count == 0 ? nil : all
  }
}
