import Analysis
import Chance
@_spi(Places) import Events
import NVMe
import Testing
import Text
import Trace

@testable import Replay

@Suite("Recordings of the kernel's driver")
struct DriverReplayTests {
  private func replay(_ build: (KernelTrace) -> Void) throws -> DriverReplayResult {
    let trace = try KernelTrace()
    build(trace)
    return try DriverReplay(trace.finish(), controller: 1).run()
  }

  @Test("A driver that behaves like the engine is identical")
  func identical() throws {
    let result = try replay {
      $0.bringUp()
      for index in 0..<10 as Range<UInt16> { $0.read(0x100 + index, slot: UInt32(index % 4)) }
    }
    #expect(result.differences.map(\.what) == [])
    #expect(result.commands == 12 && result.segments == 10 && result.bytes == 40_960)
    #expect(result.before == 0 && result.interrupted == 0)
    #expect(result.compared == 12 && result.verdict == .identical)
  }

  @Test(
    "Each fault of a driver is found and named",
    arguments: [
      (KernelTrace.Fault.noSegment, "the driver moved nothing"), (KernelTrace.Fault.twice, "completed it 2 times"),
      (.workerIsGone, "its worker never finished"), (.staleHead, "the head of the submission queue"),
      (.wrongPhase, "phase tag"), (.reservedDword, "0xdead in Dword 1"), (.wrongQueue, "of queue 7"),
      (.retry, "the same code, but not"),
    ] as [(KernelTrace.Fault, String)])
  func faults(fault: KernelTrace.Fault, words: String) throws {
    let result = try replay {
      $0.bringUp()
      $0.read(0x100, slot: 0)
      $0.read(0x101, slot: 1, fault)
      $0.add(.status, after: 3_000_000_000)
    }
    #expect(result.newDifferences >= 1)
    #expect(result.differences.contains { $0.what.contains(words) && $0.command.contains("0x101") })
  }

