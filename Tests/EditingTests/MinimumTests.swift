@_spi(Places) import Events
import Foundation
import Replay
import Testing
import Trace

@testable import Editing

@Suite("Minimum") struct MinimumTests {
  let scratch = Scratch()

  private static let changes: [(EventKind, @Sendable (inout TestEvent) -> Void)] = [
    (.completion, { $0.record.bHigh ^= 1 << 20 }), (.completion, { $0.record.bLow ^= 1 }),
    (.executeBegin, { $0.record.a += 1 }), (.interrupt, { $0.record.aLow += 1 }), (.map, { $0.record.aHigh += 512 }),
    (.fetch, { $0.record.aLow += 1 }), (.segment, { $0.record.a ^= 0x1000 }),
  ]

  @Test("A run with one wrong event is reduced to the pass that shows it", arguments: MinimumTests.changes.indices)
  func onePass(_ number: Int) throws {
    let (kind, change) = MinimumTests.changes[number]
    try simulate(scratch("run.nvpt"), seed: 11, commands: 3000)
    try mutate(scratch("run.nvpt"), to: scratch("wrong.nvpt"), kind, change)
    let reader = try TraceReader(path: scratch("wrong.nvpt"))
    let whole = try #require(try ReplayResult(replaying: reader).divergence)
    let minimum = try #require(try Minimum(EditInput(reader)))
    let edited = try minimum.write(to: scratch("small.nvpt"), note: "a test")
    let divergence = try #require(try ReplayResult(replaying: TraceReader(path: scratch("small.nvpt"))).divergence)
    #expect(divergence.recorded == whole.recorded && divergence.engine == whole.engine)
    #expect(divergence.timeNs == whole.timeNs)
    #expect(edited.events * 50 < reader.totals.events && edited.bytes * 10 < reader.bytes)
  }

  /// A run, its hashes, and one of them that is near the next checkpoint or not: not the first, nor one behind a checkpoint.
  private func runWithHash(isNear: Bool) throws -> (whole: [TestEvent], hashes: [Int], place: Int, next: Int) {
    for seed in 12..<40 as Range<UInt64> {
      try simulate(scratch("run.nvpt"), seed: seed, commands: 3000)
      let whole = try events(of: scratch("run.nvpt"))
      let hashes = whole.indices.filter { whole[$0].record.is(.stateHash) }
      let checkpoints = whole.indices.filter { whole[$0].record.is(.checkpoint) }
      for place in hashes.indices.dropFirst() {
        guard let next = checkpoints.first(where: { $0 > hashes[place] }),
          !checkpoints.contains(where: { hashes[place - 1] < $0 && $0 < hashes[place] }),
          (next - hashes[place] < whole.count / 20) == isNear
        else { continue }
        return (whole, hashes, place, next)
      }
    }
    throw NoSuchRun()
  }

  private struct NoSuchRun: Error {}

  @Test(
    "A difference of hashes is kept from the last hash that agrees; to the next checkpoint, if that is near",
    arguments: [true, false])
  func hashes(isNear: Bool) throws {
    let (whole, hashes, place, next) = try runWithHash(isNear: isNear)
    try rewrite(scratch("run.nvpt"), to: scratch("wrong.nvpt")) { event in
      if event == whole[hashes[place]] { event.record.a ^= 1 }
      if event == whole[next] { event.tail[150] ^= 1 }
      return true
    }
    let reader = try TraceReader(path: scratch("wrong.nvpt"))
    let later = try #require(try ReplayResult(replaying: reader).divergence?.later)
    try #require(later.kind == .checkpoint && !later.fields.isEmpty)
    let edited = try #require(try Minimum(EditInput(reader))).write(to: scratch("small.nvpt"), note: "a test")
    let small = try #require(try ReplayResult(replaying: TraceReader(path: edited.path)).divergence)
    #expect(small.recordedKind == .stateHash)
    #expect(small.later?.fields.map(\.name) == (isNear ? later.fields.map(\.name) : nil))
    let engine = whole[(hashes[place - 1] + 1)...(isNear ? next : hashes[place])].filter {
      $0.id.source == .engine && $0.record.event?.involvesEngine == true
    }
    let kept = try events(of: edited.path).filter { $0.id.source == .engine && $0.record.event?.involvesEngine == true }
    // The checkpoint at the beginning.
    #expect(kept.count == engine.count + 1)
  }

  @Test("A difference of states is kept with everything since the hash or checkpoint before it")
  func states() throws {
    try simulate(scratch("run.nvpt"), seed: 12, commands: 3000)
    try mutate(scratch("run.nvpt"), to: scratch("wrong.nvpt"), .checkpoint) { $0.tail[150] ^= 1 }
    let reader = try TraceReader(path: scratch("wrong.nvpt"))
    let whole = try #require(try ReplayResult(replaying: reader).divergence)
    let minimum = try #require(try Minimum(EditInput(reader)))
    let edited = try minimum.write(to: scratch("small.nvpt"), note: "a test")
    let divergence = try #require(edited.replay?.divergence)
    #expect(divergence.fields.map(\.name) == whole.fields.map(\.name))
    #expect(edited.commands > 0 && edited.commands < reader.totals.commands)
  }

  @Test("An event that is missing at the end stays missing")
  func atEnd() throws {
    let path = try #require(engineTraces.first { $0.hasSuffix("two-queues.nvpt") })
    let place = try #require(try events(of: path).last { $0.record.is(.interrupt) && $0.id.source == .engine })
    let cut = try #require(try TraceCut(EditInput(try TraceReader(path: path)), 0..<place.record.time + 1))
    _ = try cut.write(to: scratch("cut.nvpt"), note: "a test")
    try #require(try events(of: scratch("cut.nvpt")).last { $0.id.source == .engine } == place)
    try rewrite(scratch("cut.nvpt"), to: scratch("wrong.nvpt")) { $0 != place }
    let reader = try TraceReader(path: scratch("wrong.nvpt"))
    try #require(try ReplayResult(replaying: reader).divergence != nil)
    let minimum = try #require(try Minimum(EditInput(reader)))
    #expect(minimum.divergence.recorded == "the end of the recording")
    #expect(try minimum.write(to: scratch("small.nvpt"), note: "a test").replay?.divergence != nil)
  }

  @Test("A trace that replays has no minimum", arguments: engineTraces.prefix(2))
  func identical(_ path: String) throws {
    #expect(try Minimum(EditInput(try TraceReader(path: path))) == nil)
  }
}
