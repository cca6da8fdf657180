import Endpoint
@_spi(Places) import Events
import Foundation
import NVMe
import Simulation
import Testing
import Trace

@testable import Replay

/// The whole report of each kind of divergence. A planted change is one of the recording: the recorded value is the wrong
/// one, and the engine's the right one.
@Suite("Divergences in words")
struct DivergenceTests {
  /// An event with its tail.
  private typealias Slots = [Record]

  /// Two reads at a time of a queue with few entries, an event request, and a read with a PRP list; checkpoints between.
  private func recording() throws -> [Slots] {
    let bench = try EngineBench(keepsPromises: false, scenario: .slow(10_000...10_000))
    bench.enable()
    bench.submit(0, SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: CommandID(9)))
    bench.settle()
    for qid in [1, 2] as [UInt16] { #expect(bench.createPair(qid, entries: 8, vector: qid) == .success) }
    for cid in 0..<20 as Range<UInt16> {
      if cid % 8 == 7 { bench.checkpoint() }
      let list = EngineBench.address + UInt64(EngineBench.lists)
      let pages: [UInt64] = [9, 7, 5, 3]
      for (place, page) in pages.enumerated() {
        let address = EngineBench.address + UInt64(EngineBench.data) + page * 4096
        bench.memory.storeBytes(of: address, toByteOffset: EngineBench.lists + place * 8, as: UInt64.self)
      }
      bench.submit(1, EngineBench.io(.read, cid: cid, slba: UInt64(cid) * 50, blocks: 40, prp2: list))
      bench.submit(1, EngineBench.io(.read, cid: 100 + cid, slba: UInt64(cid) * 50, blocks: 8))
      bench.submit(2, EngineBench.io(.write, cid: 200 + cid, slba: UInt64(cid) * 50, blocks: 8))
      bench.settle()
      bench.drain()
      while bench.reap(1) != nil {}
      while bench.reap(2) != nil {}
      bench.settle()
    }
    bench.checkpoint()
    var events: [Slots] = []
    var index = 0
    while index < bench.recorded.count {
      let end = index + 1 + Int(bench.recorded[index].tail)
      events.append(Array(bench.recorded[index..<end]))
      index = end
    }
    return events
  }

  /// What a replay of a closed trace with these events finds.
  private func replay(_ events: [Slots], keepsGoing: Bool = false) throws -> ReplayResult {
    var template = Array("/tmp/nvmepf-test-XXXXXX".utf8CString)
    let folder = String(cString: mkdtemp(&template)!)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (model, path) = (folder + "/model.nvpt", folder + "/trace.nvpt")
    _ = try Simulation(seed: 1, commands: 10).run(path: model)
    let original = try TraceReader(path: model)
    let copy = try TraceCopy(path, header: original.header, of: original)
    for event in events {
      try event.withUnsafeBufferPointer { slots throws(TraceError) in
        try copy.append(slots.baseAddress!, as: StreamID(source: .engine, stream: 0))
      }
    }
    try copy.close(end: original.end)
    try copy.publish()
    return try ReplayResult(replaying: TraceReader(path: path), keepsGoing: keepsGoing)
  }

  /// The report of a recording with a change.
  private func report(_ change: (inout [Slots]) throws -> Void) throws -> String {
    var events = try recording()
    try change(&events)
    return try replay(events).divergence?.description ?? "nothing"
  }

  /// The index of an event of this kind on a queue.
  private func place(_ kind: EventKind, _ number: Int, _ events: [Slots], qid: UInt16 = 1) throws -> Int {
    let all = events.indices.filter { events[$0][0].is(kind) && events[$0][0].qid == qid }
    try #require(number < all.count)
    return all[number]
  }

  // MARK: Reports

