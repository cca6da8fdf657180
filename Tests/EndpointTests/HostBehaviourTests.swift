import Analysis
import Events
import NVMe
import Testing

@testable import Simulation

/// What the analysis says of hosts that break rules, each played against the engine.
@Suite("A host's behaviour in the engine's recording")
struct HostBehaviourTests {
  private func bench(queues: Bool = true, _ scenario: Scenario = Scenario()) throws -> EngineBench {
    let bench = try EngineBench(keepsPromises: false, scenario: scenario)
    bench.enable()
    if queues { #expect(bench.createPair(1, entries: 8).isSuccess) }
    return bench
  }

  private func summary(_ bench: EngineBench) -> Summary {
    var analyzer = StageAnalyzer()
    bench.recorded.withUnsafeBufferPointer { records in
      var place = 0
      while place < records.count {
        let record = records.baseAddress! + place
        analyzer.ingest(record.pointee, source: .engine, tail: record.tail)
        place += 1 + Int(record.pointee.tail)
      }
    }
    return analyzer.summary()
  }

  /// The number of the first event of a kind that fits, as `dump` counts.
  private func number(_ bench: EngineBench, _ kind: EventKind, _ fits: (Record) -> Bool = { _ in true }) -> UInt64? {
    var (place, number) = (0, 0 as UInt64)
    while place < bench.recorded.count {
      number += 1
      if bench.recorded[place].event == kind, fits(bench.recorded[place]) { return number }
      place += 1 + Int(bench.recorded[place].tail)
    }
    return nil
  }

  private func read(_ cid: UInt16 = 1) -> SubmissionEntry { EngineBench.io(.read, cid: cid, slba: 0, blocks: 1) }

  @Test("a host that keeps the rules gives nothing to say, whatever its queues do")
  func rightful() throws {
    let bench = try bench()
    for cid in 0..<50 as Range<UInt16> { #expect(bench.execute(1, read(cid))?.status.isSuccess == true) }
    bench.write(Register.cc, 0)
    bench.enable()
    #expect(bench.createPair(1, entries: 16).isSuccess && bench.createPair(2, entries: 2).isSuccess)
    for cid in 0..<50 as Range<UInt16> { #expect(bench.execute(1 + cid % 2, read(cid))?.status.isSuccess == true) }
    let summary = summary(bench)
    #expect(summary.hostBehaviour.isEmpty && summary.failures.isEmpty && summary.oldestUnfinished.isEmpty)
    #expect(summary.resets == 1 && summary.resetsBetween == 1)
  }

  @Test("doorbell values beyond the queue, each queue by itself")
  func outside() throws {
    let bench = try bench()
    for value in [8, 9, 0xffff_ffff] as [UInt32] {
      bench.ring(.submissionTail(QueueID(1)), value)
      bench.settle()
    }
    bench.ring(.completionHead(.admin), 32)
    bench.settle()
    let found = summary(bench).hostBehaviour
    #expect(found.map(\.kind) == [.doorbellOutsideQueue, .doorbellOutsideQueue] && found.map(\.qid) == [1, 0])
    #expect(found.map(\.count) == [3, 1] && found.map(\.doorbell) == [8, 32] && found.map(\.entries) == [8, 32])
    let first = number(bench, .doorbell) { Event.Doorbell($0).value == 8 && Event.Doorbell($0).qid == 1 }
    #expect(found[0].firstEvent == first)
    #expect(found[0].section == "5.1.2.1")
  }

  @Test("a doorbell of a queue that does not exist, or no longer")
  func stray() throws {
    let bench = try bench(queues: false)
    bench.ring(.submissionTail(QueueID(3)), 1)
    bench.controller.findStrayDoorbells(&bench.port)
    bench.settle()
    let found = summary(bench).hostBehaviour
    #expect(found.map(\.kind) == [.doorbellWithoutQueue] && found.first?.qid == 3)
  }

  @Test("a tail that passes the head, and a head that passes the tail")
  func ringsAhead() throws {
    // Nothing is fetched while the completion queue is full, so the host can fill its queue.
    let bench = try bench()
    for cid in 0..<8 as Range<UInt16> {
      bench.submit(1, read(cid))
      bench.settle()
    }
    // Seven completions and a blocked eighth: the queue is empty at 0, and is rung once around.
    for value in [6, 5] as [UInt32] {
      bench.ring(.submissionTail(QueueID(1)), value)
      bench.settle()
    }
    let tail = summary(bench).hostBehaviour.filter { $0.kind == .tailPassesHead }
    #expect(tail.map(\.count) == [1] && tail.first?.doorbell == 5 && tail.first?.qid == 1)

    let other = try self.bench()
    other.ring(.completionHead(QueueID(1)), 3)
    other.settle()
    let head = summary(other).hostBehaviour
    #expect(head.map(\.kind) == [.headPassesTail] && head.first?.doorbell == 3)
  }

  @Test("completions that the host does not take, until the end or for a while")
  func neverReaps() throws {
    let bench = try bench()
    for cid in 0..<8 as Range<UInt16> {
      bench.submit(1, read(cid))
      bench.settle()
    }
    var all = summary(bench)
    #expect(all.hostBehaviour.map(\.kind) == [.completionQueueFull] && all.hostBehaviour[0].isStillFull)
    #expect(all.hostBehaviour[0].firstEvent == number(bench, .completionQueueFull))
    let waiting = all.oldestUnfinished.first { $0.owed == .queueRoom }
    #expect(waiting?.cid == 7 && waiting?.cqid == 1 && all.oldestUnfinished.filter { $0.owed == .reap }.count == 7)
    while bench.reap(1) != nil { bench.settle() }
    all = summary(bench)
    #expect(all.hostBehaviour.map(\.isStillFull) == [false] && all.oldestUnfinished.isEmpty)
  }

  @Test("an identifier of a command in flight, which is not an event that is missing")
  func reuses() throws {
    let bench = try bench(.endless)
    for _ in 0..<3 {
      bench.submit(1, read(5))
      bench.settle()
    }
    let all = summary(bench)
    #expect(all.hostBehaviour.map(\.kind) == [.reusedIdentifier] && all.hostBehaviour[0].count == 2)
    #expect(all.hostBehaviour[0].cid == 5 && all.reused == 2 && all.partial == 0 && all.unfinished == 1)
    #expect(all.oldestUnfinished.map(\.owed) == [.backend] && all.oldestUnfinished[0].last == .executeBegin)
    #expect(all.oldestUnfinished[0].lastEvent > all.hostBehaviour[0].firstEvent)
  }

  @Test("data that is not accessible, and the failure that follows")
  func unreachableData() throws {
    let bench = try bench()
    var sqe = read()
    sqe.prp1 = 0xdead_0000
    #expect(bench.execute(1, sqe)?.status.code == Status.dataTransferError.code)
    let all = summary(bench)
    #expect(all.hostBehaviour.map(\.kind) == [.unreachableMemory] && all.hostBehaviour[0].address == 0xdead_0000)
    #expect(!all.hostBehaviour[0].isFatal && all.hostBehaviour[0].cid == 1)
    #expect(all.failures.map(\.count) == [1] && all.failures[0].opcode == 2 && !all.failures[0].isAdmin)
    #expect(all.failures[0].status & 0x7ff == Status.dataTransferError.code && all.failures[0].firstCID == 1)
    let first = number(bench, .completion) { !Status(rawValue: Event.Completion($0).status).isSuccess }
    #expect(all.failures[0].firstEvent == first)
  }

  @Test("a queue that is not accessible stops the controller", arguments: [true, false])
  func unreachableQueue(isSubmission: Bool) throws {
    let bench = try bench()
    let hidden = isSubmission ? EngineBench.submission(1) : EngineBench.completion(1)
    let address = EngineBench.address + UInt64(hidden)
    bench.world.hole = address..<address + 0x1000
    bench.submit(1, read())
    bench.settle()
    let found = summary(bench).hostBehaviour
    #expect(found.map(\.kind) == [isSubmission ? .failedFetch : .failedCompletion])
    #expect(found.first?.isFatal == true && found.first?.section == "9.5" && found.first?.qid == 1)
    #expect(found.first?.address == address)
  }

  @Test("unsupported values of CC stop the controller, once the host looks")
  func unsupportedConfiguration() throws {
    let bench = try bench()
    bench.write(Register.cc, 0)
    bench.write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue | 1 << 7))
    #expect(summary(bench).hostBehaviour.isEmpty)
    _ = bench.read(Register.csts)
    bench.checkpoint()
    let found = summary(bench).hostBehaviour
    #expect(found.map(\.kind) == [.fatal] && found.first?.cause == .configuration && found.first?.section == "3.5.1")
    let write = number(bench, .registerWrite) {
      Event.RegisterWrite($0).offset == Register.cc && Event.RegisterWrite($0).value >> 7 & 1 == 1
    }
    #expect(found.first?.firstEvent == write)
  }

  @Test("a keep alive timer that expires stops the controller")
  func keepAlive() throws {
    let bench = try bench()
    let set = bench.admin(.setFeatures) {
      $0.cdw10 = UInt32(FeatureID.keepAliveTimer.rawValue)
      $0.cdw11 = 1000
    }
    #expect(set?.status.isSuccess == true)
    let due = bench.port.inner.keepAliveNs
    bench.world.time.advance(to: try #require(due))
    bench.settle()
    #expect(bench.controller.csts.fatal)
    _ = bench.read(Register.csts)
    bench.checkpoint()
    let found = summary(bench).hostBehaviour
    #expect(found.map(\.kind) == [.fatal])
    #expect(found.first?.cause == .keepAlive && found.first?.section == "3.9")
  }

  @Test("commands that a reset ended are counted by its reason")
  func dropped() throws {
    let bench = try bench(.endless)
    for cid in 0..<3 as Range<UInt16> { bench.submit(1, read(cid)) }
    bench.settle()
    bench.controller.reset(.disconnect, &bench.port)
    bench.checkpoint()
    let all = summary(bench)
    #expect(all.drops.map(\.drop) == [.disconnect] && all.drops.map(\.commands) == [3])
    #expect(all.partial == 0 && all.unfinished == 0 && all.oldestUnfinished.isEmpty && all.resetsBetween == 0)
  }

  @Test("every failure is counted by opcode and status, the kinds in the order of their first")
  func failures() throws {
    let bench = try bench()
    for cid in 0..<5 as Range<UInt16> {
      _ = bench.execute(1, EngineBench.io(cid % 2 == 0 ? .write : .read, cid: cid, slba: 1 << 40, blocks: 1))
    }
    _ = bench.execute(1, SubmissionEntry(opcode: 0xc1, cid: CommandID(9), nsid: 1))
    _ = bench.admin(.getLogPage) { $0.cdw10 = 0xee }
    let failures = summary(bench).failures
    #expect(failures.map(\.opcode) == [1, 2, 0xc1, 2] && failures.map(\.count) == [3, 2, 1, 1])
    #expect(failures.map(\.isAdmin) == [false, false, false, true])
    #expect(failures.map { $0.status & 0x7ff } == [0x80, 0x80, 0x01, 0x109])
    #expect(failures.map(\.firstEvent) == failures.map(\.firstEvent).sorted() && failures[1].firstCID == 1)
  }
}
