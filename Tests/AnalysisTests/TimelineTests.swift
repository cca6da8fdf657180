@_spi(Places) import Events
import NVMe
import Testing
import Trace

@testable import Analysis

@Suite("What the engine's thread did")
struct TimelineTests {
  @Test("every nanosecond belongs to one activity, and the totals at any moment in it are known")
  func totals() {
    var timeline = ServerTimeline()
    #expect(timeline.found(at: 1000, since: 50) == nil)
    timeline.cover(.fetch, until: 1100, span: 60)
    timeline.cover(.map, until: 1150, span: 50)
    timeline.advance(to: 1500, .execute)
    #expect(timeline.found(at: 1700, since: 90) == nil)
    #expect(timeline.total.sum == 700 && timeline.cursor == 1700)
    #expect(timeline.total[.engine] == 40 && timeline.total[.fetch] == 60 && timeline.total[.map] == 50)
    #expect(timeline.total[.execute] == 350 && timeline.total[.poll] == 200)
    for time in stride(from: 1000, through: 1700, by: 7) as StrideThrough<UInt64> {
      let times = timeline.times(at: time)
      #expect(times?.sum == time - 1000)
    }
    let (middle, before) = (timeline.times(at: 1200), timeline.times(at: 999))
    #expect(middle?[.execute] == 50 && before == nil)
  }

  @Test("totals of the recent past are known however long the timeline is, and no older ones")
  func ring() {
    var timeline = ServerTimeline()
    for number in 0..<100_000 as Range<UInt64> { timeline.advance(to: number * 10, number % 2 == 0 ? .map : .execute) }
    let (recent, old) = (timeline.times(at: 900_005), timeline.times(at: 500_000))
    #expect(recent?.sum == 900_005 && old == nil)
  }

  @Test("what the thread did between two moments is the difference of the totals at them")
  func between() {
    var timeline = ServerTimeline()
    for number in 0..<100 as Range<UInt64> { timeline.advance(to: number * 10, number % 3 == 0 ? .map : .execute) }
    for (begin, end) in [(3, 5), (3, 14), (0, 990), (511, 2000), (990, 2000), (2000, 3000)] as [(UInt64, UInt64)] {
      var (found, expected) = (ActivityTimes(), ActivityTimes())
      timeline.add(from: begin, to: end, into: &found)
      let (earlier, later) = (timeline.times(at: begin), timeline.times(at: end))
      if let earlier, let later { expected.add(from: earlier, to: later) }
      #expect(Activity.allCases.allSatisfy { found[$0] == expected[$0] }, "\(begin) to \(end)")
      #expect(found.sum == min(end, 990) - min(begin, 990))
    }
  }

  @Test("work between stages can turn out to have been a stage")
  func rename() {
    var timeline = ServerTimeline()
    timeline.advance(to: 100, .poll)
    timeline.cover(.fetch, until: 200, span: 100)
    timeline.cover(.map, until: 300, span: 20)
    let isChanged = timeline.rename(since: 240, to: .map)
    #expect(isChanged)
    #expect(timeline.total[.engine] == 40 && timeline.total[.map] == 60 && timeline.total.sum == 200)
    let (later, earlier) = (timeline.times(at: 260), timeline.times(at: 240))
    #expect(later?[.map] == 20 && earlier?[.engine] == 40)
  }

  @Test("a silence of 100 µs or longer is a stall, if the poll before says so, also when work began the pass before")
  func stalls() {
    var timeline = ServerTimeline()
    timeline.advance(to: 1000, .poll)
    timeline.advance(to: 51_000, .execute)
    #expect(timeline.found(at: 251_000, since: 250_000) == 51_000..<251_000)
    #expect(timeline.found(at: 500_000, since: 60) == nil)
    #expect(timeline.stalls(since: 250_999).totalNs == 200_000 && timeline.stalls(since: 251_000).count == 0)
    #expect(timeline.total[.absent] == 200_000 && timeline.total[.poll] == 249_000)
  }
}

