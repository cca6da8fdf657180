@_spi(Places) import Events
import NVMe
import Testing
import Trace

@testable import Analysis

@Suite("A controller that stops")
struct StopTests {
  @Test("for a failed fetch: the report keeps the first one with the queue's address")
  func fetch() {
    var script = Script.enabled()
    script.write(at: 1, Register.asq, 0x1_02dd_9000)
    script.add(Event.Fetch(time: 100, flags: .failed).record)
    script.add(Record(time: 110, kind: .registerRead, flags: 4, a: Register.csts, b: 3))
    #expect(
      script.run().summary.stops
        == Stops(firstNs: 100, firstCause: .submissionQueue(qid: 0, address: 0x1_02dd_9000)))
  }

  @Test("for a completion it could not write: the address is the one that the queue was created with")
  func completion() {
    var script = Script.enabled()
    var sqe = [UInt8](repeating: 0, count: 64)
    sqe[0] = AdminOpcode.createIOCompletionQueue.rawValue
    sqe[27] = 0x12
    sqe[40] = 3
    script.add(Record(time: 50, kind: .fetch, tail: 2), tail: sqe)
    script.add(Event.Completion(time: 60, dw3: 1 << 16).record)
    script.add(Event.Completion(time: 100, flags: .failed, cqid: 3).record)
    #expect(
      script.run().summary.stops
        == Stops(firstNs: 100, firstCause: .completionQueue(qid: 3, address: 0x1200_0000)))
  }

  @Test("with a command whose completion it could not write: the reset that follows drops it")
  func dropped() {
    var script = Script.created(entries: 8)
    script.tail(at: 1000, 1)
    script.fetch(at: 1100, cid: 7, slot: 0)
    script.add(Event.Completion(time: 1200, flags: .failed, cqid: 1, cid: 7, dw2: 1 << 16, dw3: 7).record)
    var summary = script.run().summary
    #expect(summary.unfinished == 1 && summary.partial == 0 && summary.oldestUnfinished.map(\.owed) == [.reset])
    script.add(Record(time: 1300, kind: .registerWrite, flags: 4, a: Register.cc, b: 0))
    summary = script.run().summary
    #expect(summary.drops.map(\.drop) == [.disabled] && summary.partial == 0 && summary.unfinished == 0)
  }

  @Test("for an unknown reason: the host's read of CSTS shows it, unless the controller is disabled")
  func unknown() {
    let fatal = Record(time: 100, kind: .registerRead, flags: 4, a: Register.csts, b: 2)
    var script = Script.enabled()
    script.add(fatal)
    #expect(script.run().summary.stops == Stops(firstNs: 100, firstCause: .unknown))
    var disabled = Script.enabled()
    disabled.add(Record(time: 50, kind: .registerWrite, flags: 4, a: Register.cc, b: 0))
    disabled.add(fatal)
    #expect(disabled.run().summary.stops == nil)
  }

  @Test("has recovered with the first fetch after a reset, and may stop again")
  func recovery() {
    var script = Script.enabled()
    script.add(Event.Fetch(time: 100, flags: .failed).record)
    script.add(Record(time: 200, kind: .registerWrite, flags: 4, a: Register.cc, b: 0))
    script.add(Record(time: 300, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    #expect(script.run().summary.stops?.hasRecovered == false)
    script.fetch(at: 400, qid: 0, cid: 0, slot: 0)
    #expect(script.run().summary.stops?.hasRecovered == true)
    script.add(Event.Fetch(time: 500, flags: .failed).record)
    let stops = script.run().summary.stops
    #expect(stops?.count == 2 && stops?.firstNs == 100 && stops?.hasRecovered == false)
  }

  @Test("does not stop for a failed read of a command's data")
  func data() {
    var script = Script.enabled()
    script.add(Event.Read(time: 100, flags: .failed).record)
    script.add(Event.Segment(time: 100, flags: .failed).record)
    #expect(script.run().summary.stops == nil)
  }
}
