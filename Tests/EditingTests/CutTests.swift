import Events
import Foundation
import Replay
import Simulation
import Testing
import Trace

@testable import Editing

@Suite("Cut") struct CutTests {
  let scratch = Scratch()

  /// Cut a period out of a trace, and check that the cut is a part of it that replays.
  /// - Returns: nil if the period is empty.
  @discardableResult
  private func check(_ path: String, _ period: Range<UInt64>) throws -> EditedTrace? {
    let output = scratch("cut.nvpt")
    guard let cut = try TraceCut(EditInput(try TraceReader(path: path)), period) else { return nil }
    let edited = try cut.write(to: output, note: "a test")
    #expect(edited.replay?.divergence == nil, "\(path) \(period)")
    let whole = try events(of: path)
    var part = try events(of: output)
    // The engine's state at the beginning; an event of the host may have the same time.
    if let state = part.firstIndex(where: { $0.record.is(.checkpoint) }), !whole.contains(part[state]) {
      part.remove(at: state)
    }
    let wanted = whole.filter { period.contains($0.record.time) && $0.record.event?.involvesEngine == true }
    #expect(part.filter { period.contains($0.record.time) && $0.record.event?.involvesEngine == true } == wanted)
    let all = whole.filter { (cut.begin..<cut.end).contains($0.record.time) }
    #expect(part.allSatisfy { all.contains($0) })
    return edited
  }

  @Test("Every part of a golden trace replays, wherever it is cut", arguments: engineTraces)
  func golden(_ path: String) throws {
    let times = try events(of: path).map(\.record.time)
    for step in 0..<24 {
      let (first, last) = (times.count * step / 24, times.count * min(step + 1 + step % 3, 24) / 24 - 1)
      guard times[first] < times[last] else { continue }
      try check(path, times[first]..<times[last])
    }
    try check(path, 0..<times[times.count / 2])
    try check(path, times[times.count / 2]..<UInt64.max)
  }

  @Test("A small part of a run with faults replays", arguments: [1, 2, 3] as [UInt64])
  func simulated(seed: UInt64) throws {
    let path = scratch("run.nvpt")
    try simulate(path, seed: seed, commands: 2000)
    let times = try events(of: path).filter { $0.id.source == .engine }.map(\.record.time)
    for part in 1..<6 {
      let place = times.count * part / 6
      guard let edited = try check(path, times[place]..<times[place + 40] + 1) else { continue }
      #expect(edited.events < 600)
    }
  }

  /// A simulated run with two queues at least that do not share a completion queue, without faults.
  private func runOfQueues(_ path: String) throws -> [UInt16] {
    for seed in 40..<80 as Range<UInt64> {
      var simulation = Simulation(seed: seed, commands: 1500)
      simulation.hasFaults = false
      guard try simulation.run(path: path).failure == nil else { continue }
      var users: [UInt16: Set<UInt16>] = [:]
      for event in try events(of: path) where event.record.is(.completion) && event.id.source == .engine {
        let completion = Event.Completion(event.record)
        users[completion.cqid, default: []].insert(completion.sqid)
      }
      if users.count > 2, users.values.allSatisfy({ $0.count == 1 }) { return users.keys.filter { $0 > 0 }.sorted() }
    }
    Issue.record("no seed has such queues")
    return []
  }

  @Test("A cut with one queue has no event of the others and replays, in the middle of a run too")
  func oneQueue() throws {
    let queues = try runOfQueues(scratch("run.nvpt"))
    let times = try events(of: scratch("run.nvpt")).filter { $0.id.source == .engine }.map(\.record.time)
    var written = 0
    for part in 1..<8 {
      let period = times[times.count * part / 9]..<times[times.count * (part + 1) / 9]
      for qid in queues.prefix(2) {
        var cut = try #require(try TraceCut(EditInput(try TraceReader(path: scratch("run.nvpt"))), period))
        do throws(TraceError) { try cut.keepQueues([qid]) } catch { continue }
        let edited = try cut.write(to: scratch("cut.nvpt"), note: "a test")
        #expect(edited.replay?.divergence == nil)
        let left = try events(of: scratch("cut.nvpt")).filter { $0.id.source == .engine && $0.record.is(.fetch) }
        #expect(left.allSatisfy { $0.record.qid == qid || $0.record.qid == 0 })
        let wanted = try events(of: scratch("run.nvpt")).filter {
          $0.id.source == .engine && $0.record.is(.fetch) && $0.record.qid == qid
            && (cut.begin..<cut.end).contains($0.record.time)
        }
        #expect(left.filter { $0.record.qid == qid } == wanted)
        if !left.isEmpty { written += 1 }
      }
    }
    #expect(written > 4)
  }