  @Test("A fetch from beyond any queue does not end the replay", arguments: [0xffff_fffe, .max] as [UInt32])
  func farSlot(slot: UInt32) throws {
    let result = try replay {
      $0.bringUp()
      var sqe = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(5), nsid: 1)
      (sqe.prp1, sqe.cdw12) = (0x80000, 7)
      $0.add(.fetch, qid: 0, cid: 5, a: UInt64(slot), b: 10, bytes: withUnsafeBytes(of: sqe, Array.init))
      // The queue's head is that place's when another of its commands completes.
      let identify = SubmissionEntry(opcode: AdminOpcode.identify.rawValue, cid: CommandID(3))
      $0.add(.fetch, qid: 0, cid: 3, a: 2, b: 10, bytes: withUnsafeBytes(of: identify, Array.init))
      $0.add(.fetch, qid: 0, cid: 6, a: UInt64(slot), b: 10, bytes: withUnsafeBytes(of: sqe, Array.init))
      $0.add(.completion, qid: 0, cid: 3, b: Record.pair(2, 3 | 1 << 16))
    }
    #expect(result.knownDifferences > 0)
  }

  @Test("A command that a reset interrupts is no finding, and the queues are new after it")
  func interrupted() throws {
    let result = try replay {
      $0.bringUp()
      var sqe = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(5), nsid: 1)
      (sqe.prp1, sqe.cdw12) = (0x80000, 7)
      $0.add(.fetch, qid: 1, cid: 5, b: 10, bytes: withUnsafeBytes(of: sqe, Array.init))
      $0.register(0x14, 0x46_0000)
      $0.bringUp()
      $0.read(6, slot: 0)
    }
    #expect(result.differences.map(\.what) == [])
    #expect(result.interrupted == 1 && result.commands == 6)
  }

  @Test("A worker may finish after the host has disabled the controller")
  func lateWorker() throws {
    let result = try replay {
      $0.bringUp()
      $0.read(5, slot: 0, .noWorkEnd)
      $0.register(0x14, 0x46_0000)
      $0.add(.workEnd, qid: 1, cid: 5)
      $0.add(.status, after: 3_000_000_000)
    }
    #expect(result.differences.map(\.what) == [])
  }

  @Test(
    "A configuration that only the driver accepts ends the comparison with one finding, until the next enabling",
    arguments: [0x47_0001, 0x56_0001, 0x57_0001, 0x46_0081] as [UInt64])
  func refusedConfiguration(cc: UInt64) throws {
    let result = try replay {
      $0.bringUp(cc: cc)
      $0.read(3, slot: 0)
    }
    #expect(result.newDifferences == 1 && result.verdict == .diverged)
    #expect(
      result.differences.contains {
        $0.command == "the controller" && $0.what.contains("CC \(cc.hex)")
      })
    #expect(result.before == 0 && result.compared == 0 && result.refused == 3)

    // Commands that agree before and after do not hide it.
    let among = try replay {
      $0.bringUp()
      $0.register(0x14, 0x46_0000)
      $0.bringUp(cc: cc)
      $0.read(3, slot: 0)
      $0.register(0x14, cc & ~1)
      $0.bringUp()
    }
    #expect(among.newDifferences == 1 && among.verdict == .diverged && among.compared == 4 && among.refused == 3)
  }

  @Test("Refusing the same configuration as the engine is no finding")
  func refusedByBoth() throws {
    let result = try replay {
      $0.register(0x24, 0x1f_001f)
      $0.register(0x14, 0x47_0001)
      $0.register(0x14, 0x47_0000)
      $0.bringUp()
    }
    #expect(result.differences.map(\.what) == [] && result.verdict == .identical && result.compared == 2)
  }

  @Test("AQA holds until it is written again")
  func attributesStay() throws {
    let result = try replay {
      $0.bringUp()
      $0.register(0x14, 0x46_0000)
      $0.register(0x14, 0x46_0001)
      var identify = SubmissionEntry(opcode: AdminOpcode.identify.rawValue, cid: CommandID(1))
      (identify.cdw10, identify.prp1) = (1, 0x80000)
      $0.command(identify, qid: 0, slot: 0, bytes: 4096, .wrongPhase)
    }
    // Compared, as the planted phase shows.
    #expect(result.compared == 3 && result.uncompared == 0)
    #expect(result.differences.contains { $0.what.contains("phase tag") })
  }

  @Test("A fetch from a queue that nobody created is a finding")
  func noQueue() throws {
    let result = try replay {
      $0.register(0x14, 0x46_0000)
      $0.bringUp()
      var read = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(3), nsid: 1)
      (read.prp1, read.cdw12) = (0x80000, 7)
      $0.command(read, qid: 5, slot: 0, bytes: 4096)
    }
    #expect(result.newDifferences == 1 && result.refused == 1 && result.verdict == .diverged)
  }

  @Test("Whatever was not compared keeps the verdict from being identical")
  func uncompared() throws {
    let doubtful = try replay {
      $0.bringUp()
      $0.read(3, slot: 0)
      $0.add(.gap, flags: Event.Gap.Flags.notRun.rawValue, a: 1, b: 100)
    }
    #expect(doubtful.newDifferences == 0 && doubtful.compared > 0 && doubtful.doubtful > 0)
    #expect(doubtful.verdict == .incomplete)
    let deleted = try replay {
      $0.bringUp()
      var delete = SubmissionEntry(opcode: AdminOpcode.deleteIOSubmissionQueue.rawValue, cid: CommandID(3))
      delete.cdw10 = 1
      $0.command(delete, qid: 0, slot: 2)
      $0.read(4, slot: 0)
    }
    #expect(deleted.newDifferences == 0 && deleted.refused == 1 && deleted.verdict == .incomplete)
  }

  @Test("Interrupts come on their queue's vector, and only where the host has enabled them")
  func interrupts() throws {
    func findings(
      created: UInt32, ien: Bool, raised: UInt64?, type: UInt16 = 4, after: UInt64 = 10, last: EventKind = .status
    ) throws -> [DriverDifference] {
      try replay {
        $0.bringUp(vector: created, ien: ien)
        $0.read(3, slot: 0, .noInterrupt)
        if let raised { $0.add(.interrupt, qid: 1, cid: type, a: raised, after: after) }
        $0.add(last, after: 2_000_000_000)
      }.differences
    }
    #expect(try findings(created: 3, ien: true, raised: 3).isEmpty)
    #expect(try findings(created: 3, ien: false, raised: nil).isEmpty)
    // A pin has no vectors; neither do recordings that do not know the type of an interrupt.
    #expect(try findings(created: 3, ien: true, raised: 0, type: 1).isEmpty)
    #expect(try findings(created: 3, ien: true, raised: 0, type: 0).isEmpty)
    // What the recorder writes when it has detached the probes does not show that they saw no interrupt until then.
    #expect(try findings(created: 3, ien: true, raised: nil, last: .clock).isEmpty)
    #expect(try findings(created: 3, ien: true, raised: nil, last: .probe).isEmpty)
    // One that is not the last does.
    #expect(
      try replay {
        $0.bringUp(vector: 3, ien: true)
        $0.read(3, slot: 0, .noInterrupt)
        $0.add(.interrupt, qid: 9)
        $0.add(.clock, after: 2_000_000_000)
        $0.add(.clock)
      }.differences.map(\.what).contains { $0.contains("no interrupt") })
    // Coalescing may delay it.
    #expect(try findings(created: 3, ien: true, raised: 3, after: 500_000_000).isEmpty)
    for (ien, raised, words) in [
      (false, 3, "IEN 0"), (true, 2, "vector 2 instead of the queue's vector 3"), (true, 0, "vector 0"),
      (true, nil, "no interrupt"),
    ] as [(Bool, UInt64?, String)] {
      let found = try findings(created: 3, ien: ien, raised: raised)
      #expect(found.map(\.command) == ["completion queue 1"] && found.allSatisfy { $0.kind == .new })
      #expect(found.contains { $0.what.contains(words) })
    }
  }

  @Test("Without the controller's begin nothing is replayed, and a gap ends the replay")
  func incomplete() throws {
    #expect(try replay { $0.read(1, slot: 0) }.before == 1)
    let result = try replay {
      $0.bringUp()
      $0.add(.gap, a: 3)
      $0.read(1, slot: 0)
    }
    #expect(result.endsAtGap && result.commands == 2 && result.afterEnd == 1)
    #expect(result.verdict == .incomplete)
  }

  @Test("A gap in any kernel stream counts, since the lost events may belong to this controller")
  func foreignGap() throws {
    let trace = try KernelTrace()
    try trace.origin(stream: 1, controller: 9)
    trace.bringUp()
    trace.add(.gap, a: 1, stream: 1)
    trace.read(1, slot: 0)
    let result = try DriverReplay(trace.finish(), controller: 1).run()
    #expect(result.endsAtGap && result.afterEnd == 1)
  }

  @Test("The doubt of a probe that was not run begins where the recorder says")
  func doubt() {
    for (b, doubtful) in [(0, 2), (1000, 1)] as [(UInt64, Int)] {
      var recording = DriverRecording(controller: 1)
      func ingest(_ record: Record, sqe: SubmissionEntry? = nil) {
        var slots = [record, Record(kind: .fetch), Record(kind: .fetch)]
        if sqe != nil { slots[0].tail = 2 }
        slots.withUnsafeBufferPointer { recording.ingest($0.baseAddress!, stream: 0) }
      }
      ingest(Record(kind: .origin, cid: 1))
      for cid in 0..<2 as Range<UInt16> {
        ingest(Record(time: UInt64(cid) * 50_000, kind: .fetch, qid: 1, cid: cid), sqe: SubmissionEntry())
        ingest(Record(time: UInt64(cid) * 50_000 + 10, kind: .completion, qid: 1, cid: cid))
      }
      ingest(Record(time: 50_500, kind: .gap, flags: Event.Gap.Flags.notRun.rawValue, a: 1, b: b))
      #expect(recording.commands.count { $0.isDoubtful } == doubtful)
    }
  }

  @Test("If no command can be compared, the verdict is not identical")
  func nothing() throws {
    let result = try replay {
      $0.register(0x24, 0x1f_001f)
      $0.register(0x14, 0x46_0001)
      $0.add(.fetch, cid: 1, b: 10, bytes: [UInt8](repeating: 0, count: 64))
    }
    #expect(result.commands == 1 && result.compared == 0 && result.verdict == .nothingToCompare)
  }

  @Test("A finding after many known departures is found")
  func knownDepartures() throws {
    let trace = try KernelTrace(slots: 1 << 16)
    trace.bringUp()
    for index in 0..<1100 as Range<UInt32> {
      var set = SubmissionEntry(opcode: AdminOpcode.setFeatures.rawValue, cid: CommandID(UInt16(index)))
      (set.cdw10, set.cdw11) = (0x0b, 0x900)
      trace.command(set, qid: 0, slot: (index + 2) % 32, dw0: 0x900)
    }
    trace.read(0x100, slot: 0, .noSegment)
    let result = try DriverReplay(trace.finish(), controller: 1).run()
    #expect(result.knownDifferences == 1100 && result.newDifferences >= 1 && result.verdict == .diverged)
    #expect(result.differences.contains { $0.kind == .new })
  }

  @Test("Another status is a known departure only where the engine departs on purpose")
  func departures() throws {
    func classOf(_ build: (KernelTrace) -> Void) throws -> [DriverDifference.Class] {
      try replay {
        $0.bringUp()
        build($0)
      }.differences.map(\.kind)
    }
    var create = SubmissionEntry(opcode: AdminOpcode.createIOCompletionQueue.rawValue, cid: CommandID(3))
    (create.prp1, create.cdw10, create.cdw11) = (0x50000, 3 << 16 | 2, 3)
    // A queue that is contiguous, of a size that is allowed.
    #expect(try classOf { $0.command(create, qid: 0, slot: 2, status: Status.invalidQueueSize.rawValue) } == [.new])
    var scattered = create
    scattered.cdw11 = 2
    let known = try classOf {
      $0.command(scattered, qid: 0, slot: 2, status: Status.invalidQueueSize.rawValue)
      $0.command(create, qid: 0, slot: 3, status: Status.invalidQueueIdentifier.rawValue)
    }
    #expect(known.count == 2 && !known.contains(.new))

    var read = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(9), nsid: 1)
    read.cdw0 |= 1 << 14
    read.cdw12 = 7
    read.sgl1 = SGLDescriptor(.dataBlock, address: 0x80000, length: 4096)
    #expect(
      try classOf { $0.command(read, qid: 1, slot: 0, .noExecuteEnd, status: Status.invalidField.rawValue) } == [.new])
    read.sgl1 = SGLDescriptor(.lastSegment, address: 0x80000, length: 24)
    let trusted = try classOf { $0.command(read, qid: 1, slot: 0, .noExecuteEnd, status: Status.invalidField.rawValue) }
    #expect(trusted.count == 1 && trusted != [.new])
  }

  @Test("A controller that was running when the recording began is known from when it is next enabled")
  func running() throws {
    let result = try replay {
      $0.register(0x24, 0x1f_001f)
      $0.register(0x28, 0x10000, width: 8)
      $0.register(0x30, 0x20000, width: 8)
      $0.register(0x14, 0x46_0001)
      var identify = SubmissionEntry(opcode: AdminOpcode.identify.rawValue, cid: CommandID(1))
      identify.cdw10 = 1
      $0.command(identify, qid: 0, slot: 5)
      $0.read(3, slot: 2)
      $0.register(0x14, 0x46_0000)
      $0.bringUp()
      $0.read(4, slot: 0)
    }
    #expect(result.differences.map(\.what) == [])
    #expect(result.before == 2 && result.compared == 3 && result.verdict == .incomplete)
  }

  @Test("A command abandoned with its queue is no finding; one abandoned without reason is")
  func dropped() throws {
    for isDeleted in [true, false] {
      let result = try replay {
        $0.bringUp()
        $0.read(1, slot: 0)
        $0.fetch(5, slot: 1)
        $0.add(.dropped, qid: 1, cid: 5)
        // Long before, it had nothing to do with the queue's end.
        $0.add(.queue, flags: 0x02, qid: 1, after: isDeleted ? 10 : 200_000_000)
      }
      #expect(result.newDifferences == (isDeleted ? 0 : 1) && result.interrupted == 1)
    }
  }

  @Test("A failed fetch has no command and uses no identifier")
  func failedFetch() throws {
    let result = try replay {
      $0.bringUp()
      $0.fetch(0, slot: 0)
      $0.add(
        .fetch, flags: Event.Fetch.Flags.failed.rawValue, qid: 1, cid: 0, a: 1, bytes: [UInt8](repeating: 0, count: 64))
      $0.add(.dropped, qid: 1, cid: 0)
      $0.finishRead(0, slot: 0)
      $0.read(7, slot: 1)
    }
    #expect(result.newDifferences == 0 && result.knownDifferences == 1 && result.compared == 4)
  }

  @Test("A tag reused in another generation is another command")
  func generations() throws {
    let result = try replay {
      $0.bringUp()
      $0.fetch(0x1005, slot: 0)
      $0.fetch(0x2005, slot: 1)
      $0.finishRead(0x1005, slot: 0, head: 2)
      $0.finishRead(0x2005, slot: 1)
    }
    #expect(result.differences.map(\.what) == [] && result.compared == 4)
  }

  @Test("A controller that stays ready though it was disabled is a finding")
  func staysReady() throws {
    for isCleared in [true, false] {
      let result = try replay {
        $0.bringUp()
        $0.add(.status, a: 1)
        $0.register(0x14, 0x46_0000)
        if isCleared { $0.add(.status, a: 0) }
        $0.bringUp()
      }
      #expect(result.differences.contains { $0.what.contains("still ready") } != isCleared)
    }
  }

  @Test("An entry outside its queue and data at the end of the address space are handled")
  func extremes() throws {
    let result = try replay {
      $0.bringUp()
      $0.fetch(1, slot: .max)
      $0.fetch(2, slot: 0)
      $0.add(.segment, flags: Event.Segment.Flags.failed.rawValue, qid: 1, cid: 2, a: .max - 1, b: UInt64(UInt32.max))
      $0.finishRead(2, slot: 0)
    }
    #expect(result.knownDifferences == 1 && result.commands == 4)
  }

  @Test("Whatever the order of the events, a replay ends", arguments: 0..<50 as Range<UInt64>)
  func hostile(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    _ = try replay { trace in
      trace.bringUp()
      for _ in 0..<200 { trace.addAny(&random) }
    }
  }
}

