import Analysis
import EventWords
import Evidence
import Intervals
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
      (
        "faults",
        .object(summary.faults.sorted { $0.key < $1.key }.map { (EventMeaning.fault($0.key), .integer($0.value)) })
      ),
      ("ring_waits", .integer(summary.ringWaits)),
      ("ring_wait_ns", .integer(summary.ringWaitNs)),
      ("absences", .integer(summary.server?.stalls.count ?? 0)),
      ("absent_ns", .integer(summary.server?.times[.absent] ?? 0)),
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
    if let bands = summary.bands { members += self.bands(bands) }
    if let server = summary.server { members.append(("server", self.server(server))) }
    if let driver = summary.driver { members.append(("driver", self.driver(driver))) }
    if let hosts = summary.hosts { members.append(("hosts", self.hosts(hosts))) }
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
        [("stage", .string(stage.name))] + distribution(breakdown[stage], of: breakdown.latency)
          + [("waiting_mean_ns", .number(breakdown.waitingMeanNs(stage)))] + extras(stage))
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
      ("waiting", .object(distribution(breakdown.waiting, of: breakdown.latency))),
      ("waiting_behind_ns", behind(breakdown.behindMeansNs)),
      ("waiting_behind_host_ns", behindHost(breakdown.behindHostMeansNs)),
    ]
  }

  private func behindHost(_ meansNs: [Double]) -> JSON {
    .object(HostState.allCases.map { ($0.name, .number(meansNs[$0.rawValue])) })
  }

  private func behind(_ meansNs: [Double]) -> JSON {
    .object(Activity.allCases.map { ($0.name, .number(meansNs[$0.rawValue])) })
  }

  /// Null: fewer than ten commands are beyond the percentile.
  private func distribution(_ times: Distribution, of whole: Distribution? = nil) -> [(String, JSON)] {
    func percentile(_ quantile: Quantile) -> JSON { times[quantile].map(JSON.integer) ?? .literal("null") }
    return [("mean_ns", .number(times.meanNs))] + (whole.map { [("share", .number(times.share(of: $0)))] } ?? []) + [
      ("having", .integer(times.having)),
      ("p50_ns", percentile(.p50)), ("p99_ns", percentile(.p99)), ("p999_ns", percentile(.p999)),
      ("max_ns", .integer(times.maxNs)),
    ] + times.intervals
  }

  // MARK: Bands

  private func bands(_ bands: Bands) -> [(String, JSON)] {
    [("typical", band(bands.typical)), ("bands", .array(bands.all.map(band)))]
      + (bands.tail.map { [("tail", band($0))] } ?? [])
      + [("slow", .object([("share", .number(bands.slowShare)), ("time_share", .number(bands.slowTimeShare))]))]
  }

  private func band(_ band: Band) -> JSON {
    .object([
      ("from", .number(band.from)), ("up_to", .number(band.upTo)), ("commands", .number(band.commands)),
      ("from_ns", .integer(band.fromNs)), ("mean_ns", .number(band.latencyMeanNs)),
      ("waiting_mean_ns", .number(band.waitingMeanNs)), ("waiting_behind_ns", behind(band.behindMeansNs)),
      ("waiting_behind_host_ns", behindHost(band.behindHostMeansNs)),
      ("stage_means_ns", .object(Stage.allCases.map { ($0.name, .number(band.meanNs($0))) })),
      ("unexplained_mean_ns", .number(band.unexplainedMeanNs)),
    ])
  }

  // MARK: Both sides

  private func server(_ server: ServerUse) -> JSON {
    .object([
      ("total_ns", .integer(server.totalNs)), ("busy_ns", .integer(server.busyNs)),
      ("activities_ns", .object(Activity.allCases.map { ($0.name, .integer(server.times[$0])) })),
      ("stalls", stalls(server.stalls)),
      ("doorbells", .integer(summary.counts.doorbells)), ("fetches", .integer(summary.counts.fetches)),
      ("entries", .integer(summary.counts.entries)), ("segments", .integer(summary.counts.segments)),
      ("list_reads", .integer(summary.counts.listReads)), ("interrupts", .integer(summary.counts.interrupts)),
      ("completed_later", .integer(summary.counts.later)),
    ])
  }

  private func hosts(_ hosts: HostUse) -> JSON {
    .object([
      ("threads", .integer(hosts.threads)), ("work_ns", .integer(hosts.workNs)),
      ("reaction_ns", .integer(hosts.reactionNs)), ("wait_ns", .integer(hosts.waitNs)),
      ("stalls", stalls(hosts.stalls)),
    ])
  }

  private func stalls(_ stalls: Stalls) -> JSON {
    .object([
      ("count", .integer(stalls.count)), ("total_ns", .integer(stalls.totalNs)),
      ("longest_ns", .integer(stalls.longestNs)), ("longest_at_ns", .integer(stalls.longestAtNs)),
    ])
  }

  private func group(_ group: Group) -> JSON {
    let identity: [(String, JSON)] = [
      ("group", .string(group.key.name)), ("commands", .integer(group.breakdown.commands)),
    ]
    return .object(identity + breakdown(group.breakdown, { _ in [] }))
  }
}
