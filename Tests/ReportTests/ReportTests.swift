import Analysis
@_spi(Places) import Events
import Foundation
import NVMe
import Testing
import Text
import Trace

@testable import Report

/// A trace of `commands` reads at queue depth 1; every hundredth executes slowly and moves its data in `slowOutNs`.
private func summary(commands: UInt32, hasHost: Bool, grouping: Grouping? = nil, slowOutNs: UInt64 = 300) -> Summary {
  var analyzer = StageAnalyzer(grouping: grouping)
  func ingest(_ record: Record, _ source: Source = .engine) { analyzer.ingest(record, source: source) }
  ingest(Record(time: 0, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
  var now: UInt64 = 1000
  for number in 0..<commands {
    let cid = UInt16(truncatingIfNeeded: number)
    let tail = UInt64(number + 1)
    let opcode: UInt8 = number % 2 == 0 ? 2 : 1
    if hasHost {
      ingest(Record(time: now - 40, kind: .submit, flags: opcode, qid: 1, cid: cid), .host)
      ingest(Record(time: now, kind: .doorbell, qid: 1, a: tail), .host)
    }
    ingest(Record(time: now + 110, kind: .doorbell, qid: 1, a: tail, b: 90))
    ingest(Record(time: now + 200, kind: .fetch, qid: 1, cid: cid, a: UInt64(number), b: 75))
    ingest(Record(time: now + 260, kind: .map, qid: 1, cid: cid, b: 45))
    ingest(Record(time: now + 260, kind: .executeBegin, flags: opcode, qid: 1, cid: cid))
    let isSlow = number % 100 == 99
    let outNs = isSlow ? slowOutNs : 300
    now += isSlow ? 9000 : 0
    ingest(Record(time: now + 960, kind: .executeEnd, qid: 1, cid: cid))
    now -= 300 - outNs
    ingest(Record(time: now + 1260, kind: .segment, qid: 1, cid: cid, b: Record.pair(4096, UInt32(outNs))))
    let dw3 = UInt32(cid) | 1 << 16
    ingest(Record(time: now + 1290, kind: .completion, qid: 1, cid: cid, b: Record.pair(1 << 16, dw3)))
    ingest(Record(time: now + 1310, kind: .interrupt, qid: 1, b: 1))
    if hasHost {
      ingest(Record(time: now + 1500, kind: .completion, qid: 1, cid: cid, b: Record.pair(1 << 16, dw3)), .host)
      ingest(Record(time: now + 1540, kind: .doorbell, flags: 1, qid: 1, a: tail), .host)
    }
    ingest(Record(time: now + 1600, kind: .doorbell, flags: 1, qid: 1, a: tail))
    now += 2000
  }
  return analyzer.summary()
}

private func object(_ text: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
}

@Suite("The report for a person")
struct TextTests {
  @Test("escapes a name from the trace")
  func hostileName() {
    var analyzer = StageAnalyzer(subject: .controller(1))
    let name = Array("\u{1b}[2J\n\u{202e}".utf8)
    let record = Record(kind: .probe, flags: Record.carriesBytesFlag, a: 10, b: UInt64(name.count) | 5 << 32)
    name.withUnsafeBytes { analyzer.ingest(record, source: .kernel, stream: 0, tail: $0) }
    let text = Report.text(analyzer.summary())
    #expect(text.contains("\\x1b[2J\\n\\u{202e}"))
    #expect(!text.unicodeScalars.contains { $0 == "\u{1b}" || $0 == "\u{202e}" })
  }

  @Test("begins with the stage that dominates, then the one that makes the tail")
  func sentences() {
    let findings = Report.findings(summary(commands: 1000, hasHost: true))
    #expect(
      findings[0].hasPrefix("Execute is the largest part: 700 ns of the 1.54 µs of a typical command (45%), then "))
    #expect(findings.contains { $0.contains("execute makes commands slow: the slowest 1.0% of the commands") })
    #expect(findings.contains { $0.hasPrefix("Nothing is saturated. The engine's thread is busy ") })
    #expect(findings.contains("No event was lost, and no command is left out."))
  }

  /// Four commands at a time, each executed for 500 ns after the one before.
  @Test("says of many commands in flight what they wait for, rather than where")
  func queueing() {
    var analyzer = StageAnalyzer()
    func ingest(_ record: Record) { analyzer.ingest(record, source: .engine) }
    ingest(Record(time: 0, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    var now: UInt64 = 1000
    for round in 0..<50 as Range<UInt32> {
      let cids = (0..<4 as Range<UInt32>).map { round * 4 + $0 }
      ingest(Record(time: now, kind: .doorbell, qid: 1, a: UInt64(round + 1) * 4, b: 50))
      for cid in cids {
        now += 20
        ingest(Record(time: now, kind: .fetch, qid: 1, cid: UInt16(cid), a: UInt64(cid), b: 20))
      }
      for cid in cids {
        ingest(Record(time: now + 10, kind: .map, qid: 1, cid: UInt16(cid), b: 10))
        ingest(Record(time: now + 10, kind: .executeBegin, flags: 2, qid: 1, cid: UInt16(cid)))
        now += 510
        ingest(Record(time: now, kind: .executeEnd, qid: 1, cid: UInt16(cid)))
      }
      for cid in cids {
        now += 10
        ingest(
          Record(time: now, kind: .completion, qid: 1, cid: UInt16(cid), b: Record.pair(1 << 16, cid | 1 << 16)))
      }
      now += 50
      ingest(Record(time: now, kind: .doorbell, flags: 1, qid: 1, a: UInt64(round + 1) * 4, b: 50))
      now += 50
    }
    let findings = Report.findings(analyzer.summary())
    #expect(
      findings[0].hasPrefix("Waiting dominates: ")
        && findings[0].contains("while the engine's thread executed others (1.50 µs). Its own service takes "))
    #expect(
      findings.contains { $0.hasPrefix("The engine's thread bounds throughput: ") && $0.contains("with executing") })
  }

  @Test("tells how precise mean and median are, unless there are too few commands")
  func precision() throws {
    let findings = Report.findings(summary(commands: 1000, hasHost: true))
    let sentence = try #require(findings.first { $0.hasPrefix("With 95% confidence the mean latency is ") })
    #expect(sentence.contains(" ± ") && sentence.contains("the median lies between "))
    let json = try object(Report.json(summary(commands: 1000, hasHost: true)))
    let latency = try #require(json["latency"] as? [String: Any])
    func time(_ key: String) throws -> Double { try #require(latency[key] as? Double) }
    let (low, mean, high) = (try time("mean_low_ns"), try time("mean_ns"), try time("mean_high_ns"))
    #expect(low < mean && mean < high)
    #expect(!Report.findings(summary(commands: 999, hasHost: true)).contains { $0.contains("confidence") })
  }

  @Test("says that a typical command took no time, though a few took some")
  func noTypicalTime() {
    var analyzer = StageAnalyzer()
    for number in 0..<40 as Range<UInt32> {
      let (cid, time) = (UInt16(number), UInt64(number) * 1000)
      analyzer.ingest(Record(time: time, kind: .doorbell, qid: 1, a: UInt64(number + 1)), source: .engine)
      analyzer.ingest(Record(time: time, kind: .fetch, qid: 1, cid: cid, a: UInt64(number)), source: .engine)
      let dw3 = UInt32(cid) | 1 << 16
      analyzer.ingest(
        Record(time: time, kind: .completion, qid: 1, cid: cid, b: Record.pair(1 << 16, dw3)), source: .engine)
      let end = time + (number == 39 ? 500 : 0)
      analyzer.ingest(
        Record(time: end, kind: .doorbell, flags: 1, qid: 1, a: UInt64(number + 1)), source: .engine)
    }
    let findings = Report.findings(analyzer.summary())
    #expect(findings[0].hasPrefix("A typical command took less time than the resolution of the trace's clock"))
  }

  @Test("a stage that grows by more than the whole command has no share above 100%")
  func shrinkingStages() {
    let findings = Report.findings(summary(commands: 1000, hasHost: true, slowOutNs: 100))
    #expect(
      findings.contains {
        $0.hasSuffix("8.71 µs above the mean: execute takes 8.91 µs longer, everything else 198 ns less.")
      })
  }

  @Test("does not count events as lost if a reset ended the commands")
  func interrupted() throws {
    var analyzer = StageAnalyzer()
    analyzer.ingest(Record(time: 100, kind: .doorbell, qid: 1, a: 1), source: .engine)
    analyzer.ingest(Record(time: 200, kind: .fetch, qid: 1, cid: 7), source: .engine)
    analyzer.ingest(Record(time: 300, kind: .reset), source: .engine)
    #expect(
      Report.findings(analyzer.summary()).contains(
        "1 command did not complete because the device was reset."))
    #expect(try object(Report.json(analyzer.summary()))["interrupted"] as? Int == 1)
  }

  @Test("states what is unknown without the host's stream")
  func undetected() {
    let findings = Report.findings(summary(commands: 10, hasHost: false))
    #expect(findings.contains { $0.hasPrefix("Detect is only bounded: without a host stream") })
    #expect(!findings.contains { $0.contains("fio") })
  }

  @Test("states first why the controller stopped, and does not claim that nothing was lost")
  func stopped() throws {
    var analyzer = StageAnalyzer()
    analyzer.ingest(
      Record(time: 10, kind: .registerWrite, flags: 8, a: Register.asq, b: 0x1_02dd_9000), source: .engine)
    analyzer.ingest(Event.Fetch(time: 800_000, flags: .failed).record, source: .engine)
    let findings = Report.findings(analyzer.summary())
    #expect(
      findings[0]
        == "The controller stopped (CSTS.CFS) 800 µs into the trace: it could not fetch from submission queue 0 at host "
        + "address 0x102dd9000; the client did not share that memory (QEMU: memory-backend-memfd,share=on), or removed it. No command was "
        + "fetched after that.")
    #expect(!findings.contains { $0.hasPrefix("No event was lost") })
    let stops = try #require(try object(Report.json(analyzer.summary()))["stops"] as? [String: Any])
    #expect(stops["unreached"] as? String == "submission queue" && stops["address"] as? String == "0x102dd9000")
    #expect(stops["qid"] as? Int == 0 && stops["first_ns"] as? Int == 800_000 && stops["recovered"] as? Bool == false)
  }

  @Test("says how often the controller stopped, and that it recovered")
  func recovered() {
    var analyzer = StageAnalyzer()
    for time in [UInt64(1000), 2000] {
      analyzer.ingest(Event.Completion(time: time, flags: .failed, cqid: 3).record, source: .engine)
      analyzer.ingest(Record(time: time + 1, kind: .reset), source: .engine)
    }
    analyzer.ingest(Record(time: 3000, kind: .fetch), source: .engine)
    let findings = Report.findings(analyzer.summary())
    #expect(findings[0].hasPrefix("The controller stopped (CSTS.CFS) 1.00 µs into the trace, the first of 2 times: "))
    #expect(
      findings[0].contains("write to completion queue 3; ") && findings[0].hasSuffix(" It recovered after a reset."))
    #expect(findings.contains("No event was lost, and no command is left out."))
  }

  @Test("lists all ten stages, the unexplained time and the total in order within 80 columns")
  func table() {
    let text = StageTable(summary(commands: 1000, hasHost: true)).text
    let lines = text.split(separator: "\n")
    let names = lines.map { String($0.prefix { $0 != " " }) }
    let wanted = Stage.allCases.map(\.name) + ["between"]
    #expect(names.filter(wanted.contains) == wanted)
    #expect(lines.allSatisfy { $0.count <= 80 && $0.last != " " })
  }

  @Test("has no table for a trace without commands")
  func empty() {
    let text = Report.text(StageAnalyzer().summary())
    #expect(text.hasPrefix("The trace contains no complete I/O command."))
    #expect(!text.contains("total"))
  }

  @Test("has a table for every group")
  func groups() {
    let text = Report.text(summary(commands: 10, hasHost: true, grouping: .opcode))
    #expect(text.contains("\nread: 5 commands in "))
    #expect(text.contains("\nwrite: 5 commands in "))
  }
}

