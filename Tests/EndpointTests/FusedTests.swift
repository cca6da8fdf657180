import Chance
@_spi(Places) import Events
import Glibc
import NVMe
import Target
import Testing
import Trace

@testable import Endpoint
@testable import Simulation

/// Fused operations with a deferring backend, and what may happen to them meanwhile.
@Suite("Fused operations in flight")
struct FusedTests {
  private func enabled(_ scenario: Scenario = .endless, batches: Bool = false) throws -> EngineBench {
    let bench = try EngineBench(scenario: scenario) {
      $0.fetchesBatches = batches
      $0.arbitrationBurst = 7
    }
    bench.enable()
    for qid in [1, 2] as [UInt16] { #expect(bench.createPair(qid) == .success) }
    return bench
  }

  private func pair(_ cid: UInt16) -> [SubmissionEntry] {
    var compare = EngineBench.io(.compare, cid: cid, slba: 8, blocks: 8)
    compare.cdw0 |= 1 << 8
    var write = EngineBench.io(.write, cid: cid + 1, slba: 8, blocks: 8)
    write.cdw0 |= 2 << 8
    return [compare, write]
  }

  /// Everything so far replays, from a checkpoint in this very state too.
  private func expectReplays(_ bench: EngineBench) throws {
    bench.checkpoint()
    try expectIdentical(bench.recorded)
    let bytes = bench.controller.encoded()
    var again = try Controller.decode(bytes)
    let rewritten = again.encoded()
    #expect(rewritten == bytes)
    #expect(again.fusion.phase == bench.controller.fusion.phase)
  }

  @Test("no command runs between the two, or between earlier commands and them", arguments: [false, true])
  func isAtomic(batches: Bool) throws {
    let bench = try enabled(.slow(20_000...400_000), batches: batches)
    bench.submit(1, EngineBench.io(.write, cid: 1, slba: 8, blocks: 8))
    bench.settle()
    for sqe in [EngineBench.io(.read, cid: 2, slba: 8, blocks: 8)] + pair(3)
      + [EngineBench.io(.read, cid: 5, slba: 8, blocks: 8)] + pair(6)
    {
      bench.submit(1, sqe)
    }
    bench.settle()
    bench.submit(2, EngineBench.io(.write, cid: 20, slba: 8, blocks: 8))
    var seen: [UInt16] = []
    while seen.count < 8 {
      bench.wait()
      if seen.count == 2 { try expectReplays(bench) }
      for qid in [1, 2] as [UInt16] {
        while let cqe = bench.reap(qid) {
          #expect(cqe.status == .success)
          seen.append(cqe.cid.rawValue)
        }
      }
    }
    // Between the beginning of a comparison and the end of its write only the two stand.
    let work = bench.events { $0 == .executeBegin || $0 == .executeEnd }
    for first in [3, 6] as [UInt16] {
      let begin = try #require(work.firstIndex { $0.cid == first && $0.event == .executeBegin })
      #expect(work[begin..<begin + 4].map(\.cid) == [first, first, first + 1, first + 1])
      let under = work[..<begin].reduce(0) { $0 + ($1.event == .executeBegin ? 1 : -1) }
      #expect(under == 0, "no request was in flight")
    }
    try expectReplays(bench)
  }

  @Test("a refused command begins when the engine turns to it, not with the command before")
  func refusedBegin() throws {
    let bench = try enabled()
    bench.submit(1, EngineBench.io(.read, cid: 1, slba: 8, blocks: 8))
    bench.settle()
    bench.submit(1, pair(1)[1])
    bench.settle()
    let events = bench.events { $0 == .fetch || $0 == .map }.filter { $0.qid == 1 && $0.cid == 2 }
    #expect(events.map(\.event) == [.fetch, .map])
    let map = Event.Map(events[1])
    #expect(map.time - UInt64(map.span) >= events[0].time)
  }

  /// A pair from its fetch to its end, with a checkpoint in every phase. What a backend has ends when the test wants it
  /// to: by an Abort, or because its time is over at once.
  private func recordPhases() throws -> [Record] {
    let bench = try enabled()
    bench.submit(1, EngineBench.io(.read, cid: 1, slba: 8, blocks: 8))
    bench.settle()
    for sqe in pair(2) + [EngineBench.io(.read, cid: 4, slba: 8, blocks: 8)] { bench.submit(1, sqe) }
    bench.settle()
    #expect(bench.controller.fusion.phase == .waiting)
    bench.checkpoint()
    bench.port.inner.scenario = .slow(1...1)
    var end = SubmissionEntry(opcode: AdminOpcode.abort.rawValue, cid: CommandID(8))
    end.cdw10 = 1 | 1 << 16
    bench.submit(0, end)
    bench.poll()
    #expect(bench.controller.fusion.phase == .comparing)
    bench.checkpoint()
    bench.port.inner.scenario = .endless
    while bench.controller.fusion.phase == .comparing { bench.poll() }
    #expect(bench.controller.fusion.phase == .writing)
    bench.checkpoint()
    #expect(bench.reap(0)?.dw0 == 0)
    for cid in [3, 4] as [UInt16] { #expect(abort(bench, cid)) }
    #expect(statuses(bench).count == 4 && bench.controller.executing == 0)
    bench.checkpoint()
    return bench.recorded
  }

  /// Where the recording's checkpoints are.
  private func checkpoints(_ slots: [Record]) -> [Int] {
    var found: [Int] = []
    var place = 0
    while place < slots.count {
      if slots[place].event == .checkpoint { found.append(place) }
      place += 1 + Int(slots[place].tail)
    }
    return found
  }

  @Test("a recording can begin in every phase of a pair")
  func beginsAnywhere() throws {
    let slots = try recordPhases()
    for place in checkpoints(slots) { try expectIdentical(Array(slots[place...])) }
  }

  @Test("a checkpoint of arbitrary bytes is refused, or its replay ends")
  func survivesCheckpoints() throws {
    let slots = try recordPhases()
    var random = SeededGenerator(seed: 11)
    for place in checkpoints(slots) {
      let tail = Array(slots[place...])
      let bytes = Record.size..<Record.size + Int(tail[0].bLow)
      for _ in 0..<1500 {
        var changed = tail
        for _ in 0...random.next() % 3 {
          // The commands and what is done with them come last.
          let back = random.next() % 2 == 0 ? random.next() % 600 : random.next() % UInt64(bytes.count)
          let index = max(bytes.lowerBound, bytes.upperBound - 1 - Int(back))
          let value = UInt8(truncatingIfNeeded: random.next() % 4 == 0 ? random.next() : random.next() % 16)
          changed.withUnsafeMutableBytes { $0[index] = value }
        }
        _ = try? replay(changed)
      }
    }
  }

  private func abort(_ bench: EngineBench, _ cid: UInt16) -> Bool {
    bench.admin(.abort) { $0.cdw10 = 1 | UInt32(cid) << 16 }?.dw0 == 0
  }

  private func statuses(_ bench: EngineBench) -> [UInt16: UInt16] {
    var seen: [UInt16: UInt16] = [:]
    bench.settle()
    while let cqe = bench.reap(1) { seen[cqe.cid.rawValue] = cqe.status.code }
    bench.settle()
    return seen
  }

  @Test("Abort ends a waiting pair, a comparing pair, and commands after it")
  func aborts() throws {
    let bench = try enabled()
    bench.submit(1, EngineBench.io(.read, cid: 1, slba: 8, blocks: 8))
    bench.settle()
    for sqe in pair(2) + (4...6).map({ EngineBench.io(.read, cid: $0, slba: 8, blocks: 8) }) { bench.submit(1, sqe) }
    bench.settle()
    #expect(bench.controller.fusion.phase == .waiting)
    try expectReplays(bench)
    #expect(abort(bench, 5) && statuses(bench) == [5: Status.abortRequested.code])
    #expect(abort(bench, 3))
    let both = statuses(bench)
    #expect(both == [2: Status.failedFusedCommand.code, 3: Status.abortRequested.code])
    #expect(!bench.controller.fusion.isActive && bench.controller.executing == 3, "4 and 6 have their turn")
    for cid in [1, 4, 6] as [UInt16] { #expect(abort(bench, cid)) }
    #expect(statuses(bench).count == 3)
    for sqe in pair(10) + [EngineBench.io(.read, cid: 12, slba: 8, blocks: 8)] { bench.submit(1, sqe) }
    bench.settle()
    #expect(bench.controller.fusion.phase == .comparing)
    try expectReplays(bench)
    #expect(!abort(bench, 11), "it belongs to one that has begun")
    #expect(abort(bench, 10))
    #expect(statuses(bench) == [10: Status.abortRequested.code, 11: Status.failedFusedCommand.code])
    #expect(abort(bench, 12) && !abort(bench, 12) && !abort(bench, 99))
    try expectReplays(bench)
    #expect(bench.controller.slots.freeCount + 1 >= Controller.commandsMax)
  }

  @Test("a queue with a pair in flight is deleted when the pair and its fetched commands are done")
  func deletes() throws {
    let bench = try enabled()
    for sqe in pair(1) + [EngineBench.io(.read, cid: 3, slba: 8, blocks: 8)] { bench.submit(1, sqe) }
    bench.settle()
    var delete = SubmissionEntry(opcode: AdminOpcode.deleteIOSubmissionQueue.rawValue, cid: CommandID(9))
    delete.cdw10 = 1
    bench.submit(0, delete)
    bench.settle()
    #expect(bench.reap(0) == nil, "not yet")
    #expect(abort(bench, 1))
    #expect(bench.reap(0) == nil, "the command after the pair is in flight")
    try expectReplays(bench)
    #expect(abort(bench, 3))
    #expect(bench.reap(0)?.status == .success, "the deletion, or the Abort that let it go on")
    #expect(statuses(bench).count == 3)
    try expectReplays(bench)
  }

  @Test("a reset abandons a pair, and the next pair works")
  func resets() throws {
    let bench = try enabled()
    for life in 0..<3 {
      if life > 0 {
        bench.enable()
        bench.drain()
        bench.settle()
        #expect(bench.createPair(1) == .success)
      }
      if life == 1 { bench.submit(1, EngineBench.io(.read, cid: 9, slba: 8, blocks: 8)) }
      bench.settle()
      for sqe in pair(1) + pair(3) { bench.submit(1, sqe) }
      bench.settle()
      #expect(bench.controller.fusion.phase == (life == 1 ? .waiting : .comparing))
      bench.write(Register.cc, 0)
      bench.settle()
      #expect(!bench.controller.fusion.isActive && bench.controller.slots.freeCount == Controller.commandsMax)
    }
    try expectReplays(bench)
  }

  @Test("a first command waits while there is no slot for the second, and then continues")
  func waitsForRoom() throws {
    let bench = try EngineBench(scenario: .endless) { $0.arbitrationBurst = 0 }
    bench.enable()
    for qid in [1, 2] as [UInt16] { #expect(bench.createPair(qid, entries: 512) == .success) }
    // Each queue holds its share, and the first also all unreserved slots.
    var cid: UInt16 = 0
    func fill(_ qid: UInt16, until isFull: () -> Bool) {
      while !isFull() {
        bench.submit(qid, EngineBench.io(.read, cid: cid, slba: 0, blocks: 1))
        bench.settle()
        cid += 1
      }
    }
    let all = { bench.controller.room(QueueID(1), held: bench.controller.submissionQueues[1].held) == 1 }
    fill(2) { bench.controller.submissionQueues[2].held == 480 }
    fill(1, until: all)
    for sqe in pair(1000) { bench.submit(1, sqe) }
    // It would never settle where a held command counts as work.
    bench.settle()
    #expect(bench.controller.submissionQueues[1].first != Command.none)
    #expect(bench.controller.submissionQueues[1].head != bench.controller.submissionQueues[1].tail)
    try expectReplays(bench)
    #expect(bench.admin(.abort) { $0.cdw10 = 2 }?.dw0 == 0, "the read with identifier 0 of queue 2")
    bench.settle()
    #expect(bench.controller.submissionQueues[1].first == Command.none)
    #expect(bench.controller.fusion.phase == .waiting)
    try expectReplays(bench)
  }

  @Test("a pair fails if its namespace is detached")
  func detaches() throws {
    let bench = try enabled()
    bench.submit(1, EngineBench.io(.read, cid: 1, slba: 8, blocks: 8))
    bench.settle()
    for sqe in pair(2) { bench.submit(1, sqe) }
    bench.settle()
    bench.controller.detach(1, &bench.port)
    #expect(abort(bench, 1))
    let seen = statuses(bench)
    #expect(seen[2] == Status.invalidField.code && seen[3] == Status.failedFusedCommand.code)
    try expectReplays(bench)
  }
}
