import Analysis
@_spi(Places) import Events
import NVMe
import Testing
import Trace

@Suite("What is missing from a trace")
struct LossTests {
  @Test("a command in flight at the end is unfinished")
  func unfinished() {
    var script = Script.enabled()
    Way().play(at: 1000, into: &script)
    script.tail(at: 9000, 2, .host)
    script.tail(at: 9100, 2)
    script.fetch(at: 9200, cid: 1, slot: 1)
    script.submit(at: 8999, cid: 1)
    let summary = script.run().summary
    #expect(summary.io.commands == 1)
    #expect(summary.unfinished == 1)
    #expect(summary.partial == 0)
    #expect(summary.oldestUnfinished.map(\.cid) == [1] && summary.oldestUnfinished[0].opcode == 2)
    #expect(summary.oldestUnfinished[0].ageNs == 200 && summary.oldestUnfinished[0].stage == .dispatch)
    let command = summary.oldestUnfinished[0]
    #expect(command.owed == .dispatch && command.last == .fetch && command.lastEvent == 19 && command.lastAgoNs == 0)
  }

  @Test("of many unfinished commands the oldest are named, and the stage that each is in")
  func namesOldest() {
    var script = Script.enabled()
    script.tail(at: 900, 20)
    for cid in 0..<20 as Range<UInt16> { script.fetch(at: 1000 + UInt64(cid), cid: cid, slot: UInt32(cid)) }
    script.add(Record(time: 2000, kind: .map, qid: 1, cid: 0, b: 1))
    for cid in [1, 2, 3] as [UInt16] { script.add(Record(time: 2000, kind: .executeBegin, flags: 2, qid: 1, cid: cid)) }
    for cid in [2, 3] as [UInt16] { script.add(Record(time: 2100, kind: .executeEnd, qid: 1, cid: cid)) }
    script.completion(at: 3000, cid: 3)
    let summary = script.run().summary
    #expect(summary.unfinished == 20 && summary.oldestUnfinished.map(\.cid) == Array(0..<10))
    #expect(summary.oldestUnfinished.prefix(5).map(\.stage) == [.dataIn, .execute, .complete, .reap, .dispatch])
    #expect(summary.oldestUnfinished.prefix(5).map(\.owed) == [.data, .backend, .completion, .reap, .dispatch])
    #expect(summary.oldestUnfinished.prefix(4).map(\.last) == [.map, .executeBegin, .executeEnd, .completion])
  }

  @Test("a gap makes the stream's commands in flight partial, and only those")
  func gap() {
    var script = Script.enabled()
    for stream in 1...2 {
      let qid = UInt16(stream)
      script.tail(at: 100, qid: qid, 1, stream: stream)
      script.fetch(at: 200, qid: qid, cid: 1, slot: 0, stream: stream)
      script.completion(at: 400, qid: qid, cid: 1, stream: stream)
      script.head(at: 500, qid: qid, 1, stream: stream)
    }
    script.add(Record(time: 300, kind: .gap, a: 17), stream: 1)
    let run = script.run()
    #expect(run.commands.map(\.qid) == [QueueID(2)])
    #expect(run.summary.partial == 1)
    #expect(run.summary.lost == 17)
  }

  @Test("after a gap commands count again, once the queue's place is known")
  func afterGap() {
    var script = Script.enabled()
    var time: UInt64 = 1000
    for slot in UInt32(0)..<3 {
      time = Way(cid: UInt16(slot), slot: slot, hasHost: false).play(at: time, into: &script)
    }
    script.add(Record(time: time + 10, kind: .gap, a: 100))
    time += 1000
    for slot in UInt32(10)..<20 {
      time = Way(cid: UInt16(slot), slot: slot, hasHost: false).play(at: time, into: &script)
    }
    let summary = script.run().summary
    #expect(summary.io.commands == 3 + 9)
    #expect(summary.partial == 1)
  }

  @Test("a host's events from before the engine's stream are not assigned to wrong commands")
  func hostBeginsFirst() {
    var script = Script()
    var time: UInt64 = 1000
    for number in UInt16(0)..<200 {
      var whole = Script()
      let end = Way(cid: number % 8, slot: UInt32(number)).play(at: time, into: &whole)
      // A flight recorder has kept less of the engine.
      for event in whole.events where number >= 100 || event.source == .host {
        script.add(event.record, event.source, stream: event.stream, tail: event.tail)
      }
      time = end + 1000
    }
    let run = script.run()
    #expect(run.commands.count == 100 && run.summary.queueDepthMax == 1)
    #expect(run.commands.allSatisfy { $0.total < 10_000 })
    #expect(run.summary.partial == 0 && run.summary.unfinished == 0)
  }

