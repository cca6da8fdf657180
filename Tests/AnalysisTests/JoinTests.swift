import Analysis
@_spi(Places) import Events
import NVMe
import Testing
import Trace

@Suite("Distinguishing commands")
struct JoinTests {
  /// A burst of `count` commands with one doorbell, executed one after the other, one interrupt and one reap for all.
  private func burst(_ count: UInt32, first: UInt32, at time: UInt64, hasHost: Bool, into script: inout Script) {
    let cids = (0..<count).map { UInt16(first + $0) & 0x3ff }
    if hasHost {
      for (place, cid) in cids.enumerated() { script.submit(at: time - 100 + UInt64(place), cid: cid) }
      script.tail(at: time, first + count, .host)
    }
    script.tail(at: time + 50, first + count, poll: 50)
    for (place, cid) in cids.enumerated() {
      script.fetch(at: time + 100 + UInt64(place) * 10, span: 10, cid: cid, slot: first + UInt32(place))
    }
    let fetched = time + 100 + UInt64(count) * 10
    for (place, cid) in cids.enumerated() {
      let begin = fetched + UInt64(place) * 100
      script.add(Record(time: begin + 20, kind: .map, qid: 1, cid: cid, b: 20))
      script.add(Record(time: begin + 20, kind: .executeBegin, flags: 2, qid: 1, cid: cid))
      script.add(Record(time: begin + 90, kind: .executeEnd, qid: 1, cid: cid))
      script.completion(at: begin + 100, cid: cid)
    }
    let done = fetched + UInt64(count) * 100
    script.interrupt(at: done + 10, entries: count)
    if hasHost {
      for (place, cid) in cids.enumerated() { script.completion(at: done + 50 + UInt64(place), cid: cid, .host) }
      script.head(at: done + 100, first + count, .host)
    }
    script.head(at: done + 200, first + count)
  }

  @Test("commands announced by one doorbell share their beginning and their end", arguments: [true, false])
  func bursts(hasHost: Bool) {
    var script = Script.enabled()
    burst(32, first: 0, at: 1000, hasHost: hasHost, into: &script)
    burst(32, first: 32, at: 100_000, hasHost: hasHost, into: &script)
    let run = script.run()
    #expect(run.commands.count == 64)
    #expect(run.summary.partial == 0 && run.summary.unfinished == 0)
    #expect(Set(run.commands.map(\.begin)) == (hasHost ? [1000, 100_000] : [1050, 100_050]))
    #expect(Set(run.commands.map(\.end)).count == 2)
    #expect(run.commands.allSatisfy { $0.stages.sum + $0.unexplained == $0.total })
    #expect(run.summary.queueDepthMax == 32)
  }

  @Test("a coalesced interrupt ends the wait of every completion before it")
  func coalesced() {
    var script = Script.enabled()
    burst(4, first: 0, at: 1000, hasHost: false, into: &script)
    #expect(script.run().commands.map { $0.stages[.interrupt] } == [310, 210, 110, 10])
  }

  @Test("an identifier that is used again before the head doorbell names a new command")
  func reusedIdentifier() {
    var script = Script.enabled()
    for (slot, time) in [(UInt32(0), UInt64(100)), (1, 200)] {
      script.tail(at: time, slot + 1)
      script.fetch(at: time + 20, cid: 5, slot: slot)
      script.completion(at: time + 50, cid: 5)
    }
    script.head(at: 300, 2)
    let run = script.run()
    #expect(run.commands.map(\.total) == [200, 100])
    #expect(run.summary.partial == 0)
  }

  @Test("the head doorbell wraps where the phase tag changes")
  func wrap() {
    var script = Script.enabled()
    // Queues of four entries, one command at a time.
    for number in UInt64(0)..<12 {
      let time = 1000 + number * 1000
      let next = UInt32(number + 1) % 4
      script.tail(at: time, next)
      script.fetch(at: time + 10, cid: UInt16(number), slot: UInt32(number) % 4)
      script.completion(at: time + 20, cid: UInt16(number), phase: number / 4 % 2 == 0)
      script.head(at: time + 100, next)
    }
    let run = script.run()
    #expect(run.commands.map(\.total) == Array(repeating: 100, count: 12))
  }

