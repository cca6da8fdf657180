import Evidence
import KernelTimeline
import Text

/// What a command of the kernel's PCI endpoint driver waited behind.
extension CommandLifeText {
  /// A paragraph for each wait.
  var waitLines: [String] {
    life.waits.flatMap { wait -> [String] in
      let heading = "It waited \(Quantity.time(wait.totalNs)) until \(wait.wait.end), on CPU \(wait.cpu), behind"
      let rows = wait.reasons.map {
        (ns: $0.times.sum, what: "\(name(of: $0.item, wait.controller)): \(activities($0.times))")
      }
      let others =
        wait.others == 0 ? [] : [(ns: wait.othersNs, what: "\(Quantity.count(wait.others, "more work item"))")]
      let idle = DriverActivity.allCases.filter { !$0.isWork && wait.idle[$0] > 0 }.map {
        (ns: wait.idle[$0], what: $0.explanation)
      }
      let all = rows + others + idle
      let width = all.map { Quantity.time($0.ns).count }.max() ?? 0
      return ["", wrapped(heading)]
        + all.map { row in
          let time = Quantity.time(row.ns)
          return "  " + String(repeating: " ", count: width - time.count) + time + "  " + row.what
        }
    }
  }

  private func name(of item: WorkItem, _ controller: UInt16) -> String {
    let whose = item.controller == controller ? "" : " of controller \(item.controller)"
    guard item.isCommand else { return "completion work of queue \(item.qid)\(whose)" }
    let isItself = whose.isEmpty && item.qid == life.times.facts.qid && item.cid == life.times.facts.cid
    return isItself ? "its own worker" : "command \(item.cid) of queue \(item.qid)\(whose)"
  }

  /// "data-out 1.20 ms, execute 30.0 µs", the three longest.
  private func activities(_ times: DriverTimes) -> String {
    DriverActivity.allCases.filter { times[$0] > 0 }.sorted { times[$0] > times[$1] }.prefix(3)
      .map { "\($0.phrase) \(Quantity.time(times[$0]))" }.joined(separator: ", ")
  }

  /// The same for programs.
  var waits: JSON {
    .array(
      life.waits.map { wait in
        .object(
          [
            ("until", .string(wait.wait.name)), ("cpu", .integer(wait.cpu)), ("total_ns", .integer(wait.totalNs)),
            ("behind", .array(wait.reasons.map(reason))), ("others", .integer(wait.others)),
            ("others_ns", .integer(wait.othersNs)),
          ] + DriverActivity.allCases.filter { !$0.isWork }.map { ("\($0.name)_ns", .integer(wait.idle[$0])) })
      })
  }

  private func reason(_ reason: WaitReasons.Reason) -> JSON {
    let item = reason.item
    let name: [(String, JSON)] =
      item.isCommand
      ? [("qid", .integer(item.qid)), ("cid", .integer(item.cid))] : [("completion_queue", .integer(item.qid))]
    let activities = DriverActivity.allCases.filter { reason.times[$0] > 0 }
    return .object(
      [("controller", .integer(item.controller))] + name + [
        ("total_ns", .integer(reason.times.sum)),
        ("activities_ns", .object(activities.map { ($0.name, .integer(reason.times[$0])) })),
      ])
  }
}

extension WaitReasons.Wait {
  fileprivate var end: String {
    switch self {
    case .detect: "its fetch"
    case .dispatch: "a worker started it"
    case .completion: "its completion queue's work ran"
    }
  }

  fileprivate var name: String {
    switch self {
    case .detect: "fetch"
    case .dispatch: "worker"
    case .completion: "completion-work"
    }
  }
}

extension DriverActivity {
  /// What it means that the CPU did this for no work item.
  fileprivate var explanation: String {
    switch self {
    case .polling: "no traced work, on the CPU that polls the submission queues"
    case .untraced: "no traced work"
    default: "what the trace does not tell"
    }
  }
}
