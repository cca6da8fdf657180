import Analysis
import NVMe
import Replay
import Testing
import Trace

@Suite("Recordings of the kernel's driver")
struct DriverReplayTests {
  private func replay(_ build: (KernelTrace) -> Void) throws -> DriverReplayResult {
    let trace = try KernelTrace()
    build(trace)
    return try DriverReplay(trace.finish(), controller: 1).run()
  }

  @Test("A driver that does what the engine does is found identical")
  func identical() throws {
    let result = try replay {
      $0.bringUp()
      for index in 0..<10 as Range<UInt16> { $0.read(0x100 + index, slot: UInt32(index % 4)) }
    }
    #expect(result.differences.map(\.what) == [])
    #expect(result.commands == 12 && result.segments == 10 && result.bytes == 40_960)
    #expect(result.before == 0 && result.interrupted == 0)
  }

  @Test(
    "Each fault of a driver is found, and named",
    arguments: [
      (KernelTrace.Fault.noSegment, "the driver moved nothing"), (KernelTrace.Fault.twice, "completed it 2 times"),
      (KernelTrace.Fault.workerIsGone, "its worker never came back"),
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

  @Test("Without the controller's begin nothing is replayed, and a gap ends the replay")
  func incomplete() throws {
    #expect(try replay { $0.read(1, slot: 0) }.before == 1)
    let result = try replay {
      $0.bringUp()
      $0.add(.gap, a: 3)
      $0.read(1, slot: 0)
    }
    #expect(result.endsAtGap && result.commands == 2)
  }

  @Test("Whatever the order of the events, a replay ends", arguments: 0..<50 as Range<UInt64>)
  func hostile(seed: UInt64) throws {
    var random = Seeded(state: seed)
    let kinds = EventKind.allCases.filter { !$0.description.carriesBytes }
    _ = try replay { trace in
      trace.bringUp()
      for _ in 0..<200 {
        let kind = kinds.randomElement(using: &random)!
        let bytes = (0..<kind.description.fixedTailBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
        trace.add(
          kind, flags: .random(in: 0...255, using: &random), qid: .random(in: 0...2, using: &random),
          cid: .random(in: 0...5, using: &random), a: .random(in: 0...0x60, using: &random), b: random.next(),
          bytes: bytes)
      }
    }
  }
}

@Suite("Stages of the kernel's commands")
struct KernelStagesTests {
  private func analyse(_ build: (KernelTrace) -> Void) throws -> (Summary, [CommandTimes]) {
    let trace = try KernelTrace()
    build(trace)
    let reader = try trace.finish()
    var analyzer = StageAnalyzer(subject: .controller(1))
    var commands: [CommandTimes] = []
    analyzer.onCommand = { times in if times.qid != .admin { commands.append(copy times) } }
    var events = try MergedEvents(reader)
    while let (record, id) = try events.next() {
      let tail = UnsafeRawBufferPointer(start: record + 1, count: Int(record.pointee.tail) * Record.size)
      analyzer.take(record.pointee, source: id.source, stream: Int(id.stream), tail: tail)
    }
    return (analyzer.summary(), commands)
  }

  @Test("A read's stages are what the events say, and add up")
  func read() throws {
    let (summary, commands) = try analyse {
      $0.bringUp()
      $0.read(7, slot: 0)
    }
    let times = try #require(commands.first)
    #expect(commands.count == 1 && summary.partial == 0)
    #expect(times.stages[.fetch] == 10 && times.stages[.dispatch] == 50 && times.stages[.map] == 20)
    #expect(times.stages[.execute] == 100 && times.stages[.dataOut] == 40 && times.stages[.interrupt] == 12)
    #expect(times.hops?.dispatch == 30 && times.hops?.wakeUp == 30)
    #expect(times.stages.sum + times.unexplained == times.total)
    #expect(times.bytesToHost == 4096)
  }

  @Test(
    "A command of which an event is missing is partial, never wrong",
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

  @Test("A command that was under way when the recording began, and one whose identifier comes again, are partial")
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
}
