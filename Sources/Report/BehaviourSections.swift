import Analysis
import EventTable
import Events
import NVMe
import Text

/// The sections below the stages: failures, the host's behaviour, and commands without an end. Each is empty if the
/// trace shows nothing of it.
struct BehaviourSections {
  private let summary: Summary

  init(_ summary: Summary) { self.summary = summary }

  var texts: [String] { [failures, host, unfinished].compactMap { $0 } }

  private func section(_ title: String, _ lines: [String]) -> String {
    ([title] + lines.map { wrapped("- " + $0) }).joined(separator: "\n")
  }

  // MARK: Failures

  private var failures: String? {
    guard !summary.failures.isEmpty else { return nil }
    var lines = summary.failures.map { failure in
      "\(failure.command), \(Status(rawValue: failure.status).text): \(Quantity.count(failure.count)), first event "
        + "\(Quantity.count(failure.firstEvent)) (command \(failure.firstCID) of queue \(failure.firstQID), "
        + "\(Quantity.time(failure.firstNs)) into the trace)"
    }
    if summary.otherFailures > 0 { lines.append("\(Quantity.count(summary.otherFailures)) of other kinds") }
    return section(summary.among == nil ? "Failures" : "Failures in the whole trace", lines)
  }

  // MARK: Host

  private var host: String? {
    guard !summary.hostBehaviour.isEmpty else { return nil }
    var lines = summary.hostBehaviour.map { behaviour in
      let times = behaviour.count == 1 ? "" : ", the first of \(Quantity.count(behaviour.count, "time"))"
      return "event \(Quantity.count(behaviour.firstEvent)), \(Quantity.time(behaviour.firstNs)) into the trace"
        + "\(times): \(behaviour.sentence) (Base 2.1, \(behaviour.section))"
    }
    if summary.otherHostBehaviour > 0 {
      lines.append("\(Quantity.count(summary.otherHostBehaviour, "time")) of other kinds or queues")
    }
    return section("Host behaviour", lines)
  }

  // MARK: Unfinished commands

  private var unfinished: String? {
    UnfinishedText(summary).map { section("Unfinished commands", $0.lines) }
  }
}

/// The commands without a completion at the end of a trace, a line each.
public struct UnfinishedText {
  public let lines: [String]

  /// Nil if there are none.
  public init?(_ summary: Summary) {
    let named = summary.oldestUnfinished
    guard !named.isEmpty else { return nil }
    var lines = named.map(\.sentence)
    // The number of those that are not named is known of I/O commands only.
    let namedIO = UInt64(named.filter { $0.qid != 0 }.count)
    if summary.unfinished > namedIO { lines.append("\(Quantity.count(summary.unfinished - namedIO)) more") }
    self.lines = lines
  }

  /// One of them for programs, as in the report and in the output of replay and info.
  public static func object(_ command: UnfinishedCommand) -> JSON {
    .object(
      [("qid", .integer(command.qid)), ("cid", .integer(command.cid))]
        + (command.opcode.map { [("opcode", .integer($0))] } ?? []) + [
          ("stage", .string(command.stage.name)), ("age_ns", .integer(command.ageNs)),
          ("owed", .string(command.owed.rawValue)), ("last_event", .integer(command.lastEvent)),
          ("last_event_kind", .string(command.last.description.name)),
          ("last_event_ago_ns", .integer(command.lastAgoNs)),
        ])
  }
}

extension UnfinishedCommand {
  /// "command 17 of queue 1 (read)"
  var name: String { "command \(cid) of queue \(qid) (\(commandName(opcode, isAdmin: qid == 0)))" }

  fileprivate var sentence: String {
    let ago = lastAgoNs == 0 ? "at the end" : "\(Quantity.time(lastAgoNs)) before the end"
    return "\(name), \(Quantity.time(ageNs)) old; last event "
      + "\(Quantity.count(lastEvent)), \(last.description.name), \(ago); \(next)"
  }

  /// What has not happened to it.
  var next: String {
    switch owed {
    case .fetch: "the controller has not fetched it"
    case .dispatch: "fetched, not executed"
    case .data: "mapped, not executed"
    case .backend: "the backend has not completed it"
    case .completion: "executed, its completion is missing"
    case .queueRoom: "executed, but completion queue \(cqid ?? qid) is full until the host frees an entry"
    case .reap: "completed, but the host has not taken the completion"
    case .reset: "the controller has stopped, and completes nothing until it is reset"
    }
  }
}

extension CommandFailure {
  fileprivate var command: String { commandName(opcode, isAdmin: isAdmin) }
}