@Suite("Stages of the kernel's commands")
struct KernelStagesTests {
  private func analyse(_ build: (KernelTrace) -> Void) throws -> (Summary, [CommandTimes]) {
    let trace = try KernelTrace()
    build(trace)
    return try analyse(trace)
  }

  private func analyse(_ trace: KernelTrace) throws -> (Summary, [CommandTimes]) {
    let reader = try trace.finish()
    var analyzer = StageAnalyzer(subject: .controller(1))
    var commands: [CommandTimes] = []
    analyzer.onCommand = { times in if times.qid != .admin { commands.append(copy times) } }
    try analyzer.ingestAll(of: reader)
    return (analyzer.summary(), commands)
  }

  @Test("A read's stages follow from its events and add up")
  func read() throws {
    let (summary, commands) = try analyse {
      $0.bringUp()
      $0.read(7, slot: 0)
    }
    let times = try #require(commands.first)
    #expect(commands.count == 1 && summary.partial == 0)
    #expect(times.stages[.fetch] == 10 && times.stages[.dispatch] == 50 && times.stages[.map] == 20)
    #expect(times.stages[.execute] == 100 && times.stages[.dataOut] == 40 && times.stages[.interrupt] == 12)
    #expect(times.handoffs?.dispatch == 30 && times.handoffs?.wakeUp == 30)
    #expect(times.stages.sum + times.unexplained == times.total)
    #expect(times.bytesToHost == 4096)
  }

