import Chance
import Endpoint
@_spi(Places) import Events
import NVMe
import Replay
import Testing
import Trace

/// Replay recorded slots, all in one chunk.
func replay(_ slots: [Record], isClosed: Bool = false) throws(TraceError) -> ReplayResult {
  var given = false
  let copy = UnsafeMutableBufferPointer<Record>.allocate(capacity: slots.count)
  _ = copy.initialize(from: slots)
  defer { copy.deallocate() }
  var replayer = try Replayer(stream: 0, isClosed: isClosed) { () throws(TraceError) in
    defer { given = true }
    return given ? nil : UnsafeBufferPointer(copy)
  }
  return try replayer.run()
}

func expectIdentical(_ slots: [Record]) throws {
  let result = try replay(slots, isClosed: true)
  #expect(result.divergence == nil, "\(result.divergence?.description ?? "")")
  #expect(result.events > 0)
}

func expectSameBytes(_ first: [Record], _ second: [Record]) {
  #expect(first.count > 1000)
  let areSame = first.withUnsafeBytes { first in second.withUnsafeBytes { first.elementsEqual($0) } }
  #expect(areSame)
}

@Suite("Replay")
struct ReplayTests {
  /// Bring-up, two queues, reads, writes, errors, an event, a disable and a second life.
  private func recording(payload: Bool = false) throws -> [Record] {
    let bench = try EngineBench(payload: payload)
    for _ in 0..<2 {
      bench.enable()
      _ = bench.admin(.identify) {
        $0.cdw10 = 1
        $0.prp1 = EngineBench.address + UInt64(EngineBench.identify)
      }
      for qid in [1, 2] as [UInt16] { #expect(bench.createPair(qid, entries: 16, vector: qid) == .success) }
      for cid in 0..<40 as Range<UInt16> {
        let sqe = EngineBench.io(
          cid % 3 == 0 ? .write : .read, cid: cid, slba: UInt64(cid) * 50, blocks: 16,
          prp2: EngineBench.address + UInt64(EngineBench.data + 4096))
        _ = bench.execute(1 + cid % 2, sqe)
      }
      bench.ring(.submissionTail(QueueID(1)), 99)
      bench.settle()
      bench.checkpoint()
      bench.write(Register.cc, 0)
    }
    bench.checkpoint()
    return bench.recorded
  }

  @Test(
    "a register beyond the last one is reserved: a recorded value is a divergence",
    arguments: [0, 3, 7, 8])
  func registerOffset(distance: UInt64) throws {
    for width in [4, 8] as [UInt8] {
      var slots = try recording()
      let (time, offset) = (slots.last!.time, UInt64.max - distance)
      slots.append(Record(time: time, kind: .registerWrite, flags: width, a: offset, b: .max))
      slots.append(Record(time: time, kind: .registerRead, flags: width, a: offset, b: 0x1234_5678))
      let divergence = try #require(try replay(slots).divergence)
      #expect(divergence.description.contains("register-read"))
    }
  }

  @Test("a recording replays identically a hundred times")
  func isIdentical() throws {
    for payload in [false, true] {
      let slots = try recording(payload: payload)
      for _ in 0..<50 { try expectIdentical(slots) }
    }
  }

  @Test("a change of any output is found and named")
  func findsChanges() throws {
    let slots = try recording()
    let changes: [(EventKind, String, (inout Record) -> Void)] = [
      (.completion, "status", { $0.bHigh ^= 1 << 20 }), (.completion, "SQHD", { $0.bLow ^= 1 }),
      (.segment, "address", { $0.a ^= 0x1000 }), (.segment, "length", { $0.bLow += 1 }),
      (.map, "segments", { $0.aLow += 1 }), (.map, "length", { $0.aHigh += 512 }),
      (.executeBegin, "SLBA", { $0.a += 1 }), (.executeBegin, "blocks", { $0.bLow += 1 }),
      (.interrupt, "vector", { $0.aLow += 1 }), (.registerWrite, "", { $0.b ^= 1 }),
      (.fetch, "slot", { $0.aLow += 1 }), (.write, "address", { $0.a += 4096 }),
    ]
    for (kind, field, change) in changes {
      var changed = slots
      let index = try #require(place(of: kind, in: slots))
      change(&changed[index])
      let divergence = try #require(try replay(changed).divergence, "\(kind)")
      if !field.isEmpty { #expect(divergence.fields.contains { $0.name == field }, "\(divergence)") }
    }
  }

  @Test("a change of the bytes of an output, or of a checkpoint, is found")
  func findsBytes() throws {
    let slots = try recording()
    for kind in [EventKind.write, .checkpoint] {
      var changed = slots
      // The last: the first checkpoint is where the replay begins.
      let index = try #require(places(of: kind, in: slots).last)
      changed[index + 1].b ^= 1
      #expect(try replay(changed).divergence != nil, "\(kind)")
    }
  }

  @Test("a missing or additional event is found")
  func findsMissing() throws {
    let slots = try recording()
    for kind in [EventKind.completion, .fetch, .segment, .executeEnd] {
      let index = try #require(place(of: kind, in: slots))
      let end = index + 1 + Int(slots[index].tail)
      #expect(try replay(Array(slots[..<index] + slots[end...])).divergence != nil, "\(kind) missing")
      #expect(try replay(Array(slots[..<end] + slots[index...])).divergence != nil, "\(kind) twice")
    }
  }

  @Test("missing last outputs are a divergence in a closed recording, but not after a killed recorder")
  func findsMissingEnd() throws {
    let slots = try recording()
    let end = Array(slots[..<(try #require(places(of: .completion, in: slots).last))])
    #expect(try replay(end).divergence == nil)
    let divergence = try #require(try replay(end, isClosed: true).divergence)
    #expect(divergence.recorded == "the end of the recording" && divergence.engine.hasPrefix("completion: "))
  }

  @Test("recorded data shorter than the command's is found")
  func findsShortData() throws {
    var slots = try recording(payload: true)
    let index = try #require(place(of: .payload, in: slots))
    slots[index].bLow -= 1
    #expect(try replay(slots).divergence?.engine.contains("bytes of data") == true)
    // A recorder that was killed between two pieces of them has recorded nothing wrong.
    let cut = Array(slots[...(index + Int(slots[index].tail))])
    #expect(try replay(cut).divergence == nil)
    #expect(try replay(cut, isClosed: true).divergence != nil)
  }

  @Test("a divergence lists fields that the engine determines, but no inputs")
  func namesOnlyWhatIsCompared() throws {
    var slots = try recording()
    let index = try #require(place(of: .write, in: slots))
    slots[index].a ^= 0x1000
    #expect(try replay(slots).divergence?.fields.map(\.name) == ["address"])
  }

  @Test("a replay ends whatever the events")
  func survivesNonsense() throws {
    let slots = try recording()
    var random = SeededGenerator(seed: 5)
    for _ in 0..<3000 {
      var changed = slots
      for _ in 0..<3 {
        let index = events(in: changed).randomElement(using: &random)!
        let tail = changed[index].tail
        withUnsafeMutableBytes(of: &changed[index]) { bytes in
          bytes[Int(random.next() % 32)] = UInt8(truncatingIfNeeded: random.next())
        }
        changed[index].tail = tail
      }
      _ = try? replay(changed)
    }
  }

  private func events(in slots: [Record]) -> [Int] {
    var found: [Int] = []
    var index = 0
    while index < slots.count {
      found.append(index)
      index += 1 + Int(slots[index].tail)
    }
    return found
  }

  private func places(of kind: EventKind, in slots: [Record]) -> [Int] {
    events(in: slots).filter { slots[$0].event == kind && (slots[$0].qid != 0 || kind != .fetch) }
  }

  /// In the middle: neither the first nor the last of its kind.
  private func place(of kind: EventKind, in slots: [Record]) -> Int? {
    let all = places(of: kind, in: slots)
    return all.isEmpty ? nil : all[all.count / 2]
  }
}

extension EngineBench {
  /// The recorded events of a kind.
  func events(of kind: EventKind) -> [Record] { events { $0 == kind } }

  /// The recorded events of some kinds, in their order.
  func events(_ isWanted: (EventKind?) -> Bool) -> [Record] {
    var found: [Record] = []
    var index = 0
    while index < recorded.count {
      if isWanted(recorded[index].event) { found.append(recorded[index]) }
      index += 1 + Int(recorded[index].tail)
    }
    return found
  }
}
