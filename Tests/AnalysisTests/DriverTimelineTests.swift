import Chance
import Events
import KernelStreams
import KernelTimeline
import Testing

/// What the CPUs of a target did, from hand-made events.
private struct Driver {
  var timeline: DriverTimeline
  private var streams = KernelStreams()

  init(of controller: UInt16 = StreamOwner.noController) { timeline = DriverTimeline(of: controller) }

  @discardableResult
  mutating func add(_ event: some RecordedEvent, at time: UInt64, cpu: UInt16 = 0, controller: UInt16 = 1) -> UInt64 {
    let stream = controller << 8 | cpu
    _ = streams.ingest(
      Event.Origin(cpu: cpu, controller: controller).record, tail: .init(start: nil, count: 0), stream: stream)
    var record = event.record
    record.time = time
    return timeline.ingest(record, record.event!, streams.owners[stream]!, at: time)
  }

  /// What a CPU did, without what it did not.
  func did(_ from: UInt64, _ to: UInt64, cpu: UInt16 = 0) -> [DriverActivity: UInt64] {
    let times = timeline.times(of: cpu, from: from, to: to)
    let some = DriverActivity.allCases.filter { times[$0] > 0 }
    return Dictionary(uniqueKeysWithValues: some.map { ($0, times[$0]) })
  }

  /// A read of command `cid` of queue 1 by a worker, from 100 ns after `begin` to 320.
  mutating func read(_ cid: UInt16, from begin: UInt64, cpu: UInt16 = 0) {
    add(Event.Fetch(qid: 1, cid: cid, span: 10), at: begin, cpu: cpu)
    add(Event.Work(work: .command, qid: 1, cid: cid), at: begin + 100, cpu: cpu)
    add(Event.Request(qid: 1, cid: cid), at: begin + 110, cpu: cpu)
    add(Event.ExecuteBegin(qid: 1, cid: cid), at: begin + 130, cpu: cpu)
    add(Event.ExecuteEnd(qid: 1, cid: cid), at: begin + 250, cpu: cpu)
    add(Event.Segment(qid: 1, cid: cid, span: 30), at: begin + 300, cpu: cpu)
    add(Event.CompletionQueued(qid: 1, cid: cid), at: begin + 310, cpu: cpu)
    add(Event.WorkEnd(work: .command, qid: 1, cid: cid), at: begin + 320, cpu: cpu)
  }
}