  @Test("Queues that share a completion queue cannot be cut apart")
  func sharedCompletionQueue() throws {
    let shared = [1, 2].map { Event.Completion(cqid: 3, dw2: $0 << 16).record }
    #expect(throws: TraceError.self) { try QueueFilter(shared) { $0 == 1 } }
    let both = try QueueFilter(shared) { _ in true }
    #expect(both.queues.isEmpty && shared.allSatisfy(both.keeps))
    let own = try QueueFilter([1, 2].map { Event.Completion(cqid: UInt16($0) + 4, dw2: $0 << 16).record }) { $0 == 1 }
    #expect(own.queues == [2])
    #expect(own.keeps(Event.Interrupt(cqid: 5).record) && !own.keeps(Event.Interrupt(cqid: 6).record))
    #expect(own.keeps(Event.Doorbell(flags: .completionHead, qid: 5).record))
    #expect(!own.keeps(Event.Doorbell(flags: .completionHead, qid: 6).record))
    #expect(!own.keeps(Event.Fetch(qid: 2).record) && own.keeps(Event.Fetch(qid: 0).record))
  }

  @Test("Without events in the period there is no cut")
  func empty() throws {
    let reader = try TraceReader(path: engineTraces[0])
    #expect(try TraceCut(EditInput(reader), 1 << 60..<1 << 61) == nil)
  }

  @Test("A cut of a cut is the cut of both periods")
  func twice() throws {
    let path = try #require(engineTraces.first { $0.hasSuffix("qd32-mixed.nvpt") })
    let times = try events(of: path).map(\.record.time)
    let (outer, inner) = (times[200]..<times[900], times[400]..<times[500])
    let cut = try #require(try TraceCut(EditInput(try TraceReader(path: path)), outer))
    _ = try cut.write(to: scratch("outer.nvpt"), note: "first")
    let again = try #require(try TraceCut(EditInput(try TraceReader(path: scratch("outer.nvpt"))), inner))
    _ = try again.write(to: scratch("both.nvpt"), note: "second")
    let once = try #require(try TraceCut(EditInput(try TraceReader(path: path)), inner))
    _ = try once.write(to: scratch("inner.nvpt"), note: "second")
    #expect(try events(of: scratch("both.nvpt")) == events(of: scratch("inner.nvpt")))
    let notes = try TraceReader(path: scratch("both.nvpt")).header.metadata.filter { $0.key == "cut" }
    #expect(notes.map(\.value) == ["first; then second"])
  }

  @Test("An interrupted cut leaves nothing")
  func interrupted() throws {
    let reader = try TraceReader(path: engineTraces[0])
    var asked = 0
    let input = EditInput(reader) {
      asked += 1
      return asked > 6
    }
    #expect(throws: TraceError.self) {
      try TraceCut(input, 0..<UInt64.max)?.write(to: scratch("cut.nvpt"), note: "a test")
    }
    #expect(asked > 6)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
  }

  @Test("A trace of the kernel keeps the owners of its streams")
  func kernel() throws {
    let path = try #require(goldenTraces.first { $0.hasSuffix("nvmet-pci-epf.nvpt") })
    let all = try events(of: path)
    let (begin, end) = (all[all.count / 2].record.time, all[all.count * 3 / 4].record.time)
    let cut = try #require(try TraceCut(EditInput(try TraceReader(path: path)), begin..<end))
    let edited = try cut.write(to: scratch("kernel.nvpt"), note: "a test")
    #expect(edited.replay == nil)
    let part = try events(of: scratch("kernel.nvpt"))
    let wanted = all.filter { (begin..<end).contains($0.record.time) }
    #expect(part.filter { !$0.record.is(.origin) } == wanted.filter { !$0.record.is(.origin) })
    for id in Set(part.map(\.id)) { #expect(part.first { $0.id == id }?.record.is(.origin) == true) }
  }

  @Test("What is at the path stays until the cut is complete, and is then kept as .old")
  func replaces() throws {
    let reader = try TraceReader(path: engineTraces[0])
    let cut = try #require(try TraceCut(EditInput(reader), 0..<UInt64.max))
    try Data("before".utf8).write(to: URL(fileURLWithPath: scratch("cut.nvpt")))
    _ = try cut.write(to: scratch("cut.nvpt"), note: "a test")
    #expect(try String(contentsOfFile: scratch("cut.nvpt.old"), encoding: .utf8) == "before")
    #expect(try events(of: scratch("cut.nvpt")) == events(of: engineTraces[0]))
    let own = try TraceReader(path: scratch("cut.nvpt"))
    let whole = try #require(try TraceCut(EditInput(own), 0..<UInt64.max))
    #expect(throws: TraceError.self) { try whole.write(to: scratch("cut.nvpt"), note: "itself") }
    let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
    #expect(Set(left) == ["cut.nvpt", "cut.nvpt.old"])
  }
}