@Suite("Waiting and service")
struct WaitingTests {
  @Test("a map that reaches back before the first command began takes nothing from what came after")
  func windowBegin() throws {
    var script = Script.enabled()
    for time in [1000, 100_000] as [UInt64] {
      script.add(Record(time: time, kind: .completionQueueFull, qid: 1))
    }
    script.tail(at: 100_000, 1)
    script.fetch(at: 100_000, cid: 0, slot: 0)
    script.add(Event.Map(time: 100_100, qid: 1, cid: 0, span: 99_050).record)
    script.add(Record(time: 100_200, kind: .executeBegin, flags: 2, qid: 1, cid: 0))
    script.add(Record(time: 100_600, kind: .executeEnd, qid: 1, cid: 0))
    script.completion(at: 100_700, cid: 0)
    script.head(at: 100_900, 1)
    let server = try #require(script.run().summary.server)
    #expect(server.totalNs == 900 && server.times[.map] == 100 && server.times[.engine] == 100)
    #expect(server.times[.execute] == 400 && server.times[.complete] == 100 && server.times[.poll] == 200)
  }

  @Test("what the thread did is known however much follows the last command, or never finishes")
  func windowEnd() throws {
    var script = Script.enabled()
    script.tail(at: 1000, qid: 2, 1100)
    for number in 0..<1100 as Range<UInt32> { script.fetch(at: 1010, qid: 2, cid: UInt16(number), slot: number) }
    script.tail(at: 2000, 1)
    script.fetch(at: 2050, span: 50, cid: 0, slot: 0)
    script.completion(at: 2200, cid: 0)
    script.head(at: 2300, 1)
    for number in 0..<40_000 as Range<UInt64> {
      script.add(Record(time: 3000 + number * 10, kind: number % 2 == 0 ? .executeBegin : .executeEnd))
    }
    let server = try #require(script.run().summary.server)
    #expect(server.totalNs == 300 && server.times[.fetch] == 50 && server.times[.complete] == 150)
  }

  /// Two commands in one batch: the second waits until the first is done.
  @Test("a command that waits for another knows what the thread did for that one")
  func batch() throws {
    var script = Script.enabled()
    for cid in 0..<2 as Range<UInt16> { script.submit(at: 990, cid: cid) }
    script.tail(at: 1000, 2, .host)
    script.tail(at: 1100, 2, poll: 80)
    script.fetch(at: 1200, span: 80, cid: 0, slot: 0)
    script.add(
      Event.Fetch(time: 1200, flags: .joined, qid: 1, cid: 1, slot: 1).record, tail: [UInt8](repeating: 2, count: 64))
    for cid in 0..<2 as Range<UInt16> {
      let begin: UInt64 = 1200 + UInt64(cid) * 500
      script.add(Record(time: begin + 50, kind: .map, qid: 1, cid: cid, b: 40))
      script.add(Record(time: begin + 50, kind: .executeBegin, flags: 2, qid: 1, cid: cid))
      script.add(Record(time: begin + 450, kind: .executeEnd, qid: 1, cid: cid))
      script.completion(at: begin + 500, cid: cid)
    }
    script.interrupt(at: 2220, entries: 2)
    for cid in 0..<2 as Range<UInt16> { script.completion(at: 2400 + UInt64(cid) * 10, cid: cid, .host) }
    script.head(at: 2450, 2, .host)
    script.head(at: 2500, 2)
    let (summary, commands) = script.run()
    #expect(commands.count == 2)
    let (first, second) = (commands[0], commands[1])
    // Doorbell to fetch, and the turn to it.
    #expect(first.stages[.detect] == 120 && first.waiting[.detect] == 120 && first.waiting[.dispatch] == 10)
    // After its completion the thread did everything for the second before it raised the interrupt of both.
    #expect(first.stages[.interrupt] == 520 && first.waiting[.interrupt] == 500)
    #expect(first.behind[.map] == 40 && first.behind[.execute] == 400 && first.behind[.complete] == 50)
    // The second waits for the transfer of the batch, and for the first.
    #expect(second.waiting[.detect] == 200 && second.behind[.fetch] == 80)
    #expect(second.waiting[.dispatch] == 510 && second.behind[.execute] == 400 && second.behind[.map] == 40)
    #expect(second.waiting[.interrupt] == 0 && second.stages[.interrupt] == 20)
    for command in commands {
      #expect(command.behind.sum == command.waiting.sum - command.waiting[.reap])
      #expect(command.behindHost.sum == command.waiting[.reap])
    }
    // The host polls until it sees the first, and frees both entries when it has handled the second.
    #expect(first.behindHost[.polled] == 180 && first.behindHost[.busy] == 40)
    #expect(second.behindHost[.polled] == 180 && second.behindHost[.busy] == 10)
    // Together the two were served as long as the thread was busy with any command.
    let server = try #require(summary.server)
    #expect(server.totalNs == 1450 && server.times[.execute] == 800 && server.times[.fetch] == 80)
    #expect(summary.io.behindMeansNs[Activity.execute.rawValue] == 400)
    #expect(summary.counts.fetches == 1 && summary.counts.entries == 2 && summary.counts.interrupts == 1)
    let host = try #require(summary.hosts)
    #expect(host.threads == 1 && host.workNs == 10 + 10 + 40 && host.waitNs == 700 && host.reactionNs == 700)
  }