@Suite("The timeline of the kernel's driver")
struct DriverTimelineTests {
  @Test("shows each stage of a worker's command, and then that nobody runs")
  func stages() {
    var driver = Driver()
    driver.read(7, from: 1000)
    driver.add(Event.Work(work: .command, qid: 1, cid: 8), at: 1400)
    #expect(driver.did(970, 1000) == [.unknown: 20, .fetch: 10])
    #expect(driver.did(1000, 1100) == [.polling: 100])
    #expect(
      driver.did(1100, 1400) == [
        .map: 30, .execute: 120, .wakeUp: 20, .dataOut: 40, .complete: 10, .polling: 80,
      ])
    #expect(driver.timeline.starts(on: 0, from: 1100, to: 1400) == 1)
    #expect(driver.timeline.starts(on: 0, from: 1050, to: 1400) == 2)
  }

  @Test("puts a completion queue's work above the worker that it interrupts, and a fetch too")
  func nested() {
    var driver = Driver()
    driver.add(Event.Fetch(qid: 1, cid: 7), at: 1000)
    driver.add(Event.Work(work: .command, qid: 1, cid: 7), at: 1000)
    driver.add(Event.ExecuteBegin(qid: 1, cid: 7), at: 1010)
    driver.add(Event.Work(work: .completionQueue, qid: 1), at: 1050)
    driver.add(Event.WorkEnd(work: .completionQueue, qid: 1), at: 1080)
    driver.add(Event.Fetch(qid: 1, cid: 8, span: 5), at: 1100)
    driver.add(Event.ExecuteEnd(qid: 1, cid: 7), at: 1130)
    #expect(driver.did(1010, 1130) == [.execute: 40 + 15 + 30 + 0, .completionWork: 30, .fetch: 5])
  }

  @Test("follows a worker to another CPU, and does not follow the backend's interrupt")
  func moves() {
    var driver = Driver()
    driver.add(Event.Work(work: .command, qid: 1, cid: 7), at: 1000)
    driver.add(Event.ExecuteBegin(qid: 1, cid: 7), at: 1010)
    // The backend's interrupt.
    driver.add(Event.ExecuteEnd(qid: 1, cid: 7), at: 1050, cpu: 1)
    driver.add(Event.Segment(flags: .fromHost, qid: 1, cid: 7, span: 20), at: 1100, cpu: 2)
    driver.add(Event.WorkEnd(work: .command, qid: 1, cid: 7), at: 1150, cpu: 2)
    for cpu in 0...2 as ClosedRange<UInt16> { driver.add(Event.Dropped(qid: 9), at: 1200, cpu: cpu) }
    #expect(driver.did(1000, 1200) == [.map: 10, .execute: 40, .wakeUp: 50, .untraced: 100])
    #expect(driver.did(1050, 1200, cpu: 1) == [.untraced: 150])
    #expect(driver.did(1080, 1200, cpu: 2) == [.dataIn: 70, .untraced: 50])
  }

  @Test("counts a CPU as polling while it is the last that fetched, for any controller")
  func polling() {
    var driver = Driver()
    driver.add(Event.Fetch(qid: 1, cid: 7), at: 1000)
    driver.add(Event.Fetch(qid: 1, cid: 7), at: 1020, controller: 2)
    driver.add(Event.Fetch(qid: 1, cid: 8), at: 1100, cpu: 1)
    driver.add(Event.Fetch(qid: 1, cid: 8), at: 1130, cpu: 1, controller: 2)
    driver.add(Event.Fetch(qid: 1, cid: 9), at: 1200, cpu: 1)
    driver.add(Event.Dropped(qid: 9), at: 1200)
    #expect(driver.did(1000, 1200) == [.polling: 130, .untraced: 70])
    #expect(driver.did(1100, 1200, cpu: 1) == [.polling: 100])
  }

  @Test("ends a worker whose end is lost with its completion, and knows nothing before a gap")
  func losses() {
    var driver = Driver()
    driver.add(Event.Work(work: .command, qid: 1, cid: 7), at: 1000)
    driver.add(Event.Completion(cqid: 1, cid: 7, dw2: 1 << 16), at: 1050, cpu: 1)
    driver.add(Event.Dropped(qid: 9), at: 1100)
    #expect(driver.did(1000, 1100) == [.map: 50, .untraced: 50])
    driver.timeline.restart()
    #expect(driver.did(1000, 1200) == [.unknown: 200])
    driver.add(Event.Dropped(qid: 9), at: 1300)
    driver.add(Event.Dropped(qid: 9), at: 1350)
    #expect(driver.did(1000, 1350) == [.unknown: 300, .untraced: 50])
  }

  @Test("forgets what is too long ago, and says for how long")
  func history() {
    var driver = Driver()
    for number in 0..<10_000 as Range<UInt64> { driver.read(UInt16(number % 32), from: 1000 + number * 400) }
    let all = driver.timeline.times(of: 0, from: 1000, to: 1000 + 10_000 * 400 - 80)
    #expect(all.sum == 10_000 * 400 - 80)
    #expect(all[.unknown] > 2_000_000)
    let last = driver.timeline.times(of: 0, from: 1000 + 9_999 * 400, to: 1000 + 9_999 * 400 + 320)
    #expect(last[.unknown] == 0 && last[.execute] == 120)
  }

  @Test("adds up to the nanosecond, whatever the events are", arguments: 0..<50 as Range<UInt64>)
  func addsUp(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var driver = Driver()
    var now: UInt64 = 0
    for _ in 0..<2000 {
      now += .random(in: 0...50, using: &random)
      let (qid, cid) = (UInt16.random(in: 0...2, using: &random), UInt16.random(in: 0...5, using: &random))
      let span = UInt32.random(in: 0...200, using: &random)
      let work: Event.Work.Choice = Bool.random(using: &random) ? .command : .completionQueue
      let events: [any RecordedEvent] = [
        Event.Fetch(qid: qid, cid: cid, span: span), Event.Work(work: work, qid: qid, cid: cid),
        Event.WorkEnd(work: .init(rawValue: work.rawValue), qid: qid, cid: cid), Event.Request(qid: qid, cid: cid),
        Event.Read(qid: qid, cid: cid, span: span), Event.Segment(qid: qid, cid: cid, span: span),
        Event.ExecuteBegin(qid: qid, cid: cid), Event.ExecuteEnd(qid: qid, cid: cid),
        Event.CompletionQueued(qid: qid, cid: cid), Event.Completion(cqid: qid, cid: cid, dw2: UInt32(qid) << 16),
        Event.Interrupt(cqid: qid), Event.Dropped(qid: qid, cid: cid),
      ]
      driver.add(
        events.randomElement(using: &random)!, at: now, cpu: .random(in: 0...3, using: &random),
        controller: .random(in: 1...2, using: &random))
      let from = UInt64.random(in: 0...now, using: &random)
      let to = UInt64.random(in: from...now + 100, using: &random)
      for cpu in 0...4 as ClosedRange<UInt16> {
        #expect(driver.timeline.times(of: cpu, from: from, to: to).sum == to - from)
      }
    }
  }
}

