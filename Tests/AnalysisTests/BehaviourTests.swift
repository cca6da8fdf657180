import Analysis
@_spi(Places) import Events
import NVMe
import Testing
import Trace

@Suite("A host's behaviour, as far as the trace shows it")
struct BehaviourTests {
  /// A controller with admin queues of 4 entries.
  private func enabled() -> Script {
    var script = Script()
    script.add(Record(time: 1, kind: .registerWrite, flags: 4, a: Register.aqa, b: 3 | 3 << 16))
    script.add(Record(time: 2, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    return script
  }

  @Test("is not judged by a queue whose creation or events are lost, until a reset")
  func unknownQueues() {
    var script = Script()
    script.tail(at: 10, qid: 0, 60_000)
    script.tail(at: 20, qid: 5, 3)
    #expect(script.run().summary.hostBehaviour.isEmpty, "the trace begins later than the controller")
    script = enabled()
    script.tail(at: 10, qid: 0, 4)
    script.add(Record(time: 20, kind: .gap, a: 1))
    script.tail(at: 30, qid: 0, 5)
    script.tail(at: 40, qid: 5, 1)
    var found = script.run().summary.hostBehaviour
    #expect(found.map(\.kind) == [.doorbellOutsideQueue] && found[0].count == 1 && found[0].firstEvent == 3)
    script.add(Record(time: 50, kind: .registerWrite, flags: 4, a: Register.cc, b: 0))
    script.add(Record(time: 60, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    script.tail(at: 70, qid: 0, 6)
    script.tail(at: 80, qid: 5, 1)
    found = script.run().summary.hostBehaviour
    #expect(found.map(\.kind) == [.doorbellOutsideQueue, .doorbellWithoutQueue] && found[0].count == 2)
  }

  @Test("of the admin queue needs its size, in whatever width the host writes AQA", arguments: [4, 8] as [UInt8])
  func adminQueue(width: UInt8) {
    var script = Script()
    let offset = width == 4 ? Register.aqa : Register.aqa - 4
    let value: UInt64 = 3 | 7 << 16
    script.add(Record(time: 1, kind: .registerWrite, flags: width, a: offset, b: width == 4 ? value : value << 32))
    script.add(Record(time: 2, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    script.tail(at: 3, qid: 0, 4)
    script.head(at: 4, qid: 0, 8)
    let found = script.run().summary.hostBehaviour
    #expect(found.map(\.kind) == [.doorbellOutsideQueue] && found[0].count == 2 && found[0].entries == 4)
  }

  @Test("a damaged trace may fetch from any slot")
  func farSlot() {
    var script = enabled()
    script.tail(at: 10, qid: 0, 1)
    script.fetch(at: 20, qid: 0, cid: 9, slot: .max)
    script.tail(at: 30, qid: 0, 2)
    #expect(script.run().summary.hostBehaviour.isEmpty)
  }

  @Test("a queue that the controller refuses to create does not exist")
  func refusedQueue() {
    for isRefused in [false, true] {
      var script = enabled()
      script.tail(at: 10, qid: 0, 1)
      let opcode = AdminOpcode.createIOSubmissionQueue.rawValue
      script.fetch(at: 20, qid: 0, cid: 9, slot: 0, opcode: opcode, cdw10: 1 | 7 << 16)
      let status: UInt32 = isRefused ? 0x102 << 17 : 0
      script.add(Record(time: 30, kind: .completion, qid: 0, cid: 9, b: Record.pair(0, 9 | 1 << 16 | status)))
      script.tail(at: 40, qid: 1, 8)
      let summary = script.run().summary
      #expect(summary.hostBehaviour.map(\.kind) == [isRefused ? .doorbellWithoutQueue : .doorbellOutsideQueue])
      #expect(summary.failures.map(\.status) == (isRefused ? [0x102] : []))
    }
  }

  @Test("a submission that was never fetched is unfinished, and so is every command of a controller that stopped")
  func unfetched() {
    // Without the creation of its queues, so that doorbells are not judged.
    var script = Script()
    script.submit(at: 90, cid: 1)
    script.submit(at: 91, cid: 2)
    script.tail(at: 100, 2, .host)
    script.submit(at: 105, cid: 3)
    script.tail(at: 110, 2)
    script.fetch(at: 120, cid: 1, slot: 0)
    var found = script.run().summary.oldestUnfinished
    #expect(found.map(\.cid) == [1, 2] && found.map(\.owed) == [.dispatch, .fetch])
    #expect(found.map(\.last) == [.fetch, .submit] && found.map(\.lastEvent) == [6, 2])
    script.add(Events.Event.Fetch(time: 130, flags: .failed, qid: 1, slot: 1).record)
    let summary = script.run().summary
    found = summary.oldestUnfinished
    #expect(found.map(\.owed) == [.reset, .reset] && summary.hostBehaviour.map(\.kind) == [.failedFetch])
  }

  @Test("is no cause of a stop after which the controller fetched: the latest event that can be one is")
  func causes() {
    func stopped(_ events: (inout Script) -> Void) -> HostBehaviour? {
      var script = enabled()
      events(&script)
      script.add(Record(time: 900, kind: .registerRead, flags: 4, a: Register.csts, b: 3))
      return script.run().summary.hostBehaviour.first { $0.kind == .fatal }
    }
    let keepAlive = Events.Event.Timer(time: 100, timer: .keepAlive).record
    let flush = Events.Event.ExecuteEnd(time: 200, cid: .max, status: 0x280).record
    #expect(stopped { _ in }?.cause == .unknown && stopped { $0.add(keepAlive) }?.cause == .keepAlive)
    #expect(stopped { $0.add(keepAlive) }?.firstEvent == 3 && stopped { $0.add(keepAlive) }?.firstNs == 100)
    let last = stopped {
      $0.add(keepAlive)
      $0.add(flush)
    }
    #expect(last?.cause == .flush && last?.section == "3.6.1" && last?.firstEvent == 4)
    let served = stopped {
      $0.add(keepAlive)
      $0.fetch(at: 300, qid: 0, cid: 1, slot: 0)
    }
    #expect(served?.cause == .unknown && served?.section == "9.5" && served?.firstEvent == 5)
  }

  @Test("of more kinds and queues than are kept apart, the rest is counted")
  func bounded() {
    var script = enabled()
    for qid in 1...100 as ClosedRange<UInt16> { script.tail(at: 10 + UInt64(qid), qid: qid, 1) }
    let summary = script.run().summary
    #expect(summary.hostBehaviour.count == 64 && summary.otherHostBehaviour == 36)
  }
}
