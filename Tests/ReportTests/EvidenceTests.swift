import Analysis
import Evidence
import Foundation
import Testing
import Trace

@testable import Report

/// What leads from a report's numbers to the trace, of a golden trace.
@Suite("Evidence in a report")
struct EvidenceTests {
  private func reader(_ name: String) throws -> TraceReader {
    try TraceReader(path: #filePath.replacing("Tests/ReportTests/EvidenceTests.swift", with: "traces/\(name).nvpt"))
  }

  private func slowest(_ count: Int, of name: String) throws -> (summary: Summary, lives: [CommandLife]) {
    var slowest = SlowestCommands(count)
    let reader = try reader(name)
    let summary = try Summary(of: reader, windowNs: 1_000_000_000) { if $0.qid != .admin { slowest.add($0) } }
    return (summary, try CommandLife.read(slowest.commands, of: reader, .endpoint))
  }

  @Test("the life of a command has a line for each event, with the time since it began and the stage that ends")
  func life() throws {
    let (_, lives) = try slowest(1, of: "qd1-read")
    let lines = Report.text(lives[0]).split(separator: "\n").map(String.init)
    let first = lines.prefix(2).map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " ")
    #expect(first.contains("opcode read, nsid 1, slba "))
    #expect(first.contains("status success; it began at \(lives[0].times.begin) ns."))
    let heading = try #require(lines.firstIndex { $0.hasSuffix("from      event") })
    #expect(lines.count - heading - 1 == lives[0].events.count)
    let fetch = try #require(lines.first { $0.contains("fetch: opcode read") })
    #expect(fetch.split(separator: " ").prefix(3).dropFirst() == ["fetch", "engine/0"])
    let last = try #require(lines.last)
    #expect(last.contains("reap"))
  }

  @Test("JSON has the same events, and the windows")
  func json() throws {
    let (summary, lives) = try slowest(3, of: "errors")
    let text = Report.json(summary, lives)
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let commands = try #require(object["slowest"] as? [[String: Any]])
    #expect(commands.count == 3)
    for (command, life) in zip(commands, lives) {
      #expect((command["events"] as? [Any])?.count == life.events.count)
      #expect(command["total_ns"] as? UInt64 == life.times.total)
    }
    let windows = try #require(object["windows"] as? [[String: Any]])
    #expect(windows.reduce(0) { $0 + ($1["commands"] as? Int ?? 0) } == object["commands"] as? Int)
  }

  @Test("a table of windows has a line for each, and no percentile that too few commands support")
  func windows() throws {
    let windows = try #require(try Summary(of: reader("qd1-read"), windowNs: 1_000_000).windows)
    let lines = WindowTable(try #require(windows.values), lengthNs: windows.lengthNs).text.split(separator: "\n")
    #expect(lines.count == 2 + Int(windows.count))
    #expect(
      lines[0].split(separator: " ") == ["ms", "commands", "failed", "IOPS", "mean", "p50", "p99", "max", "depth"])
    #expect(Set(lines.map(\.count)).count == 1)
    for line in lines.dropFirst(2) { #expect(line.contains(" - ")) }
  }

  @Test("a filter tells how many commands it selects, and depth is not said of a part")
  func selection() throws {
    let findings = Report.findings(try Summary(of: reader("qd32-mixed"), filter: CommandFilter("opcode == write")))
    #expect(findings[0].hasPrefix("The filter selects "))
    #expect(!findings.contains { $0.contains("mean queue depth") })
  }
}
