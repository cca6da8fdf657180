import Analysis
@_spi(Places) import Events
import Foundation
import NVMe
import Testing

@testable import Report

@Suite("The report's sections on failures, host and unfinished commands")
struct BehaviourReportTests {
  private func summary(_ records: [(Record, [UInt8])]) -> Summary {
    var analyzer = StageAnalyzer()
    for (record, tail) in records {
      tail.withUnsafeBytes { analyzer.ingest(record, source: .engine, stream: 0, tail: $0) }
    }
    return analyzer.summary()
  }

  private func doorbell(_ time: UInt64, _ tail: UInt64) -> (Record, [UInt8]) {
    (Record(time: time, kind: .doorbell, qid: 1, a: tail), [])
  }

  private func fetch(_ time: UInt64, cid: UInt16, slot: UInt64, opcode: UInt8) -> (Record, [UInt8]) {
    (Record(time: time, kind: .fetch, qid: 1, cid: cid, tail: 2, a: slot), [opcode] + [UInt8](repeating: 0, count: 63))
  }

  @Test("are absent if there is nothing to say")
  func nothing() throws {
    let text = Report.text(summary([]))
    for title in ["Failures", "Host behaviour", "Unfinished commands"] { #expect(!text.contains(title)) }
    let object = try JSONSerialization.jsonObject(with: Data(Report.json(summary([])).utf8)) as? [String: Any]
    for name in ["failures", "host_behaviour", "unfinished_commands"] {
      #expect((object?[name] as? [Any])?.isEmpty == true)
    }
  }

  @Test("name event, count, section, status and what is owed")
  func all() throws {
    let dw3 = UInt32(7) | 1 << 16 | 0x4080 << 17
    let completion = (Event.Completion(time: 300, cqid: 1, cid: 7, dw2: 1 << 16, dw3: dw3).record, [UInt8]())
    let unreachable = (
      Event.Segment(time: 250, flags: .failed, qid: 1, cid: 7, address: 0xdead_0000_0000_1000).record, [UInt8]()
    )
    let begin = (Event.ExecuteBegin(time: 1_000_400, opcode: 1, qid: 1, cid: 8).record, [UInt8]())
    let summary = summary([
      doorbell(100, 1), fetch(200, cid: 7, slot: 0, opcode: 2), unreachable, completion, doorbell(350, 2),
      fetch(400, cid: 8, slot: 1, opcode: 1), begin,
    ])
    let text = Report.text(summary).replacing("\n  ", with: " ")
    #expect(text.contains("Failures\n- read, "))
    #expect(text.contains(": 1, first event 4 (command 7 of queue 1, 300 ns into the trace)\n"))
    #expect(
      text.contains(
        "Host behaviour\n- event 3, 250 ns into the trace: command 7 of queue 1 names memory that is not accessible at host "
          + "address 0xdead000000001000 (Base 2.1, 4.2.3.1)\n"))
    #expect(
      text.contains(
        "- command 8 of queue 1 (write), 1.00 ms old; last event 7, execute-begin, at the end; the backend has not "
          + "completed it"))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(Report.json(summary).utf8)) as? [String: Any])
    let behaviour = try #require((object["host_behaviour"] as? [[String: Any]])?.first)
    #expect(behaviour["address"] as? String == "0xdead000000001000", "64 bits are a string")
    #expect(behaviour["kind"] as? String == "unreachable-memory" && behaviour["first_event"] as? Int == 3)
    let failure = try #require((object["failures"] as? [[String: Any]])?.first)
    #expect(failure["status"] as? Int == 0x80 && failure["first_event"] as? Int == 4)
    let last = try #require((object["unfinished_commands"] as? [[String: Any]])?.last)
    #expect(last["owed"] as? String == "backend" && last["last_event_kind"] as? String == "execute-begin")
  }
}
