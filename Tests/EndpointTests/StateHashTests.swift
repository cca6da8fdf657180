import Testing

@testable import Endpoint

/// The hash of the engine's state: the same by the walk, by the bytes of the checkpoint, and on every machine.
@Suite("Hashes of the state")
struct StateHashTests {
  private func hash(_ bytes: [UInt8]) -> StateHash { bytes.withUnsafeBytes { StateHash(of: $0) } }

  @Test("the hash of a walk is that of the checkpoint's bytes, whatever the widths of its fields")
  func walk() throws {
    let bench = try EngineBench(scenario: .endless)
    bench.enable()
    for qid in 1...3 as ClosedRange<UInt16> { #expect(bench.createPair(qid) == .success) }
    var lengths: Set<Int> = []
    for cid in 0..<20 as Range<UInt16> {
      bench.submit(1 + cid % 3, EngineBench.io(.read, cid: cid, slba: UInt64(cid), blocks: 1))
      bench.settle()
      let own = bench.controller.stateHash()
      #expect(own == hash(bench.controller.encoded()))
      lengths.insert(own.length % 8)
    }
    #expect(lengths.count > 1)
  }

  @Test("a hash is the one that the format page describes")
  func values() {
    // By analysis/nvpt.py.
    #expect(hash([]).value == 0)
    #expect(hash([1]).value == 0x83ec_686c_1600_460a)
    #expect(hash(Array(0..<8)).value == 0x942d_dfd0_def5_3671)
    #expect(hash(Array(0..<29)) == StateHash(value: 0xbb96_3c55_e6d7_086f, length: 29))
  }

  @Test("a changed, missing or additional byte changes the hash")
  func differences() throws {
    let bench = try EngineBench()
    bench.enable()
    let bytes = bench.controller.encoded()
    let own = hash(bytes)
    for place in bytes.indices {
      var changed = bytes
      changed[place] ^= 1 << UInt8(place % 8)
      #expect(hash(changed).value != own.value)
    }
    #expect(hash(bytes + [0]).value != own.value && hash(bytes.dropLast()).value != own.value)
  }

  @Test("hashing changes nothing")
  func isPure() throws {
    let bench = try EngineBench(scenario: .endless)
    bench.enable()
    #expect(bench.createPair(1) == .success)
    bench.submit(1, EngineBench.io(.read, cid: 7, slba: 1, blocks: 1))
    bench.settle()
    let before = bench.controller.encoded()
    _ = bench.controller.stateHash()
    #expect(bench.controller.encoded() == before && bench.controller.brokenInvariant() == nil)
  }
}
