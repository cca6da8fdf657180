import Analysis
import Chance
import Diff
@_spi(Places) import Events
import Foundation
import NVMe
import Testing
import Trace

@testable import Report

@Suite("The comparison of recordings")
struct DiffTests {
  /// Reads at queue depth 1, whose execution and data transfer take about so long.
  private func recording(
    _ name: String, seed: UInt64 = 1, executeNs: UInt64 = 10_000, outNs: UInt64 = 500, commands: UInt32 = 1500,
    hasHost: Bool = false, notes: [(String, String)] = []
  ) -> DiffReport.Recording {
    var random = SeededGenerator(seed: seed)
    var analyzer = StageAnalyzer()
    func ingest(_ record: Record) { analyzer.ingest(record, source: .engine) }
    ingest(Record(time: 0, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    var now: UInt64 = 1000
    for number in 0..<commands {
      let cid = UInt16(truncatingIfNeeded: number)
      let executed = now + 300 + UInt64.random(in: executeNs * 9 / 10...executeNs * 11 / 10, using: &random)
      let out = UInt64.random(in: outNs * 9 / 10...outNs * 11 / 10, using: &random)
      if hasHost { analyzer.ingest(Record(time: now - 40, kind: .submit, flags: 2, qid: 1, cid: cid), source: .host) }
      if hasHost { analyzer.ingest(Record(time: now, kind: .doorbell, qid: 1, a: UInt64(number + 1)), source: .host) }
      ingest(Record(time: now, kind: .doorbell, qid: 1, a: UInt64(number + 1), b: 90))
      ingest(Record(time: now + 200, kind: .fetch, qid: 1, cid: cid, a: UInt64(number), b: 75))
      ingest(Record(time: now + 260, kind: .map, qid: 1, cid: cid, b: 45))
      ingest(Record(time: now + 300, kind: .executeBegin, flags: 2, qid: 1, cid: cid))
      ingest(Record(time: executed, kind: .executeEnd, qid: 1, cid: cid))
      ingest(Record(time: executed + out, kind: .segment, qid: 1, cid: cid, b: Record.pair(4096, UInt32(out))))
      now = executed + out + 30
      let completion = Record.pair(1 << 16, UInt32(cid) | 1 << 16)
      ingest(Record(time: now, kind: .completion, qid: 1, cid: cid, b: completion))
      if hasHost {
        let seen = Record(time: now + 50, kind: .completion, qid: 1, cid: cid, b: completion)
        analyzer.ingest(seen, source: .host)
        let freed = Record(time: now + 80, kind: .doorbell, flags: 1, qid: 1, a: UInt64(number + 1))
        analyzer.ingest(freed, source: .host)
      }
      ingest(Record(time: now + 100, kind: .doorbell, flags: 1, qid: 1, a: UInt64(number + 1)))
      now += 1000
    }
    return DiffReport.Recording(name: name, notes: notes, summary: analyzer.summary())
  }

  private func limit(_ text: String) throws -> ChangeLimit { try #require(ChangeLimit(text)) }

  @Test("says what explains a change, and what got worse while the whole got better")
  func sentences() {
    let a = recording("a.nvpt", seed: 1)
    let slower = DiffReport([a], [recording("b.nvpt", seed: 2, executeNs: 15_000)]).findings
    #expect(slower[0].hasPrefix("The mean latency rises by 5.0"), "\(slower)")
    #expect(slower[1].hasPrefix("Execute explains +") && slower[1].contains(" of +5.0"), "\(slower)")
    #expect(slower.contains { $0.contains("the spread between runs is unknown") })
    let faster = DiffReport([a], [recording("b.nvpt", seed: 2, executeNs: 5_000, outNs: 700)]).findings
    #expect(faster[0].hasPrefix("The mean latency falls by 4."), "\(faster)")
    #expect(faster[2].hasPrefix("Worse nevertheless: data-out +"), "\(faster)")
  }

  @Test("says so when a change cannot be separated from noise, or its precision is unknown")
  func noise() {
    let a = recording("a.nvpt", seed: 1)
    let same = DiffReport([a], [recording("b.nvpt", seed: 2)])
    #expect(same.findings[0].contains("cannot be separated from noise"), "\(same.findings)")
    let few = DiffReport([a], [recording("b.nvpt", seed: 2, commands: 200)])
    #expect(few.findings[0].contains("whether that is noise is unknown"), "\(few.findings)")
  }

  @Test("says so when latencies do not begin at the same event")
  func beginnings() {
    let a = recording("a.nvpt", seed: 1)
    func isSaid(_ other: DiffReport.Recording) -> Bool {
      DiffReport([a], [other]).findings.contains { $0.hasPrefix("Not comparable: ") }
    }
    #expect(isSaid(recording("b.nvpt", seed: 2, hasHost: true)) && !isSaid(recording("b.nvpt", seed: 2)))
  }

  @Test("with several recordings of each side, their spread decides")
  func runs() throws {
    let a = (1...3).map { recording("a\($0)", seed: $0) }
    let b = (4...6).map { recording("b\($0)", seed: $0, executeNs: 12_000) }
    let report = DiffReport(a, b, limits: [try limit("execute > 10%"), try limit("execute > 30%")])
    #expect(report.limits.map(\.verdict) == [.exceeded, .notExceeded])
    #expect(!report.findings.contains { $0.contains("spread between runs is unknown") })
  }

  @Test("every line fits 72 columns, whatever the numbers and names are")
  func columns() throws {
    let long = String(repeating: "x", count: 300)
    let wild = recording("\u{1b}[2J\(long)", executeNs: 3, commands: 1000, notes: [("kernel", long), ("\u{1b}", "1")])
    let others = [
      recording("b", executeNs: 4_000_000_000, commands: 1000), recording("c", outNs: 0, commands: 20),
      recording("d", executeNs: 1 << 50, commands: 1100),
    ]
    for other in others {
      for report in [
        DiffReport([wild], [other]), DiffReport([other], [wild]), DiffReport([wild, other], [other, wild]),
      ] {
        for line in report.text.split(separator: "\n") where line.count > 72 { Issue.record("\(line)") }
        #expect(!report.text.contains("\u{1b}"))
      }
    }
  }

  /// Two commands in one batch: the second waits in dispatch for the first, whose execution takes so long.
  private func batches(_ name: String, seed: UInt64, executeNs: UInt64, notes: [(String, String)] = [])
    -> DiffReport.Recording
  {
    var random = SeededGenerator(seed: seed)
    var analyzer = StageAnalyzer()
    func ingest(_ record: Record) { analyzer.ingest(record, source: .engine) }
    ingest(Record(time: 0, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    var now: UInt64 = 1000
    for batch in 0..<750 as Range<UInt32> {
      let tail = UInt64(2 * batch + 2)
      ingest(Record(time: now, kind: .doorbell, qid: 1, a: tail, b: 90))
      for cid in 0..<2 as Range<UInt16> {
        ingest(Record(time: now + 100, kind: .fetch, qid: 1, cid: cid, a: UInt64(2 * batch) + UInt64(cid), b: 50))
      }
      now += 100
      for cid in 0..<2 as Range<UInt16> {
        ingest(Record(time: now + 40, kind: .map, qid: 1, cid: cid, b: 40))
        ingest(Record(time: now + 40, kind: .executeBegin, flags: 2, qid: 1, cid: cid))
        now += 40 + UInt64.random(in: executeNs * 9 / 10...executeNs * 11 / 10, using: &random)
        ingest(Record(time: now, kind: .executeEnd, qid: 1, cid: cid))
        now += 30
        ingest(Record(time: now, kind: .completion, qid: 1, cid: cid, b: Record.pair(1 << 16, UInt32(cid) | 1 << 16)))
      }
      ingest(Record(time: now + 100, kind: .doorbell, flags: 1, qid: 1, a: tail))
      now += 1000
    }
    return DiffReport.Recording(name: name, notes: notes, summary: analyzer.summary())
  }

  @Test("tells a stage's service and its waiting apart: they add up to the stage, and each has its interval")
  func waiting() throws {
    let (a, b) = (batches("a", seed: 1, executeNs: 5000), batches("b", seed: 2, executeNs: 8000))
    let report = DiffReport(
      [a], [b], limits: [try limit("dispatch.waiting > 20%"), try limit("dispatch.service > 20%")])
    #expect(report.limits.map(\.verdict) == [.exceeded, .notExceeded])
    func change(_ name: String) throws -> Comparison.Change {
      try #require(report.comparison.parts.first { $0.statistic.name == name })
    }
    let (dispatch, service, waiting) = (
      try change("dispatch"), try change("dispatch.service"), try change("dispatch.waiting")
    )
    for side in [\Comparison.Change.a, \.b] {
      let (sum, all) = (service[keyPath: side]! + waiting[keyPath: side]!, try #require(dispatch[keyPath: side]))
      #expect((sum - all).magnitude <= 1e-6 * all)
    }
    #expect(waiting.isSeparated && waiting.b! - waiting.a! > 1000 && service.interval != nil)
    // Execute has no waiting; the sentence names what waited.
    #expect(!report.comparison.parts.contains { $0.statistic.name == "execute.waiting" })
    #expect(report.findings.contains { $0.contains("waiting in dispatch") }, "\(report.findings)")
    let lines = report.text.split(separator: "\n").map { $0.split(separator: " ").first ?? "" }
    let stage = try #require(lines.firstIndex(of: "dispatch"))
    // All of it is waiting.
    #expect(service.a == 0 && service.b == 0 && lines[stage + 1] == "waiting")
  }

  @Test("several recordings are each compared with the first: an overview, then each by itself")
  func series() throws {
    let names = ["a", "b", "c"]
    let all = names.enumerated().map { index, name in
      recording(
        name, seed: UInt64(index), executeNs: index == 2 ? 15_000 : 10_000,
        notes: [("kernel", "6.12"), ("cpu", name)])
    }
    let series = DiffSeries(all[0], Array(all[1...]), limits: [try limit("execute > 10%")])
    #expect(series.comparisons.map { $0.limits.map(\.verdict) } == [[.notExceeded], [.exceeded]])
    let lines = series.text.split(separator: "\n")
    #expect(lines.allSatisfy { $0.count <= 72 })
    for (letter, name) in zip(["A", "B", "C"], names) {
      #expect(lines.contains { $0.hasPrefix("\(letter): \(name): ") })
    }
    // The overview: A's values, and how the others differ.
    let rows = lines.filter { $0.hasPrefix("A  ") || $0.hasPrefix("B  ") || $0.hasPrefix("C  ") }
    #expect(rows.count == 3 && rows[0].contains("µs") && rows[1].contains("~"))
    #expect(rows[2].contains("%") && !rows[2].contains("~"), "\(rows)")
    #expect(lines.contains("B compared with A") && lines.contains("C compared with A"))
    #expect(lines.contains("cpu, C: c") && !lines.contains { $0.hasPrefix("kernel") })
    #expect(lines.count { $0.contains("All intervals of differences") } == 1)

    let object = try #require(try JSONSerialization.jsonObject(with: Data(series.json.utf8)) as? [String: Any])
    let more = try #require(object["more"] as? [[String: Any]])
    #expect(more.count == 1 && (more[0]["b"] as? [[String: Any]])?.first?["file"] as? String == "c")
    #expect((object["b"] as? [[String: Any]])?.first?["file"] as? String == "b")
    let two = DiffSeries(all[0], [all[1]])
    #expect(two.text == DiffReport([all[0]], [all[1]]).text && two.json == DiffReport([all[0]], [all[1]]).json)
  }

  @Test("notes of the recordings stand once where both sides agree, else for each side")
  func notes() {
    let a = recording("a", notes: [("kernel", "6.12"), ("cpu", "Xeon"), ("date", "today")])
    let b = recording("b", notes: [("kernel", "6.13"), ("cpu", "Xeon"), ("commit", "c0ffee")])
    let lines = DiffReport([a], [b]).text.split(separator: "\n")
    #expect(lines.contains("cpu: Xeon") && lines.contains("kernel, A: 6.12") && lines.contains("kernel, B: 6.13"))
    #expect(lines.contains("commit, A: unknown") && lines.contains("commit, B: c0ffee"))
    #expect(!lines.contains { $0.hasPrefix("date") })
  }

  @Test("the JSON object holds what the table shows")
  func json() throws {
    let report = DiffReport(
      [recording("a", seed: 1, notes: [("kernel", "6.12")])], [recording("b", seed: 2, executeNs: 15_000)],
      limits: [try limit("p50 > 5%")])
    let data = Data(report.json.utf8)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(object["format"] as? String == "nvmepf-diff/1" && object["spread"] as? String == "batches")
    let rows = try #require(object["statistics"] as? [[String: Any]])
    let execute = try #require(rows.first { $0["statistic"] as? String == "execute" })
    #expect(execute["separated"] as? Bool == true)
    let (low, high) = (execute["difference_low"] as? Double ?? 0, execute["difference_high"] as? Double ?? 0)
    #expect(low > 4500 && low < high && high < 5500)
    #expect((object["limits"] as? [[String: Any]])?.first?["verdict"] as? String == "exceeded")
    #expect(((object["a"] as? [[String: Any]])?.first?["metadata"] as? [String: String]) == ["kernel": "6.12"])
  }
}