/// `read`, `admin identify`.
private func commandName(_ opcode: UInt8?, isAdmin: Bool) -> String {
  guard let opcode else { return isAdmin ? "admin, unknown opcode" : "unknown opcode" }
  return (isAdmin ? GroupKey.adminOpcode(opcode) : GroupKey.ioOpcode(opcode)).name
}

extension Status {
  fileprivate var text: String { "status \(code.hex(digits: 3))" + (name.map { " (\($0))" } ?? "") }
}

extension HostBehaviour {
  fileprivate var sentence: String {
    let queue = qid.map { "queue \($0)" } ?? ""
    let place = address.map { " at host address \($0.hex)" } ?? ""
    let stop = isFatal ? "; the controller stopped (CSTS.CFS)" : ""
    let value = doorbell.map(String.init) ?? ""
    let size = entries.map { "\(Quantity.count($0)) entries" } ?? ""
    return switch kind {
    case .failedFetch: "the controller could not fetch from submission \(queue)\(place)\(stop)"
    case .failedCompletion: "the controller could not write to completion \(queue)\(place)\(stop)"
    case .fatal: "the controller stopped (CSTS.CFS): \(reason)"
    case .unreachableMemory: "command \(cid ?? 0) of \(queue) names memory that is not accessible\(place)"
    case .doorbellOutsideQueue: "the host wrote \(value) to a doorbell of \(queue), which has \(size)"
    case .doorbellWithoutQueue: "the host wrote \(value) to a doorbell of \(queue), which does not exist"
    case .tailPassesHead:
      "the host's tail \(value) adds commands to submission \(queue) (\(size)), which has no room for them"
    case .headPassesTail: "the host's head \(value) frees entries of completion \(queue) (\(size)) that were not posted"
    case .reusedIdentifier: "the host used identifier \(cid ?? 0) again, whose command of \(queue) was in flight"
    case .completionQueueFull:
      "completion \(queue)\(entries == nil ? "" : " (\(size))") was full"
        + (isStillFull ? ", and the host freed no entry until the trace ended" : "")
    }
  }

  private var reason: String {
    switch cause {
    case .keepAlive: "the keep alive timer expired"
    case .configuration: "the host enabled it with unsupported values"
    case .flush: "the flush of a shutdown failed"
    case .unknown, nil: "the trace does not show why"
    }
  }
}

// MARK: JSON

extension BehaviourSections {
  /// Members of the report's JSON object.
  var members: [(String, JSON)] {
    [
      ("unfinished_commands", .array(summary.oldestUnfinished.map(UnfinishedText.object))),
      ("dropped", .object(summary.drops.map { ($0.drop.rawValue, .integer($0.commands)) })),
      ("failures", .array(summary.failures.map(object))), ("other_failures", .integer(summary.otherFailures)),
      ("host_behaviour", .array(summary.hostBehaviour.map(object))),
      ("other_host_behaviour", .integer(summary.otherHostBehaviour)),
    ]
  }

  private func object(_ failure: CommandFailure) -> JSON {
    .object(
      [("admin", .boolean(failure.isAdmin))] + (failure.opcode.map { [("opcode", .integer($0))] } ?? []) + [
        ("name", .string(failure.command)), ("status", .integer(failure.status & 0x7ff)),
        ("count", .integer(failure.count)),
        ("first_event", .integer(failure.firstEvent)), ("first_ns", .integer(failure.firstNs)),
        ("first_qid", .integer(failure.firstQID)), ("first_cid", .integer(failure.firstCID)),
      ])
  }

  private func object(_ behaviour: HostBehaviour) -> JSON {
    var members: [(String, JSON)] = [
      ("kind", .string(behaviour.kind.rawValue)), ("count", .integer(behaviour.count)),
      ("first_event", .integer(behaviour.firstEvent)), ("first_ns", .integer(behaviour.firstNs)),
      ("section", .string("Base 2.1, \(behaviour.section)")), ("fatal", .boolean(behaviour.isFatal)),
    ]
    if let qid = behaviour.qid { members.append(("qid", .integer(qid))) }
    if let cid = behaviour.cid { members.append(("cid", .integer(cid))) }
    if let address = behaviour.address { members.append(("address", .string(address.hex))) }
    if let value = behaviour.doorbell { members.append(("doorbell", .integer(value))) }
    if let entries = behaviour.entries { members.append(("entries", .integer(entries))) }
    if let cause = behaviour.cause { members.append(("cause", .string(cause.rawValue))) }
    if behaviour.kind == .completionQueueFull { members.append(("until_end", .boolean(behaviour.isStillFull))) }
    return .object(members)
  }
}
