import Analysis
import KernelTimeline
import Text

/// What the kernel's PCI endpoint driver did: while commands waited, and in all.
struct DriverTables {
  private let summary: Summary
  private let driver: DriverUse
  private var commands: Double { Double(summary.io.commands) }

  /// Nil without commands of the driver.
  init?(_ summary: Summary) {
    guard let driver = summary.driver, summary.io.commands > 0 else { return nil }
    (self.summary, self.driver) = (summary, driver)
  }

  /// Each aligned, without a line feed at the end.
  var texts: [String] { [waits, summary.among == nil ? resources : nil].compactMap { $0 } }

  /// A row per activity, a column per wait.
  private var waits: String? {
    let sums = [driver.waits.detect, driver.waits.dispatch, driver.waits.completion]
    guard sums.contains(where: { $0.sum > 0 }) else { return nil }
    let unit = Unit(for: Double(sums.map(\.sum).max()!) / commands)
    func row(_ name: String, _ ns: (DriverTimes) -> UInt64) -> [String] {
      [name] + sums.map { ns($0) > 0 ? unit.mean(Double(ns($0)) / commands) : "-" }
    }
    let body = DriverActivity.allCases.filter { activity in sums.contains { $0[activity] > 0 } }
    return table(
      "what its CPU did until it ran, mean per command", [unit.name, "fetch", "worker", "completion work"],
      body.map { activity in row(activity.phrase) { $0[activity] } }, [row("total", \.sum)])
  }

  /// A row per CPU and channel.
  private var resources: String? {
    let resources = Findings(summary).resources(of: driver)
    guard !resources.isEmpty else { return nil }
    let rows = resources.map { resource in
      [
        resource.name.hasPrefix("the ") ? String(resource.name.dropFirst(4)) : resource.name,
        Quantity.percent(resource.busy), Quantity.decimal(resource.ceiling, 0),
      ]
    }
    let workers = "\(Quantity.significant(driver.workersMean)) at a time, \(Quantity.count(driver.workersMax)) at most"
    return table("how busy it is, and its ceiling; workers: \(workers)", ["", "busy", "commands/s"], rows, [])
  }

  private func table(_ title: String, _ head: [String], _ body: [[String]], _ total: [[String]]) -> String {
    let widths = head.indices.map { column in ([head] + body + total).map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      cells.enumerated().map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column == 0 ? cell + space : "  " + space + cell
      }.joined()
    }
    let rule = String(repeating: "─", count: widths.reduce(2 * (head.count - 1), +))
    let end = total.isEmpty ? [] : [rule] + total.map(line)
    return ([title, line(head), rule] + body.map(line) + end).joined(separator: "\n")
  }
}

extension JSONReport {
  /// What the kernel's PCI endpoint driver did.
  func driver(_ driver: DriverUse) -> JSON {
    let commands = Double(max(summary.io.commands, 1))
    func means(_ sums: DriverTimes) -> JSON {
      .object(DriverActivity.allCases.map { ($0.name, .number(Double(sums[$0]) / commands)) })
    }
    let waits: [(String, JSON)] = [
      ("detect_behind_ns", means(driver.waits.detect)),
      ("dispatch_behind_ns", means(driver.waits.dispatch)),
      ("started_meanwhile", .number(Double(driver.waits.started) / commands)),
      ("completion_behind_ns", means(driver.waits.completion)),
      ("channel_wait_mean_ns", .number(Double(driver.waits.channel) / commands)),
    ]
    guard summary.among == nil else { return .object(waits) }
    return .object(
      waits + [
        ("duration_ns", .integer(driver.durationNs)), ("cpus", .array(driver.cpus.map(cpu))),
        ("channels", .array(Channel.allCases.map { channel($0, driver.channels[$0.rawValue]) })),
        ("workers_mean", .number(driver.workersMean)), ("workers_max", .integer(driver.workersMax)),
      ])
  }

  private func cpu(_ use: CPUUse) -> JSON {
    .object([
      ("cpu", .integer(use.cpu)), ("busy_ns", .integer(use.busyNs)),
      ("activities_ns", .object(DriverActivity.allCases.map { ($0.name, .integer(use.times[$0])) })),
    ])
  }

  private func channel(_ channel: Channel, _ use: ChannelUse) -> JSON {
    .object([
      ("channel", .string(channel.name)), ("transfers", .integer(use.transfers)), ("busy_ns", .integer(use.busyNs)),
      ("waits", .integer(use.waits)), ("wait_ns", .integer(use.waitNs)),
    ])
  }
}

extension Channel {
  fileprivate var name: String {
    switch self {
    case .fromHost: "dma-from-host"
    case .toHost: "dma-to-host"
    case .window: "window"
    }
  }
}
