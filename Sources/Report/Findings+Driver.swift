import Analysis
import KernelTimeline
import Text

/// What commands of the kernel's PCI endpoint driver waited for, and behind whom.
extension Findings {
  /// Handoffs between threads of the driver.
  var handoffs: String? {
    guard let handoffs = summary.handoffs else { return nil }
    let all = io.waiting.meanNs
    guard all > 0 else { return nil }
    let parts = [
      (io.waitingMeanNs(.detect), "until the fetch begins"),
      (handoffs.dispatch.meanNs, "until a worker starts the command"),
      (handoffs.completion.meanNs, "until the work of its completion queue runs"),
    ]
    return "Waiting takes \(Quantity.time(all)) of the mean (\(Quantity.roughly(all / meanNs))): "
      + parts.filter { $0.0 > 0 }.map { "\(Quantity.time($0.0)) \($0.1)" }.joined(separator: ", ") + "."
  }

  /// Waiting for the lock of a channel, within other stages.
  var channelWaits: String? {
    guard let driver = summary.driver else { return nil }
    let ns = Double(driver.waits.channel) / Double(io.commands)
    guard ns >= 0.01 * meanNs, ns > 0 else { return nil }
    let occupied = Channel.allCases.filter { driver.channels[$0.rawValue].waits > 0 }
    let channels = occupied.enumerated().map { place, channel in
      let use = driver.channels[channel.rawValue]
      return "\(Quantity.count(use.waits)) of \(Quantity.count(use.transfers))"
        + (place == 0 ? " transfers found \(channel.phrase) occupied" : " found \(channel.phrase) occupied")
    }
    return
      "Commands waited \(Quantity.time(ns)) of the mean (\(Quantity.roughly(ns / meanNs))) for other commands' transfers: "
      + channels.joined(separator: ", ") + "."
  }

  /// What bounds throughput.
  var driverBound: String? {
    guard let driver = summary.driver, summary.among == nil, io.commands >= Findings.boundMin else { return nil }
    let resources = resources(of: driver)
    guard let first = resources.first else { return nil }
    let held = driver.durationNs == 0 ? 0 : Double(io[.execute].sumNs) / Double(driver.durationNs)
    if first.busy >= Findings.saturated {
      let next = resources.dropFirst().min { $0.ceiling < $1.ceiling }
      return "\(first.name.capitalizedFirst) bounds throughput: it is busy \(Quantity.roughly(first.busy)) of the time"
        + "\(largest(of: first, driver)), and can do \(rate(first.ceiling))."
        + (next.map { " The next bound is \($0.name) at \(rate($0.ceiling))." } ?? "")
    }
    if held >= 0.5 * io.queueDepth, held >= 1 {
      return
        "The backend bounds throughput: it holds \(Quantity.significant(held)) of \(Quantity.significant(io.queueDepth)) "
        + "commands at any time, \(Quantity.time(io[.execute].meanNs)) each. \(busy(Array(resources.prefix(3))))"
    }
    let next = resources.min { $0.ceiling < $1.ceiling }!
    let (depth, depthMax) = (Quantity.significant(io.queueDepth), Quantity.count(summary.queueDepthMax))
    let text = "Nothing in the driver is saturated. \(busy(Array(resources.prefix(3)))) "
    // Within a burst a resource may well be.
    if Double(summary.queueDepthMax) >= 4 * max(io.queueDepth, 1) {
      return text
        + "That is on average: commands come in bursts, \(depth) in flight in the mean and \(depthMax) at most."
    }
    return text + "Latency bounds throughput: raise the queue depth (now \(depth)), at most to the "
      + "\(rate(next.ceiling)) that \(next.name) can do."
  }

  /// Busiest first.
  func resources(of driver: DriverUse) -> [Resource] {
    let cpus = driver.cpus.filter { $0.busyNs > 0 }.map { cpu in
      Resource(name: "CPU \(cpu.cpu)", busy: driver.share(of: cpu.busyNs), ceiling: ceiling(cpu.busyNs))
    }
    let channels = Channel.allCases.filter { driver.channels[$0.rawValue].busyNs > 0 }.map { channel in
      let ns = driver.channels[channel.rawValue].busyNs
      return Resource(name: channel.phrase, busy: driver.share(of: ns), ceiling: ceiling(ns))
    }
    return (cpus + channels).sorted { $0.busy > $1.busy }
  }

  /// ", 61% of that with data-out"
  private func largest(of resource: Resource, _ driver: DriverUse) -> String {
    guard let cpu = driver.cpus.first(where: { "CPU \($0.cpu)" == resource.name }) else { return "" }
    let share = Double(cpu.times[cpu.largest]) / Double(max(cpu.busyNs, 1))
    return ", \(Quantity.roughly(share)) of that with \(cpu.largest.phrase)"
  }

  /// What the CPU did meanwhile that then fetched, or ran the worker or the completion queue's work.
  var driverWaits: [String] {
    guard let driver = summary.driver, let handoffs = summary.handoffs else { return [] }
    let started = Double(driver.waits.started) / Double(io.commands)
    let others = started >= 0.05 ? ", \(Quantity.significant(started)) of which started during the wait," : ""
    let detect = Double(driver.waits.detect.sum) / Double(io.commands)
    return [
      wait(handoffs.dispatch.meanNs, "a worker starts", "other commands", driver.waits.dispatch, others) {
        "the worker waited to be scheduled\($0)"
      },
      wait(handoffs.completion.meanNs, "the completion queue's work runs", "commands", driver.waits.completion) {
        "the work waited to be scheduled\($0)"
      },
      wait(detect, "the fetch begins", "other commands", driver.waits.detect) { _ in
        "the thread that polls the submission queues had not looked yet, or waited to be scheduled"
      },
    ].compactMap { $0 }
  }

  /// - Parameter idle: why no traced work ran, from the place where it did not.
  private func wait(
    _ ns: Double, _ event: String, _ whom: String, _ sums: DriverTimes, _ others: String = "",
    idle: (_ place: String) -> String
  ) -> String? {
    guard ns >= 0.05 * meanNs else { return nil }
    func mean(_ sum: UInt64) -> Double { Double(sum) / Double(io.commands) }
    let idleNs = mean(sums[.polling] &+ sums[.untraced])
    var parts: [String] = []
    if sums.work > 0 { parts.append("served \(whom)\(others) for \(Quantity.time(mean(sums.work)))\(stages(sums))") }
    if idleNs >= 0.01 * ns {
      let place = sums[.polling] > sums[.untraced] ? ", on the CPU that polls the submission queues" : ""
      parts.append("ran no traced work for \(Quantity.time(idleNs)): \(idle(place))")
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

extension Channel {
  var phrase: String {
    switch self {
    case .fromHost: "the DMA channel from the host"
    case .toHost: "the DMA channel to the host"
    case .window: "the window into host memory"
    }
  }
}

extension DriverActivity {
  /// The name in sentences and tables.
  public var phrase: String {
    switch self {
    case .wakeUp: "executed → data-out"
    case .complete: "end of work"
    case .completionWork: "completion work"
    case .polling: "polling, or untraced"
    default: name
    }
  }
}