@Suite("The report for a program")
struct JSONTests {
  @Test("has the keys of its format, and all ten stages in order")
  func keys() throws {
    let report = try object(Report.json(summary(commands: 1000, hasHost: true)))
    #expect(report["format"] as? String == "nvmepf-report/1")
    #expect(report["commands"] as? Int == 1000)
    #expect(report["lost"] as? Int == 0)
    for key in ["events", "duration_ns", "iops", "queue_depth", "latency", "unexplained", "findings"] {
      #expect(report[key] != nil, "\(key)")
    }
    let stages = try #require(report["stages"] as? [[String: Any]])
    #expect(stages.map { $0["stage"] as? String } == Stage.allCases.map(\.name))
    for stage in stages {
      for key in ["mean_ns", "share", "max_ns", "waiting_mean_ns"] { #expect(stage[key] is NSNumber) }
      // 1000 commands support the 99th percentile, not the 99.9th; the null device moves no data from the host.
      #expect(stage["p99_ns"] is NSNull == (stage["having"] as? Int != 1000) && stage["p999_ns"] is NSNull)
    }
    #expect(stages[0]["turn_mean_ns"] is NSNumber)
    #expect(stages[7]["cq_full_mean_ns"] is NSNumber)
  }

  @Test("has stages whose means and the unexplained time add up to the mean latency")
  func sum() throws {
    let report = try object(Report.json(summary(commands: 997, hasHost: false)))
    func mean(_ value: Any?) -> Double { ((value as? [String: Any])?["mean_ns"] as? NSNumber)?.doubleValue ?? .nan }
    let stages = try #require(report["stages"] as? [Any])
    let sum = stages.map(mean).reduce(mean(report["unexplained"]), +)
    #expect(abs(sum - mean(report["latency"])) < 1e-9 * sum)
  }

  @Test("is complete without commands")
  func empty() throws {
    let report = try object(Report.json(StageAnalyzer().summary()))
    #expect(report["commands"] as? Int == 0)
    #expect((report["stages"] as? [Any])?.count == Stage.allCases.count)
  }

  @Test("has the requested groups")
  func groups() throws {
    let report = try object(Report.json(summary(commands: 10, hasHost: true, grouping: .queue)))
    let groups = try #require(report["groups"] as? [[String: Any]])
    #expect(groups.map { $0["group"] as? String } == ["queue 1"])
  }

  @Test("escapes what JSON does not allow in a string")
  func escapes() {
    #expect(JSON.string("a\"b\\c\n").text == #""a\"b\\c\u000a""#)
  }
}

@Suite("Lines")
struct WrappingTests {
  @Test("a number stays with its unit where a line breaks")
  func wrapping() {
    let text = wrapped(String(repeating: "word ", count: 16) + "and 2.20 µs more")
    #expect(text.hasSuffix("\n  2.20 µs more"))
    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 88 })
  }
}