  @Test(
    "A command with a lost event is partial, never wrong",
    arguments: [
      KernelTrace.Fault.noExecuteEnd, .noSegment,
    ])
  func partial(fault: KernelTrace.Fault) throws {
    let (summary, commands) = try analyse {
      $0.bringUp()
      $0.read(7, slot: 0, fault)
      $0.read(8, slot: 1)
    }
    #expect(commands.map(\.cid.rawValue) == [8])
    #expect(summary.partial == 1)
  }

  @Test("A command in flight when the recording began, and one whose identifier is reused, are partial")
  func cut() throws {
    let (summary, commands) = try analyse {
      $0.add(.work, qid: 1, cid: 3)
      $0.add(.request, flags: 2, qid: 1, cid: 3)
      $0.add(.executeEnd, qid: 1, cid: 3)
      $0.add(.fetch, qid: 1, cid: 9, b: 10, bytes: [UInt8](repeating: 2, count: 64))
      $0.read(9, slot: 1)
    }
    #expect(commands.map(\.cid.rawValue) == [9])
    #expect(summary.partial + summary.unfinished == 2)
  }

  @Test(
    "Events of nvmet-pci-epf's commands from the target core alone are not a command, at the beginning or after a gap")
  func pieces() throws {
    let (summary, _) = try analyse {
      $0.add(.request, flags: 2, qid: 1, cid: 3)
      $0.add(.executeEnd, qid: 1, cid: 3)
      $0.add(.response, qid: 1, cid: 3)
      $0.read(8, slot: 1)
      $0.add(.gap, a: 1)
      $0.add(.request, flags: 2, qid: 1, cid: 4)
      $0.add(.executeEnd, qid: 1, cid: 4)
    }
    #expect(summary.io.commands == 1 && summary.partial == 2)
  }

