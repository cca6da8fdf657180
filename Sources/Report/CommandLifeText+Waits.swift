import Evidence
import KernelTimeline
import Text

/// What a command of the kernel's PCI endpoint driver waited behind.
extension WaitReasons {
  /// "It waited 1.20 ms until a worker started it, on CPU 0, behind".
  public var heading: String { "It waited \(Quantity.time(totalNs)) until \(wait.end), on CPU \(cpu), behind" }

  /// For how long, in one width, and behind what, the longest first.
  public func rows(of qid: UInt16, _ cid: UInt16) -> [(time: String, what: String)] {
    let rows = reasons.map {
      (ns: $0.times.sum, what: "\(name(of: $0.item, qid, cid)): \(activities($0.times))")
    }
    let others = others == 0 ? [] : [(ns: othersNs, what: "\(Quantity.count(others, "more work item"))")]
    let idle = DriverActivity.allCases.filter { !$0.isWork && self.idle[$0] > 0 }.map {
      (ns: self.idle[$0], what: $0.explanation)
    }
    let all = rows + others + idle
    let width = all.map { Quantity.time($0.ns).count }.max() ?? 0
    return all.map { row in
      let time = Quantity.time(row.ns)
      return (String(repeating: " ", count: width - time.count) + time, row.what)
    }
  }

  private func name(of item: WorkItem, _ qid: UInt16, _ cid: UInt16) -> String {
    let isItself = item.isCommand && item.controller == controller && item.qid == qid && item.cid == cid
    return isItself ? "its own worker" : item.name(for: controller)
  }

  /// "data-out 1.20 ms, execute 30.0 µs", the three longest.
  private func activities(_ times: DriverTimes) -> String {
    DriverActivity.allCases.filter { times[$0] > 0 }.sorted { times[$0] > times[$1] }.prefix(3)
      .map { "\($0.phrase) \(Quantity.time(times[$0]))" }.joined(separator: ", ")
  }
}

extension WorkItem {
  /// "command 5 of queue 1"; with the controller if it is not this one.
  public func name(for controller: UInt16) -> String {
    let whose = self.controller == controller ? "" : " of controller \(self.controller)"
    return isCommand ? "command \(cid) of queue \(qid)\(whose)" : "completion work of queue \(qid)\(whose)"
  }
}

extension CommandLifeText {
  /// A paragraph for each wait.
  var waitLines: [String] {
    life.waits.flatMap { wait in
      ["", wrapped(wait.heading)] + wait.rows(of: facts.qid, facts.cid).map { "  \($0.time)  \($0.what)" }
    }
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