  @Test("a head doorbell ends only the commands that it covers")
  func partialHead() {
    var script = Script.enabled()
    script.tail(at: 100, 3)
    for slot in UInt32(0)..<3 {
      script.fetch(at: 110 + UInt64(slot), cid: UInt16(slot), slot: slot)
      script.completion(at: 120 + UInt64(slot), cid: UInt16(slot))
    }
    script.head(at: 200, 1)
    script.head(at: 300, 3)
    #expect(script.run().commands.map(\.end) == [200, 300, 300])
  }

  @Test("commands on two queues and two shards do not mix, though their identifiers are the same")
  func shards() {
    var script = Script.enabled()
    for qid in UInt16(1)...2 {
      let stream = Int(qid)
      let time = UInt64(qid) * 10
      script.tail(at: 100 + time, qid: qid, 1, stream: stream)
      script.fetch(at: 200 + time, qid: qid, cid: 9, slot: 0, stream: stream)
      script.completion(at: 300 + time, qid: qid, cid: 9, stream: stream)
      script.head(at: 400 + 2 * time, qid: qid, 1, stream: stream)
    }
    let run = script.run(grouping: .queue)
    #expect(run.commands.map(\.total) == [310, 320])
    #expect(run.summary.groups.map(\.key) == [.ioQueue(1), .ioQueue(2)])
  }

  @Test("commands count as in flight from their doorbell on, also while others are fetched and completed")
  func depthBeforeFetch() {
    var script = Script.enabled()
    for cid in 0..<4 as Range<UInt16> { script.submit(at: 900 + UInt64(cid), cid: cid) }
    script.tail(at: 1000, 4, .host)
    script.tail(at: 1010, 4, poll: 10)
    for cid in 0..<4 as Range<UInt16> {
      let begin: UInt64 = 1100 + UInt64(cid) * 1000
      script.fetch(at: begin, span: 10, cid: cid, slot: UInt32(cid))
      script.completion(at: begin + 100, cid: cid)
      script.completion(at: begin + 200, cid: cid, .host)
      script.head(at: begin + 250, UInt32(cid) + 1, .host)
      script.head(at: begin + 300, UInt32(cid) + 1)
    }
    let summary = script.run().summary
    #expect(summary.io.commands == 4 && summary.queueDepthMax == 4)
    #expect(abs(summary.io.queueDepth - summary.queueDepthTimeWeighted) < 1e-9)
  }

  @Test("a doorbell with an invalid value announces nothing and frees nothing")
  func invalidDoorbells() {
    var script = Script.created(entries: 8)
    script.tail(at: 1000, 9)
    script.tail(at: 1100, 2)
    for slot in 0..<2 as Range<UInt32> {
      script.fetch(at: 1200, cid: UInt16(slot), slot: slot)
      script.completion(at: 1300, cid: UInt16(slot))
    }
    script.head(at: 1400, 8)
    script.head(at: 1500, 5)
    script.head(at: 1600, 2)
    let run = script.run()
    #expect(run.commands.filter { $0.qid != .admin }.map(\.begin) == [1100, 1100])
    #expect(run.commands.filter { $0.qid != .admin }.map(\.end) == [1600, 1600])
    #expect(run.summary.counts.doorbells == 1 && run.summary.partial == 0)
    #expect(run.summary.hostBehaviour.map(\.kind) == [.doorbellOutsideQueue, .headPassesTail])
  }

  @Test("a full completion queue stays full until a valid head doorbell")
  func fullQueue() {
    var script = Script.created(entries: 2)
    script.tail(at: 1000, 1)
    script.fetch(at: 1100, cid: 7, slot: 0)
    script.add(Events.Event.CompletionQueueFull(time: 1200, cqid: 1).record)
    script.head(at: 1300, 2)
    script.head(at: 1500, 0)
    script.completion(at: 1600, cid: 7)
    script.head(at: 1700, 1)
    #expect(script.run().commands.last?.queueFull == 300)
  }

