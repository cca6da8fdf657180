/// What the finished commands add up to.
struct Tally {
  private(set) var io = Statistics()
  private(set) var adminCommands: UInt64 = 0
  private(set) var turn = DistributionRecorder()
  private(set) var queueFull = DistributionRecorder()
  private(set) var hostSubmit = DistributionRecorder()
  private(set) var undetected = DistributionRecorder()
  private var doorbellHop = DistributionRecorder()
  private var dispatchHop = DistributionRecorder()
  private var wakeUpHop = DistributionRecorder()
  private var completionHop = DistributionRecorder()
  private(set) var tail = TailTable()
  private(set) var groups: Groups?

  init(_ grouping: Grouping?) { groups = grouping.map(Groups.init) }

  mutating func record(_ times: borrowing CommandTimes) {
    groups?.record(times)
    guard times.qid != .admin else {
      adminCommands += 1
      return
    }
    io.record(times)
    tail.record(times)
    turn.record(times.turn)
    queueFull.record(times.queueFull)
    if let submit = times.hostSubmit { hostSubmit.record(submit) }
    if let bound = times.undetectedMax { undetected.record(bound) }
    if let hops = times.hops {
      doorbellHop.record(hops.doorbell)
      dispatchHop.record(hops.dispatch)
      wakeUpHop.record(hops.wakeUp)
      completionHop.record(hops.completion)
    }
  }

  /// Nil where no command had any.
  var hops: HopDistributions? {
    guard let dispatch = dispatchHop.known else { return nil }
    return HopDistributions(
      doorbell: doorbellHop.distribution, dispatch: dispatch, wakeUp: wakeUpHop.distribution,
      completion: completionHop.distribution)
  }
}

extension DistributionRecorder {
  /// Nil where nothing was recorded.
  var known: Distribution? {
    let all = distribution
    return all.count == 0 ? nil : all
  }
}
