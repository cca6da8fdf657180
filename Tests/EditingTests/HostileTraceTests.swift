import Chance
@_spi(Places) import Events
import Testing
import Trace

@testable import Editing

@Suite("Hostile traces") struct HostileTraceTests {
  let scratch = Scratch()

  /// Change some words of a trace's events at random: of records, and of what follows them.
  private func spoil(_ path: String, to other: String, _ random: inout SeededGenerator) throws {
    var generator = random
    try rewrite(path, to: other) { event in
      guard generator.next() % 40 == 0 else { return generator.next() % 300 != 0 }
      switch generator.next() % 5 {
      case 0: event.record.a = generator.next() % 2 == 0 ? .max : generator.next()
      case 1: if !event.record.event!.description.carriesBytes { event.record.b ^= 1 << (generator.next() % 64) }
      case 2: event.record.qid = UInt16(truncatingIfNeeded: generator.next() % 8)
      case 3: event.record.cid ^= 1
      default:
        if !event.tail.isEmpty {
          event.tail[Int(generator.next() % UInt64(event.tail.count))] = UInt8(truncatingIfNeeded: generator.next())
        }
      }
      return true
    }
    random = generator
  }

  @Test("An edit of a spoiled trace ends, with a trace that replays or with an error", arguments: engineTraces)
  func spoiled(_ path: String) throws {
    var random = SeededGenerator(seed: 5)
    let times = try events(of: path).map(\.record.time)
    var (edited, refused) = (0, 0)
    func attempt(_ body: () throws -> Void) throws {
      do {
        try body()
        edited += 1
      } catch is TraceError { refused += 1 }
    }
    for _ in 0..<12 {
      try spoil(path, to: scratch("spoiled.nvpt"), &random)
      let input = EditInput(try TraceReader(path: scratch("spoiled.nvpt")))
      try attempt { _ = try Anonymized(input, keepsBlocks: false).write(to: scratch("a.nvpt")) }
      try attempt { _ = try Minimum(input)?.write(to: scratch("b.nvpt"), note: "a test") }
      for part in 0..<3 {
        let period = times[times.count * part / 4]..<times[times.count * (part + 1) / 4] + 1
        try attempt {
          var cut = try TraceCut(input, period)
          if part == 1 { try cut?.keepQueues([1]) }
          _ = try cut?.write(to: scratch("c.nvpt"), note: "a test")
        }
      }
    }
    #expect(edited > 0 && edited + refused == 60)
  }
}