@Suite("What the kernel's driver is busy with")
struct DriverUseTests {
  @Test("a transfer has its channel when the one before ends, and waits until then")
  func channels() throws {
    var driver = Driver(of: 1)
    driver.timeline.count(since: 0, at: 0)
    #expect(driver.add(Event.Segment(qid: 1, cid: 7, span: 100), at: 1000) == 0)
    #expect(driver.add(Event.Segment(qid: 1, cid: 8, span: 120), at: 1040, cpu: 1) == 80)
    #expect(driver.add(Event.Segment(qid: 1, cid: 9, span: 20), at: 1050, cpu: 2) == 10)
    #expect(driver.add(Event.Segment(flags: .fromHost, qid: 1, cid: 9, span: 60), at: 1050) == 0)
    #expect(driver.add(Event.Read(qid: 1, cid: 9, span: 50), at: 1060) == 40)
    #expect(driver.add(Event.Fetch(qid: 1, cid: 9, span: 5), at: 1064) == 1)
    #expect(driver.add(Event.Segment(flags: .window, qid: 1, cid: 9, span: 90), at: 1070) == 0)
    #expect(driver.add(Event.Segment(flags: [.window, .fromHost], qid: 1, cid: 9, span: 90), at: 1080) == 80)
    #expect(driver.add(Event.Segment(qid: 1, cid: 7, span: 90), at: 1090, controller: 2) == 0, "it has its own")
    let channels = try #require(driver.timeline.use(until: 2000, DriverWaits())).channels
    #expect(channels.map(\.transfers) == [3, 3, 2])
    #expect(channels.map(\.busyNs) == [74, 150, 100])
    #expect(channels.map(\.waits) == [2, 2, 1] && channels.map(\.waitNs) == [41, 90, 80])
  }

  @Test("counts CPUs and workers from the first I/O command to the end of the last")
  func use() throws {
    var driver = Driver(of: 1)
    driver.read(7, from: 1000)
    driver.timeline.count(since: 1300, at: 1320)
    driver.add(Event.Work(work: .command, qid: 1, cid: 9), at: 1900, cpu: 1)
    driver.add(Event.Work(work: .command, qid: 1, cid: 10), at: 1950, cpu: 1, controller: 2)
    driver.read(8, from: 2000)
    driver.add(Event.Dropped(qid: 1, cid: 9), at: 2330)
    let use = try #require(driver.timeline.use(until: 2400, DriverWaits()))
    #expect(use.durationNs == 1100 && use.workersMax == 2)
    #expect(use.workersMean == Double(220 + 430) / 1100)
    #expect(use.cpus.map(\.cpu) == [0, 1])
    // The first command's end, and all of the second but execute and wake-up.
    #expect(use.cpus[0].busyNs == 110 && use.cpus[0].times.sum == 1100)
    #expect(use.cpus[0].largest == .dataOut)
    #expect(use.cpus[1].times[.map] == 500)
    #expect(driver.timeline.use(until: 1300, DriverWaits()) == nil)
  }
}