  /// The reports of all changes, as the file beside this one has them.
  private func reports() throws -> String {
    var text = ""
    func add(_ name: String, _ change: (inout [Slots]) throws -> Void) throws {
      text += "## \(name)\n\n\(try report(change))\n\n"
    }
    try add("nothing wrong") { _ in }
    try add("wrong phase") { $0[try place(.completion, 11, $0)][0].bHigh ^= 1 << 16 }
    try add("wrong SQHD") { $0[try place(.completion, 11, $0)][0].bLow ^= 1 }
    try add("wrong status") { $0[try place(.completion, 11, $0)][0].bHigh ^= 0x80 << 17 }
    try add("extra completion") {
      let place = try place(.completion, 11, $0)
      $0.insert($0[place], at: place)
    }
    try add("missing completion at the end") { $0.removeSubrange(try place(.completion, 38, $0)...) }
    try add("missing interrupt") { $0.remove(at: try place(.interrupt, 11, $0)) }
    try add("extra interrupt") {
      let place = try place(.interrupt, 11, $0)
      $0.insert($0[place], at: place)
    }
    try add("wrong vector") { $0[try place(.interrupt, 11, $0)][0].aLow += 1 }
    try add("missing segment") { $0.remove(at: try place(.segment, 62, $0)) }
    try add("extra segment") {
      let place = try place(.segment, 62, $0)
      $0.insert($0[place - 1], at: place)
      $0[place][0].a += 0x100000
    }
    try add("wrong PRP list entry") { $0[try place(.read, 12, $0)][1].time += 0x3000 }
    try add("wrong register") { events in
      let place = try place(.fetch, 2, events)
      let time = events[place][0].time
      events.insert([Record(time: time, kind: .registerRead, flags: 4, a: Register.csts)], at: place - 1)
    }
    try add("wrong state") { events in
      let place = events.indices.filter { events[$0][0].is(.checkpoint) }[2]
      let fields = events[place].withUnsafeBufferPointer { Controller.fields(of: $0.baseAddress!.bytes!) }
      let head = try #require(fields.first { $0.path == "completion queue 1, head" })
      events[place].withUnsafeMutableBytes { $0[Record.size + head.offset] = 3 }
    }
    return text
  }

  @Test("each kind of divergence is reported in these words (written anew with UPDATE_DOCS=1)")
  func words() throws {
    let path = #filePath.replacing("DivergenceTests.swift", with: "Divergences.txt")
    let reports = try reports()
    if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil {
      try reports.write(toFile: path, atomically: true, encoding: .utf8)
    }
    #expect(reports == (try String(contentsOfFile: path, encoding: .utf8)))
  }

  @Test("a replay that keeps going finds every divergence, and counts those of one kind together")
  func keepsGoing() throws {
    var events = try recording()
    for number in [3, 19] { events[try place(.completion, number, events)][0].bLow ^= 1 }
    events[try place(.interrupt, 18, events)][0].aLow += 1
    let result = try replay(events, keepsGoing: true)
    #expect(result.divergence?.event == result.groups.first?.first.event)
    #expect(
      result.groups.map(\.first.summary) == [
        "completion: SQHD: recorded 5, engine 4", "interrupt: vector: recorded 2, engine 1",
      ])
    #expect(result.groups.map(\.count) == [2, 1])
    for group in result.groups {
      for event in group.events { #expect(events[Int(event)][0].event == group.first.recordedKind) }
    }
    #expect(result.events + result.skipped == UInt64(events.count))
    #expect(try replay(recording(), keepsGoing: true).groups.isEmpty)
    // At a checkpoint that is no engine's, nothing can go on; at the next one it can.
    events = try recording()
    let place = events.indices.filter { events[$0][0].is(.checkpoint) }[1]
    events[place].withUnsafeMutableBytes { $0[Record.size] ^= 0xff }
    events[try self.place(.completion, 39, events)][0].bLow ^= 1
    let damaged = try replay(events, keepsGoing: true)
    #expect(damaged.groups.map(\.first.kind) == [.state, .fields] && damaged.skipped > 0)
  }

  @Test("a replay names commands that never completed")
  func unfinished() throws {
    let bench = try EngineBench(keepsPromises: false, scenario: .endless)
    bench.enable()
    #expect(bench.createPair(1, entries: 8) == .success)
    bench.submit(1, EngineBench.io(.read, cid: 5, slba: 0, blocks: 8))
    bench.settle()
    let result = try EndpointTests.replay(bench.recorded)
    #expect(result.divergence == nil && result.unfinished == 1)
    #expect(result.unfinishedCommands == ["1/5 (read) waits for its backend"])
  }
}
