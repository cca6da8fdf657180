import Analysis
import Text

/// The report for programs. Times are nanoseconds, shares are fractions of 1.
struct JSONReport {
  let summary: Summary
  private let lives: [CommandLife]

  init(_ summary: Summary, _ lives: [CommandLife] = []) { (self.summary, self.lives) = (summary, lives) }

  var object: JSON {
    var members: [(String, JSON)] = [
      ("format", .string("nvmepf-report/1")),
      ("complete", .boolean(summary.isComplete)),
      ("commands", .integer(summary.io.commands)),
      ("admin_commands", .integer(summary.adminCommands)),
      ("events", .integer(summary.events)),
      ("lost", .integer(summary.lost)),
      ("gaps", .integer(summary.gaps)),
      ("partial", .integer(summary.partial)), ("interrupted", .integer(summary.interrupted)),
      ("reused", .integer(summary.reused)),
      ("unfinished", .integer(summary.unfinished)),
      ("inversions", .integer(summary.inversions)),
      ("resets", .integer(summary.resets)),
      ("ring_waits", .integer(summary.ringWaits)),
      ("ring_wait_ns", .integer(summary.ringWaitNs)),
      ("absences", .integer(summary.absences)),
      ("absent_ns", .integer(summary.absentNs)),
      ("queue_depth_counted", .number(summary.queueDepthTimeWeighted)),
      ("queue_depth_max", .integer(summary.queueDepthMax)),
    ]
    if let probes = summary.probes {
      members += [("probe_runs", .integer(probes.runs)), ("probe_ns", .integer(probes.ns))]
    }
    if let bound = summary.hostClockBoundNs { members.append(("host_clock_bound_ns", .number(bound))) }
    members += BehaviourSections(summary).members
    if summary.completedTwice > 0 { members.append(("completed_twice", .integer(summary.completedTwice))) }
    if let stops = summary.stops { members.append(("stops", self.stops(stops))) }
    members += breakdown(summary.io, stageExtras)
    if let submit = summary.hostSubmit { members.append(("host_submit", .object(distribution(submit)))) }
    if let undetected = summary.undetected { members.append(("undetected", .object(distribution(undetected)))) }
    if let tail = summary.tail { members.append(("tail", self.tail(tail))) }
    members += evidence(lives)
    members.append(("findings", .array(Report.findings(summary).map(JSON.string))))
    if let grouping = summary.grouping {
      members.append(("grouping", .string(grouping.rawValue)))
      members.append(("groups", .array(summary.groups.map(group))))
    }
    return .object(members)
  }

  /// A queue's address is a string: a program may read JSON's numbers as floating point.
  private func stops(_ stops: Stops) -> JSON {
    let common: [(String, JSON)] = [
      ("count", .integer(stops.count)), ("recovered", .boolean(stops.hasRecovered)),
      ("first_ns", .integer(stops.firstNs)),
    ]
    func queue(_ kind: String, _ qid: UInt16, _ address: UInt64?) -> [(String, JSON)] {
      let place = address.map { [("address", JSON.string($0.hex))] } ?? []
      return [("unreached", .string(kind)), ("qid", .integer(UInt64(qid)))] + place
    }
    switch stops.firstCause {
    case .submissionQueue(let qid, let address): return .object(common + queue("submission queue", qid, address))
    case .completionQueue(let qid, let address): return .object(common + queue("completion queue", qid, address))
    case .unknown: return .object(common)
    }
  }

  /// Parts of a stage that are also recorded separately.
  private func stageExtras(_ stage: Stage) -> [(String, JSON)] {
    switch stage {
    case .detect: [("turn_mean_ns", .number(summary.turn.meanNs))]
    case .reap: summary.handling.map { [("handling_mean_ns", .number($0.meanNs))] } ?? []
    case .complete: [("cq_full_mean_ns", .number(summary.queueFull.meanNs))]
    default: []
    }
  }

  private func breakdown(_ breakdown: Breakdown, _ extras: (Stage) -> [(String, JSON)]) -> [(String, JSON)] {
    let stages = Stage.allCases.map { stage in
      JSON.object(
        [("stage", .string(stage.name))] + distribution(breakdown[stage], of: breakdown.latency) + extras(stage))
    }
    return [
      ("failed", .integer(breakdown.failed)),
      ("duration_ns", .integer(breakdown.durationNs)),
      ("iops", .number(breakdown.iops)),
      ("queue_depth", .number(breakdown.queueDepth)),
      ("bytes_from_host", .integer(breakdown.bytesFromHost)),
      ("bytes_to_host", .integer(breakdown.bytesToHost)),
      ("latency", .object(distribution(breakdown.latency))),
      ("stages", .array(stages)),
      ("unexplained", .object(distribution(breakdown.unexplained, of: breakdown.latency))),
    ]
  }

  private func distribution(_ times: Distribution, of whole: Distribution? = nil) -> [(String, JSON)] {
    [("mean_ns", .number(times.meanNs))] + (whole.map { [("share", .number(times.share(of: $0)))] } ?? []) + [
      ("p50_ns", .integer(times.p50Ns)),
      ("p99_ns", .integer(times.p99Ns)),
      ("p999_ns", .integer(times.p999Ns)),
      ("max_ns", .integer(times.maxNs)),
    ] + times.intervals
  }

  private func tail(_ tail: Tail) -> JSON {
    let stages = Stage.allCases.map { stage in
      let mean = tail.stageMeansNs[stage.rawValue]
      return JSON.object([
        ("stage", .string(stage.name)), ("mean_ns", .number(mean)),
        ("above_mean_ns", .number(mean - summary.io[stage].meanNs)),
      ])
    }
    return .object([
      ("commands", .integer(tail.commands)), ("from_ns", .integer(tail.fromNs)),
      ("mean_ns", .number(tail.latencyMeanNs)), ("stages", .array(stages)),
      ("unexplained_mean_ns", .number(tail.unexplainedMeanNs)),
    ])
  }

  private func group(_ group: Group) -> JSON {
    let identity: [(String, JSON)] = [
      ("group", .string(group.key.name)), ("commands", .integer(group.breakdown.commands)),
    ]
    return .object(identity + breakdown(group.breakdown, { _ in [] }))
  }
}