  @Test("only the host's commands whose fetches are lost are left out")
  func lostFetches() {
    var script = Script.enabled()
    var time: UInt64 = 1000
    for number in UInt16(0)..<200 {
      var whole = Script()
      let end = Way(cid: number % 8, slot: UInt32(number)).play(at: time, into: &whole)
      let isLost = (80..<120).contains(number)
      for event in whole.events where !isLost || event.source == .host {
        script.add(event.record, event.source, stream: event.stream, tail: event.tail)
      }
      if number == 119 { script.add(Record(time: end, kind: .gap, a: 400)) }
      time = end + 1000
    }
    let run = script.run()
    #expect(run.commands.count + Int(run.summary.partial) == 200)
    #expect(run.summary.partial == 40)
    #expect(run.commands.allSatisfy { $0.total < 10_000 })
  }

  @Test("a doorbell of which only the end is known, where the queue wraps, covers no command of the next")
  func wrapsAfterGap() {
    var script = Script.enabled()
    script.tail(at: 100, 1)
    script.add(Record(time: 500, kind: .gap, a: 100))
    var time: UInt64 = 1000
    for number in UInt32(7)..<40 {
      let slot = number % 8
      script.tail(at: time, (slot + 1) % 8)
      script.fetch(at: time + 20, cid: UInt16(slot), slot: slot)
      script.completion(at: time + 50, cid: UInt16(slot), phase: number / 8 % 2 == 1)
      script.head(at: time + 100, (slot + 1) % 8)
      time += 1000
    }
    let run = script.run()
    // Where the first completion lies is not known yet.
    #expect(run.commands.count >= 30 && run.commands.dropFirst().allSatisfy { $0.total == 100 })
  }

  @Test("a host and a target of one machine, whose CPUs' clocks differ, are joined all the same")
  func clocksOfCPUs() {
    var analyzer = StageAnalyzer(subject: .controller(1))
    func ingest(_ record: Record, _ stream: Int, _ tail: [UInt8] = []) {
      tail.withUnsafeBytes { analyzer.ingest(record, source: .kernel, stream: stream, tail: $0) }
    }
    let (target, host, nqn) = (0, 1, Array("nqn.test".utf8))
    ingest(Record(time: 0, kind: .origin, flags: 0x80, cid: 1, b: UInt64(nqn.count)), target, nqn)
    ingest(Record(time: 0, kind: .origin, flags: 0x81, cid: 0, a: 1, b: UInt64(nqn.count)), host, nqn)
    for (number, isBehind) in [false, true, false, true].enumerated() {
      let (cid, time) = (UInt16(number), UInt64(1000 + number * 10_000))
      let submit = Record(time: time + (isBehind ? 300 : 0), kind: .submit, flags: 2, qid: 1, cid: cid)
      let request = Record(time: time + 200, kind: .request, flags: 2, qid: 1, cid: cid, b: Record.pair(8, 1))
      let end = Record(time: time + 2000, kind: .executeEnd, qid: 1, cid: cid, a: 4096 << 32)
      let completion = Record(time: time + (isBehind ? 1900 : 2200), kind: .completion, qid: 1, cid: cid, b: 1 << 16)
      ingest(isBehind ? request : submit, isBehind ? target : host)
      ingest(isBehind ? submit : request, isBehind ? host : target)
      ingest(isBehind ? completion : end, isBehind ? host : target)
      ingest(isBehind ? end : completion, isBehind ? target : host)
    }
    let summary = analyzer.summary()
    #expect(summary.io.commands == 4 && summary.partial == 0 && summary.unfinished == 0)
    #expect(summary.io.bytesToHost == 4 * 4096 && summary.inversions == 4)
    #expect(summary.io.latency.maxNs == 2200)
  }

  @Test("commands in flight at a reset are interrupted, not partial", arguments: [EventKind.reset, .registerWrite])
  func reset(kind: EventKind) {
    var script = Script.enabled()
    script.tail(at: 100, 2)
    script.fetch(at: 200, cid: 1, slot: 0)
    script.fetch(at: 210, cid: 2, slot: 1)
    script.completion(at: 250, cid: 1)
    script.add(Record(time: 300, kind: kind, flags: kind == .reset ? 0 : 4, a: kind == .reset ? 0 : Register.cc))
    script.add(Record(time: 400, kind: .registerWrite, flags: 4, a: Register.cc, b: 1))
    Way(cid: 1, hasHost: false).play(at: 1000, into: &script)
    let run = script.run()
    #expect(run.commands.count == 1)
    #expect(run.summary.partial == 0 && run.summary.interrupted == 2)
    #expect(run.summary.resets == 1)
  }