  @Test("a host that has yielded its core rests until it sees the entry, and is busy with it until its next event")
  func rest() {
    var script = Script.enabled()
    script.submit(at: 990, cid: 0)
    script.tail(at: 1000, 1, .host)
    script.tail(at: 1100, 1)
    script.fetch(at: 1200, cid: 0, slot: 0)
    script.add(Record(time: 1300, kind: .map, qid: 1, cid: 0))
    script.completion(at: 2000, cid: 0)
    script.add(Event.Rest(time: 9000, qid: 1, span: 6500).record, .host)
    script.completion(at: 9000, cid: 0, .host)
    script.submit(at: 9300, cid: 1)
    script.head(at: 9400, 1, .host)
    let command = script.run().commands[0]
    #expect(command.behindHost[.polled] == 500 && command.behindHost[.rested] == 6500)
    #expect(command.behindHost[.busy] == 100 && command.waiting[.reap] == 7100 && command.stages[.reap] == 7400)
  }

  /// Waits of 250 ns.
  @Test("what the recorder's ring costs a command is recording, whatever stage it fell into")
  func ringWaits() {
    var script = Script.enabled()
    let way = Way(dataIn: 900, execute: 900, dataOut: 900, complete: 900, interrupt: 900, seen: 900)
    way.play(at: 10_000, into: &script)
    let map: UInt64 = 10_000 + way.unseen + way.turn + way.fetch + way.dispatch + way.map
    // Behind the first segment, the begin of the execution, the first and the last segment, the completion.
    for event in [map + 300, map + 900, map + 2100, map + 2700, map + 3600] {
      script.add(Event.RingWait(time: event + 260, span: 250).record)
    }
    let run = script.run()
    let times = run.commands[0]
    for stage in [Stage.dataIn, .execute, .dataOut, .complete, .interrupt] { #expect(times.stages[stage] == 650) }
    #expect(times.unexplained == 0 && times.stages[.recording] == 5 * 250)
    #expect(times.stages.sum == times.total && run.summary.inversions == 0)
  }
}

@Suite("Bands of percentiles")
struct BandTests {
  private func summary(_ executes: [UInt64]) -> Summary {
    var script = Script.enabled()
    var now: UInt64 = 10_000
    for (number, execute) in executes.enumerated() {
      let number = UInt32(number)
      now =
        Way(cid: UInt16(truncatingIfNeeded: number), slot: number, execute: execute).play(at: now, into: &script) + 1000
    }
    return script.run().summary
  }

  @Test("the typical command is the one around the median, whatever a few slow ones do to the mean")
  func typical() throws {
    let summary = summary((0..<1000).map { $0 % 10 == 9 ? 90_000 : 900 })
    let bands = try #require(summary.bands)
    #expect(bands.typical.commands == 100 && bands.typical.meanNs(.execute) == 900)
    #expect(summary.io.latency.meanNs > 5 * bands.typical.latencyMeanNs)
    #expect(bands.slowShare == 0.1 && bands.slowTimeShare > 0.85)
    #expect(bands.all.map(\.upTo) == [0.5, 0.9, 0.99, 1] && bands.tail.map { $0.commands.rounded() } == 10)
    // Their parts add up to the whole.
    #expect(abs(bands.all.reduce(0) { $0 + $1.commands } - 1000) < 1e-6)
    #expect(abs(bands.all.last!.meanNs(.execute) - 90_000) < 1)
  }

  @Test("no tail of a few commands, and no percentile that fewer than ten support")
  func few() throws {
    let summary = summary([UInt64](repeating: 900, count: 50))
    #expect(summary.bands?.tail == nil)
    #expect(summary.io.latency[.p50] != nil && summary.io.latency[.p99] == nil)
    #expect(summary.io[.dataIn].having == 0 && summary.io[.dataIn].count == 50)
  }
}
