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

  /// Any event of controller 1 or 2 on any of 4 CPUs.
  mutating func addAny(at time: UInt64, spanMax: UInt32, _ random: inout SeededGenerator) {
    let (qid, cid) = (UInt16.random(in: 0...2, using: &random), UInt16.random(in: 0...5, using: &random))
    let span = UInt32.random(in: 0...spanMax, using: &random)
    let work: Event.Work.Choice = Bool.random(using: &random) ? .command : .completionQueue
    let events: [any RecordedEvent] = [
      Event.Fetch(qid: qid, cid: cid, span: span), Event.Work(work: work, qid: qid, cid: cid),
      Event.WorkEnd(work: .init(rawValue: work.rawValue), qid: qid, cid: cid), Event.Request(qid: qid, cid: cid),
      Event.Read(qid: qid, cid: cid, span: span), Event.Segment(qid: qid, cid: cid, span: span),
      Event.ExecuteBegin(qid: qid, cid: cid), Event.ExecuteEnd(qid: qid, cid: cid),
      Event.CompletionQueued(qid: qid, cid: cid), Event.Completion(cqid: qid, cid: cid, dw2: UInt32(qid) << 16),
      Event.Interrupt(cqid: qid), Event.Dropped(qid: qid, cid: cid),
    ]
    add(
      events.randomElement(using: &random)!, at: time, cpu: .random(in: 0...3, using: &random),
      controller: .random(in: 1...2, using: &random))
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
      driver.addAny(at: now, spanMax: 200, &random)
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

  @Test("the first command's fetch has its channel; what ended before does not count, nor what of it came before")
  func firstFetch() throws {
    var driver = Driver(of: 1)
    driver.add(Event.Fetch(qid: 0, cid: 1, span: 10), at: 900)
    driver.add(Event.Segment(qid: 0, cid: 1, span: 10), at: 980)
    driver.add(Event.Fetch(qid: 1, cid: 1, span: 10), at: 1000)
    driver.timeline.count(since: 990, at: 1000)
    driver.add(Event.Segment(qid: 0, cid: 1, span: 100), at: 1020)
    let channels = try #require(driver.timeline.use(until: 2000, DriverWaits())).channels
    #expect(channels.map(\.transfers) == [1, 1, 0])
    #expect(channels.map(\.busyNs) == [10, 30, 0])
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

  @Test("ends with the last command, whatever happens after it", arguments: [true, false])
  func ends(withGap: Bool) throws {
    var driver = Driver(of: 1)
    driver.timeline.count(since: 900, at: 1000)
    driver.read(7, from: 1000)
    driver.timeline.count(until: 1320)
    driver.read(8, from: 2000)
    if withGap { driver.timeline.restart() }
    // Of another controller; more than a CPU's timeline remembers.
    for number in 0..<5_000 as Range<UInt64> {
      driver.add(Event.Work(work: .command, qid: 1, cid: 7), at: 3000 + number * 400, controller: 2)
      driver.add(Event.WorkEnd(work: .command, qid: 1, cid: 7), at: 3300 + number * 400, controller: 2)
    }
    let use = try #require(driver.timeline.use(until: 1320, DriverWaits()))
    #expect(use.durationNs == 420 && use.workersMax == 1 && use.workersMean == Double(220) / 420)
    #expect(use.cpus.count == 1 && use.cpus[0].busyNs == 10 + 30 + 40 + 10)
    #expect(use.cpus[0].times[.unknown] == 90, "before the CPU's first event")
    #expect(use.share(of: use.cpus[0].busyNs) == Double(90) / 420)
    #expect(use.channels.map(\.transfers) == [1, 1, 0] && use.channels[1].busyNs == 30)
  }

  @Test("counts a transfer that began before the first command as what it was")
  func transferInProgress() throws {
    var driver = Driver(of: 1)
    driver.add(Event.Work(work: .command, qid: 1, cid: 7), at: 1000, cpu: 1, controller: 2)
    driver.add(Event.Fetch(qid: 1, cid: 1, span: 100), at: 10_000)
    driver.timeline.count(since: 9900, at: 10_000)
    driver.add(Event.Segment(qid: 1, cid: 7, span: 45_000), at: 50_000, cpu: 1, controller: 2)
    // The CPU's first event.
    driver.add(Event.Segment(qid: 1, cid: 8, span: 45_000), at: 52_000, cpu: 2, controller: 2)
    let use = try #require(driver.timeline.use(until: 60_000, DriverWaits()))
    #expect(use.cpus[1].times[.dataOut] == 50_100 && use.cpus[1].times[.map] == 0)
    #expect(use.cpus[2].times[.dataOut] == 42_100 && use.cpus[2].times[.untraced] == 8000)
  }

  @Test("adds up to the time that counts, whatever the events are", arguments: 0..<100 as Range<UInt64>)
  func addsUp(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var driver = Driver(of: 1)
    var (now, first, last): (UInt64, UInt64, UInt64) = (0, 0, 0)
    for number in 0..<1000 {
      now += .random(in: 0...50, using: &random)
      driver.addAny(at: now, spanMax: seed % 2 == 0 ? 200 : 10_000, &random)
      if seed % 4 < 2, number % 100 == 99 { driver.timeline.restart() }
      if number == 100 {
        first = now - .random(in: 0...300, using: &random)
        driver.timeline.count(since: first, at: now)
      } else if (101..<900).contains(number), .random(in: 0..<5, using: &random) == 0 {
        last = max(last, first + 1, now - .random(in: 0...100, using: &random))
        driver.timeline.count(until: last)
      }
    }
    let use = try #require(driver.timeline.use(until: last, DriverWaits()))
    #expect(use.durationNs == last - first)
    for cpu in use.cpus {
      #expect(cpu.times.sum == use.durationNs)
      #expect(DriverActivity.allCases.allSatisfy { cpu.times[$0] <= use.durationNs })
      guard seed % 4 >= 2 else { continue }
      let times = driver.timeline.times(of: cpu.cpu, from: first, to: last)
      #expect(DriverActivity.allCases.allSatisfy { cpu.times[$0] == times[$0] }, "as it is known in the end")
    }
  }
}