  @Test("a command whose completion a gap may hold is partial after a reset too")
  func resetAfterGap() {
    var script = Script.enabled()
    script.tail(at: 100, 1)
    script.fetch(at: 200, cid: 1, slot: 0)
    script.add(Record(time: 250, kind: .gap, a: 3))
    script.add(Record(time: 300, kind: .reset))
    let summary = script.run().summary
    #expect(summary.partial == 1 && summary.interrupted == 0)
  }

  @Test("a recreated queue starts without state")
  func recreatedQueue() {
    var script = Script.enabled()
    script.tail(at: 100, 2)
    script.fetch(at: 200, cid: 1, slot: 0)
    let opcodes: [AdminOpcode] = [
      .deleteIOSubmissionQueue, .deleteIOCompletionQueue, .createIOCompletionQueue, .createIOSubmissionQueue,
    ]
    for (slot, opcode) in opcodes.enumerated() {
      script.setUp(opcode, at: 300 + UInt64(slot) * 200, slot: UInt32(slot), entries: 8)
    }
    Way(cid: 1, hasHost: false).play(at: 2000, into: &script)
    let run = script.run()
    #expect(run.summary.io.commands == 1)
    #expect(run.summary.partial == 0 && run.summary.interrupted == 1)
  }

  @Test("commands from before the host's stream are measured from the engine's events")
  func lateHost() {
    var script = Script.enabled()
    var time = Way(cid: 0, slot: 0, hasHost: false).play(at: 1000, into: &script)
    time = Way(cid: 1, slot: 1).play(at: time + 100, into: &script)
    let summary = script.run().summary
    #expect(summary.io.commands == 2)
    #expect(summary.commandsFromHost == 1)
    #expect(summary.undetected?.count == 1)
  }

  @Test("a command that the host's stream misses is partial")
  func missingSubmit() {
    var script = Script.enabled()
    let time = Way(cid: 0, slot: 0).play(at: 1000, into: &script)
    let next = Way(cid: 1, slot: 1, hasHost: false).play(at: time + 100, into: &script)
    Way(cid: 2, slot: 2).play(at: next + 100, into: &script)
    let run = script.run()
    #expect(run.commands.map(\.cid.rawValue) == [0, 2])
    #expect(run.summary.partial + run.summary.unfinished == 1)
  }

  @Test("an asynchronous event request never counts")
  func eventRequest() {
    var script = Script.enabled()
    script.tail(at: 100, qid: 0, 2)
    for slot in UInt32(0)..<2 {
      let opcode = AdminOpcode.asynchronousEventRequest.rawValue
      script.fetch(at: 110, qid: 0, cid: UInt16(slot), slot: slot, opcode: opcode)
    }
    script.completion(at: 500, qid: 0, cid: 0)
    script.head(at: 600, qid: 0, 1)
    let run = script.run(grouping: .queue)
    #expect(run.commands.isEmpty)
    #expect(run.summary.unfinished == 0 && run.summary.partial == 0 && run.summary.groups.isEmpty)
  }

  @Test("admin commands are counted and grouped, but not part of the headline")
  func admin() {
    var script = Script.enabled()
    Way(qid: 0, opcode: AdminOpcode.identify.rawValue).play(at: 1000, into: &script)
    let summary = script.run(grouping: .opcode).summary
    #expect(summary.io.commands == 0)
    #expect(summary.adminCommands == 1)
    #expect(summary.groups.map(\.key) == [.adminOpcode(6)])
  }

  @Test("a doorbell stamped after its effect is an inversion, and sums stay exact")
  func inversion() throws {
    var script = Script.enabled()
    script.submit(at: 90, cid: 1)
    script.tail(at: 95, 1)
    script.tail(at: 100, 1, .host)
    script.fetch(at: 120, span: 22, cid: 1, slot: 0)
    script.completion(at: 200, cid: 1)
    script.completion(at: 220, cid: 1, .host)
    script.head(at: 250, 1, .host)
    let run = script.run()
    #expect(run.summary.inversions == 1)
    let times = try #require(run.commands.first)
    #expect(times.total == 150)
    #expect(times.stages.sum + times.unexplained == 150)
  }
}
