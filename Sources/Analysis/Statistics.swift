import Intervals

/// Sums over finished commands.
struct Statistics {
  private(set) var commands: UInt64 = 0
  private(set) var firstBegin = UInt64.max
  private(set) var lastEnd: UInt64 = 0
  private(set) var bytesFromHost: UInt64 = 0
  private(set) var bytesToHost: UInt64 = 0
  private(set) var failed: UInt64 = 0
  private var latency: DistributionRecorder
  private var stages: [DistributionRecorder]
  private var unexplained: DistributionRecorder
  /// Times from one end of a command to the next, for the interval of their rate.
  private var spacing: BatchRecorder?
  private var waiting: DistributionRecorder
  /// Of each stage; nil until a command waits in it.
  private var waitingIn = [DistributionRecorder?](repeating: nil, count: Stage.count)
  private let isCoarse: Bool
  private var behindSums = [UInt128](repeating: 0, count: Activity.count)
  private var behindHostSums = [UInt128](repeating: 0, count: HostState.allCases.count)

  /// - Parameter isCoarse: percentiles to two significant digits.
  init(isCoarse: Bool = false) {
    self.isCoarse = isCoarse
    latency = DistributionRecorder(isCoarse: isCoarse)
    stages = [DistributionRecorder](repeating: latency, count: Stage.count)
    unexplained = latency
    spacing = isCoarse ? nil : BatchRecorder()
    waiting = latency
  }

  mutating func record(_ times: borrowing CommandTimes) {
    spacing?.record(commands == 0 ? times.total : times.end - min(lastEnd, times.end))
    commands += 1
    firstBegin = min(firstBegin, times.begin)
    lastEnd = max(lastEnd, times.end)
    bytesFromHost &+= times.bytesFromHost
    bytesToHost &+= times.bytesToHost
    if times.hasFailed { failed += 1 }
    latency.record(times.total)
    for stage in 0..<Stage.count { stages[stage].record(times.stages[stage]) }
    unexplained.record(times.unexplained)
    let waits = times.waiting.sum
    waiting.record(waits)
    for stage in 0..<Stage.count { recordWait(times.waiting[stage], stage) }
    guard waits > 0 else { return }
    for activity in Activity.allCases { behindSums[activity.rawValue] += UInt128(times.behind[activity]) }
    for state in HostState.allCases { behindHostSums[state.rawValue] += UInt128(times.behindHost[state]) }
  }

  @inline(__always)
  private mutating func recordWait(_ ns: UInt64, _ stage: Int) {
    if waitingIn[stage] == nil {
      guard ns > 0 else { return }
      var recorder = DistributionRecorder(isCoarse: isCoarse)
      recorder.record(zeros: commands - 1)
      waitingIn[stage] = recorder
    }
    waitingIn[stage]?.record(ns)
  }

  /// - Precondition: a command waited in this stage.
  private func split(_ stage: Int, _ waiting: DistributionRecorder) -> Split {
    let distribution = waiting.distribution
    return Split(
      waiting: distribution, serviceMeanNs: stages[stage].distribution.meanNs - distribution.meanNs,
      service: stages[stage].mean(without: waiting))
  }

  private var iops: Estimate? {
    guard let batches = spacing?.batches, durationNs > 0 else { return nil }
    return batches.mean(Double(durationNs) / Double(commands)).inverse(of: 1e9)
  }

  var durationNs: UInt64 { commands == 0 ? 0 : lastEnd - firstBegin }

  var breakdown: Breakdown {
    Breakdown(
      commands: commands, failed: failed, durationNs: durationNs, bytesFromHost: bytesFromHost,
      bytesToHost: bytesToHost,
      latency: latency.distribution, stages: stages.map(\.distribution), unexplained: unexplained.distribution,
      iopsEstimate: iops, waiting: waiting.distribution,
      splits: waitingIn.enumerated().map { stage, waiting in waiting.map { split(stage, $0) } },
      behindMeansNs: behindSums.map(mean), behindHostMeansNs: behindHostSums.map(mean))
  }

  private func mean(_ sum: UInt128) -> Double { commands == 0 ? 0 : Double(sum) / Double(commands) }
}

/// How to group commands.
public enum Grouping: String, CaseIterable, Sendable {
  case queue, opcode
}

/// Statistics per group. Beyond this number of groups, commands count as one common group.
struct Groups {
  static let countMax = 128

  let grouping: Grouping
  private var groups: [(key: GroupKey, statistics: Statistics)] = []
  /// By `GroupKey.code`: index + 1 in `groups`.
  private var indices = [UInt16](repeating: 0, count: 1 << 16)

  init(_ grouping: Grouping) { self.grouping = grouping }

  mutating func record(_ times: borrowing CommandTimes) {
    let key = GroupKey(times, grouping)
    var index = Int(indices[key.code])
    if index == 0 {
      let isLast = groups.count == Groups.countMax - 1
      if groups.count < Groups.countMax {
        groups.append((isLast ? .others : key, Statistics(isCoarse: true)))
      }
      index = groups.count
      indices[key.code] = UInt16(index)
    }
    groups[index - 1].statistics.record(times)
  }

  /// I/O before admin, then by number.
  var values: [Group] {
    groups.sorted { $0.key < $1.key }.map { Group(key: $0.key, breakdown: $0.statistics.breakdown) }
  }
}

/// The common property of a group's commands.
public enum GroupKey: Hashable, Comparable, Sendable {
  case ioQueue(UInt16)
  case adminQueue
  case ioOpcode(UInt8)
  case adminOpcode(UInt8)
  case unknownOpcode
  /// Commands beyond the limit of groups.
  case others

  init(_ times: borrowing CommandTimes, _ grouping: Grouping) {
    let isAdmin = times.qid == .admin
    switch grouping {
    case .queue: self = isAdmin ? .adminQueue : .ioQueue(times.qid.rawValue)
    case .opcode:
      guard let opcode = times.opcode else {
        self = .unknownOpcode
        return
      }
      self = isAdmin ? .adminOpcode(opcode) : .ioOpcode(opcode)
    }
  }

  /// Unique per key within one grouping.
  var code: Int {
    switch self {
    case .adminQueue, .others: 0
    case .ioQueue(let qid): Int(qid)
    case .ioOpcode(let opcode): Int(opcode)
    case .adminOpcode(let opcode): 0x100 + Int(opcode)
    case .unknownOpcode: 0x200
    }
  }
}
