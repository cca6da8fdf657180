import Analysis
import KernelTimeline
import Text

/// What commands of the kernel's PCI endpoint driver waited for, and behind whom.
extension Findings {
  /// Handoffs between threads of the driver.
  var handoffs: String? {
    guard let handoffs = summary.handoffs else { return nil }
    let all = [handoffs.dispatch, handoffs.wakeUp, handoffs.completion].reduce(0) { $0 + $1.meanNs }
    guard all > 0 else { return nil }
    return
      "Waiting for a thread to run takes \(Quantity.time(all)) of the mean (\(Quantity.roughly(all / meanNs))): "
      + "\(Quantity.time(handoffs.dispatch.meanNs)) until a worker starts the command, \(Quantity.time(handoffs.wakeUp.meanNs)) from "
      + "its execution to its data, \(Quantity.time(handoffs.completion.meanNs)) until its completion queue's work runs."
  }

  /// What the CPU did meanwhile that then ran the worker, or the completion queue's work.
  var driverWaits: [String] {
    guard let driver = summary.driver, let handoffs = summary.handoffs else { return [] }
    let started = Double(driver.waits.started) / Double(io.commands)
    let others = started >= 0.05 ? ", \(Quantity.significant(started)) of which started meanwhile" : ""
    return [
      wait(
        handoffs.dispatch.meanNs, "a worker starts", "other commands", others, "the worker", driver.waits.dispatch),
      wait(
        handoffs.completion.meanNs, "the completion queue's work runs", "commands", "", "the work",
        driver.waits.completion),
    ].compactMap { $0 }
  }

  private func wait(
    _ ns: Double, _ event: String, _ whom: String, _ others: String, _ waiter: String, _ sums: DriverTimes
  ) -> String? {
    guard ns >= 0.05 * meanNs else { return nil }
    func mean(_ sum: UInt64) -> Double { Double(sum) / Double(io.commands) }
    let idle = mean(sums[.polling] &+ sums[.untraced])
    var parts: [String] = []
    if sums.work > 0 { parts.append("served \(whom) for \(Quantity.time(mean(sums.work)))\(stages(sums))\(others)") }
    if idle >= 0.01 * ns {
      let polls = sums[.polling] > sums[.untraced] ? ", on the CPU that polls the submission queues" : ""
      parts.append("ran no traced work for \(Quantity.time(idle)): \(waiter) waited to be scheduled\(polls)")
    }
    if mean(sums[.unknown]) >= 0.01 * ns {
      parts.append("did what the trace does not tell for \(Quantity.time(mean(sums[.unknown])))")
    }
    guard !parts.isEmpty else { return nil }
    return "Of the \(Quantity.time(ns)) until \(event), its CPU " + parts.joined(separator: ", and ") + "."
  }

  /// " (execute 434 µs, data-out 391 µs)": what they spent it in, the largest first.
  private func stages(_ sums: DriverTimes) -> String {
    let work = DriverActivity.allCases.filter { $0.isWork && sums[$0] > sums.work / 20 }
    let named = work.sorted { sums[$0] > sums[$1] }.prefix(4).map {
      "\($0.phrase) \(Quantity.time(Double(sums[$0]) / Double(io.commands)))"
    }
    return named.isEmpty ? "" : " (\(named.joined(separator: ", ")))"
  }
}

extension DriverActivity {
  /// The name in sentences and tables.
  var phrase: String {
    switch self {
    case .wakeUp: "executed → data-out"
    case .complete: "end of work"
    case .completionWork: "completion work"
    case .polling: "polling, or untraced"
    default: name
    }
  }
}