  @Test("If the trace contains the host, a command without its submission is partial")
  func forgottenSubmit() throws {
    let trace = try KernelTrace()
    try trace.origin(stream: 1, controller: 0, isHost: true)
    for cid in 1...3 as ClosedRange<UInt16> {
      if cid != 2 { trace.add(.submit, flags: 2, qid: 1, cid: cid, stream: 1) }
      trace.add(.request, flags: 2, qid: 1, cid: cid)
      trace.add(.executeEnd, qid: 1, cid: cid)
      trace.add(.completion, qid: 1, cid: cid, b: 1 << 16, stream: 1)
    }
    let (summary, commands) = try analyse(trace)
    #expect(commands.map(\.cid.rawValue) == [1, 3] && summary.partial == 1)
  }

  @Test("A second completion is counted, and a failed fetch uses no identifier")
  func faults() throws {
    let (summary, commands) = try analyse {
      $0.bringUp()
      $0.read(7, slot: 0, .twice)
      $0.fetch(0, slot: 1)
      $0.add(.fetch, flags: Event.Fetch.Flags.failed.rawValue, qid: 1, bytes: [UInt8](repeating: 0, count: 64))
      $0.add(.dropped, qid: 1)
    }
    #expect(summary.completedTwice == 1 && commands.map(\.cid.rawValue) == [7])
    #expect(summary.partial == 0 && summary.unfinished == 1)
  }