  @Test("a queue changes when its Create or Delete succeeds, not when the command is fetched")
  func queueSetup() {
    for isRefused in [false, true] {
      var script = Script.created(entries: 8)
      script.tail(at: 1000, 1)
      script.fetch(at: 1010, cid: 7, slot: 0)
      script.setUp(.deleteIOSubmissionQueue, at: 1100, slot: 2, status: isRefused ? 0x101 : 0)
      script.completion(at: 1500, cid: 7)
      script.head(at: 1600, 1)
      let run = script.run()
      let ends = run.commands.filter { $0.qid != .admin }.map(\.end)
      #expect(ends == (isRefused ? [1600] : []) && run.summary.interrupted == (isRefused ? 0 : 1))
    }
    // It completes between the fetch of the Delete and its success.
    var script = Script.created(entries: 8)
    script.tail(at: 1000, 1)
    script.fetch(at: 1010, cid: 7, slot: 0)
    script.completion(at: 1150, cid: 7)
    script.setUp(.deleteIOSubmissionQueue, at: 1100, slot: 2)
    script.head(at: 1600, 1)
    #expect(script.run().commands.last?.end == 1600)
  }

  @Test("a command that never finishes is in flight until its queue is deleted or the controller reset, or to the end")
  func depthOfUnfinished() {
    func depth(_ change: (inout Script) -> Void) -> Double {
      var script = Script.created(entries: 8)
      script.tail(at: 1000, 3)
      for slot in 0..<3 as Range<UInt32> { script.fetch(at: 1100, cid: UInt16(slot), slot: slot) }
      change(&script)
      for (slot, time) in [(UInt32(0), UInt64(1500)), (1, 2000)] {
        script.completion(at: time - 10, cid: UInt16(slot))
        script.head(at: time, slot + 1)
      }
      return script.run().summary.queueDepthTimeWeighted
    }
    #expect(depth { _ in } == 2.5)
    // One begins before and one after the first that finishes.
    #expect(
      depth {
        $0.tail(at: 1550, 5)
        $0.fetch(at: 1600, cid: 3, slot: 3)
        $0.fetch(at: 2050, cid: 4, slot: 4)
      } == 2.5 + 0.45 * 2)
    var script = Script.created(entries: 8)
    script.tail(at: 800, 2)
    for slot in 0..<2 as Range<UInt32> { script.fetch(at: 810, cid: UInt16(slot), slot: slot) }
    script.tail(at: 1000, 3)
    script.fetch(at: 1100, cid: 2, slot: 2)
    // Those that began first never finish.
    script.completion(at: 1100, cid: 2)
    script.head(at: 2000, 1)
    script.add(Record(time: 3000, kind: .reset))
    #expect(script.run().summary.queueDepthTimeWeighted == 3)
  }

  @Test("the engine's time begins with the first command that finishes, and its stalls are those since")
  func serverWindow() throws {
    var script = Script.created(entries: 8)
    script.tail(at: 100_000, 1)
    script.fetch(at: 100_100, cid: 0, slot: 0)
    for (slot, time) in [(UInt32(1), UInt64(300_000)), (2, 600_000), (3, 700_000)] {
      script.tail(at: time, slot + 1, poll: 150_000)
      script.fetch(at: time + 100, cid: UInt16(slot), slot: slot)
    }
    // The second finishes last, the first never.
    for (place, slot) in [2, 3, 1].enumerated() {
      script.completion(at: 800_000 + UInt64(place) * 1000, cid: UInt16(slot))
      script.head(at: 800_500 + UInt64(place) * 1000, UInt32(place) + 1)
    }
    let server = try #require(script.run().summary.server)
    #expect(server.totalNs == 802_500 - 300_000 && server.totalNs == script.run().summary.io.durationNs)
    #expect(server.stalls.count == 1 && server.stalls.totalNs == 150_000)
  }

  @Test("Little's law and counting give the same queue depth")
  func depth() {
    var script = Script.enabled()
    var time: UInt64 = 1000
    for slot in UInt32(0)..<10 {
      time = Way(cid: UInt16(slot), slot: slot, hasHost: false).play(at: time, into: &script)
    }
    let summary = script.run().summary
    #expect(abs(summary.io.queueDepth - summary.queueDepthTimeWeighted) < 1e-9)
    #expect(summary.queueDepthMax == 1)
    #expect(summary.io.queueDepth < 1)
  }
}