  @Test("A completion without an interrupt is counted")
  func unannounced() throws {
    let (summary, _) = try analyse {
      $0.bringUp()
      $0.read(7, slot: 0)
      $0.read(8, slot: 1, .noInterrupt)
    }
    #expect(summary.unannounced == 1 && summary.io.commands == 2)
  }

  @Test("The host's doorbell divides the time before the fetch")
  func doorbell() throws {
    let trace = try KernelTrace()
    try trace.origin(stream: 1, controller: 0, isHost: true)
    trace.add(.doorbell, qid: 1, a: 0, stream: 1)
    trace.add(.submit, flags: 2, qid: 1, cid: 7, stream: 1)
    trace.add(.doorbell, qid: 1, a: 1, after: 25, stream: 1)
    trace.read(7, slot: 0)
    trace.add(.completion, qid: 1, cid: 7, b: 1 << 16, stream: 1)
    let (_, commands) = try analyse(trace)
    #expect(commands.first?.handoffs?.doorbell == 25 && commands.first?.stages[.detect] == 35)
  }

  @Test("The costs of probes are added up")
  func probes() throws {
    let (summary, _) = try analyse {
      $0.add(.probe, flags: Record.carriesBytesFlag, a: 10, b: 1 | 5 << 32, bytes: [0x61])
      $0.add(.probe, flags: Record.carriesBytesFlag, a: 2, b: 1 | 50 << 32, bytes: [0x62])
    }
    #expect(summary.probes?.runs == 12 && summary.probes?.ns == 150 && summary.probes?.dearest == "b")
  }

  @Test("Whatever the order of the events, they are analysed", arguments: 0..<20 as Range<UInt64>)
  func hostile(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    _ = try analyse { trace in for _ in 0..<500 { trace.addAny(&random) } }
  }
}
