import Host
import NVMe
import Testing

extension Conformance {
  @Suite("Fused operations", .serialized)
  struct Fused {
    private static let old: UInt8 = 0x11
    private static let new: UInt8 = 0x22

    /// A host with a queue, eight blocks that hold `old`, and a Compare with that and a Write of `new`.
    private struct Bench {
      let rig: Rig
      let queue: SubmissionRing
      let compare: SubmissionEntry
      let write: SubmissionEntry
      private let data: SharedMemory

      init(_ rig: Rig, entries: UInt32 = 16) throws {
        self.rig = rig
        try rig.enable()
        queue = try rig.createPair(entries: entries)
        data = try rig.buffer(8192)
        data.fill(Fused.old, count: 4096)
        data.fill(Fused.new, at: 4096, count: 4096)
        var compare = SubmissionEntry.io(.compare, slba: 16, data).with { $0.cdw0 |= 1 << 8 }
        compare.cid = CommandID(1)
        var write = SubmissionEntry.io(.write, slba: 16, data).with { $0.cdw0 |= 2 << 8 }
        write.prp1 += 4096
        write.cid = CommandID(2)
        (self.compare, self.write) = (compare, write)
        expect(try rig.execute(.io(.write, slba: 16, data), on: queue).status, .success)
      }

      /// All with one doorbell write; their statuses by command identifier.
      func execute(_ sqes: [SubmissionEntry]) throws -> [UInt16: Status] {
        for sqe in sqes { queue.put(sqe) }
        queue.ring()
        return try reap(sqes.count)
      }

      func reap(_ count: Int) throws -> [UInt16: Status] {
        var seen: [UInt16: Status] = [:]
        for _ in 0..<count {
          let cqe = try rig.wait(for: queue.completion)
          #expect(seen.updateValue(cqe.status, forKey: cqe.cid.rawValue) == nil, "answered twice")
        }
        return seen
      }

      /// What the blocks hold.
      func content() throws -> UInt8? {
        let found = try rig.buffer()
        expect(try rig.execute(.io(.read, slba: 16, found), on: queue).status, .success)
        let bytes = found.bytes(4096)
        return bytes.allSatisfy { $0 == bytes[0] } ? bytes[0] : nil
      }
    }

    @Test("NVM 2.1.3.1: Compare and Write replaces the compared data once", arguments: Medium.allCases)
    func compareAndWrite(medium: Medium) throws {
      try medium.withEndpoint { rig in
        let bench = try Bench(rig)
        let first = try bench.execute([bench.compare, bench.write])
        #expect(first == [1: .success, 2: .success])
        #expect(try bench.content() == Fused.new)
        let second = try bench.execute([bench.compare, bench.write])
        expect(second[1]!, .compareFailure)
        expect(second[2]!, .failedFusedCommand)
        #expect(try bench.content() == Fused.new)
      }
    }

    @Test(
      "Base 3.4.2: a pair may lie in the last and the first entry, and in two bursts", arguments: [0, 7] as [UInt8])
    func wraps(burst: UInt8) throws {
      try withEndpoint(endpoint { $0.subsystem.arbitrationBurst = burst }) { rig in
        let bench = try Bench(rig, entries: 4)
        for _ in 0..<9 {
          let seen = try bench.execute([bench.compare, bench.write])
          #expect(seen[2] != nil && (seen[1]!.isSuccess == seen[2]!.isSuccess))
          expect(try rig.execute(.io(.verify, slba: 16), on: bench.queue).status, .success)
        }
        #expect(try bench.content() == Fused.new)
      }
    }

    @Test("Base 3.4.2: a fused command without its other half is aborted, without effect on other commands")
    func misses() throws {
      try withEndpoint { rig in
        let bench = try Bench(rig)
        let other = SubmissionEntry.io(.verify, slba: 16).with { $0.cid = CommandID(3) }
        let twin = bench.compare.with { $0.cid = CommandID(4) }
        let cases: [([SubmissionEntry], [UInt16: Status])] = [
          ([bench.compare], [1: .missingFusedCommand]),
          ([bench.write], [2: .missingFusedCommand]),
          ([bench.compare, other, bench.write], [1: .missingFusedCommand, 2: .missingFusedCommand, 3: .success]),
          ([other, bench.compare], [1: .missingFusedCommand, 3: .success]),
          ([bench.write, bench.compare], [1: .missingFusedCommand, 2: .missingFusedCommand]),
          ([twin, bench.compare], [1: .missingFusedCommand, 4: .missingFusedCommand]),
        ]
        for (sqes, wanted) in cases {
          let seen = try bench.execute(sqes)
          for (cid, status) in wanted { expect(seen[cid]!, status, "command \(cid)") }
        }
        #expect(try bench.content() == Fused.old)
        let seen = try bench.execute([twin, bench.compare, bench.write])
        expect(seen[4]!, .missingFusedCommand)
        #expect(seen[1] == .success && seen[2] == .success, "the one right before it counts")
      }
    }

    @Test("Base 3.4.2: both commands come with one doorbell write")
    func separateDoorbells() throws {
      try withEndpoint { rig in
        let bench = try Bench(rig)
        bench.queue.submit(bench.compare)
        try rig.drain()
        bench.queue.submit(bench.write)
        let seen = try bench.reap(2)
        expect(seen[1]!, .missingFusedCommand)
        expect(seen[2]!, .missingFusedCommand)
        #expect(try bench.content() == Fused.old)
      }
    }

    @Test("NVM 2.1.3: other commands cannot be fused, nor those of different blocks")
    func refuses() throws {
      try withEndpoint { rig in
        let bench = try Bench(rig)
        for (first, second) in [
          (bench.compare, bench.write.with { $0.slba += 1 }), (bench.compare, bench.write.with { $0.cdw12 -= 1 }),
          (bench.compare, bench.write.with { $0.nsid = 2 }),
          (bench.compare.with { $0.cdw0 = $0.cdw0 & ~0xff | 2 }, bench.write),
          (bench.compare, bench.write.with { $0.cdw0 = $0.cdw0 & ~0xff | 8 }),
        ] {
          let seen = try bench.execute([first, second])
          expect(seen[1]!, .invalidField)
          expect(seen[2]!, .invalidField)
        }
        #expect(try bench.content() == Fused.old)
      }
    }

    @Test("Base 3.4.2: if one of the two is invalid, the other is aborted")
    func failsTogether() throws {
      try withEndpoint { rig in
        let bench = try Bench(rig)
        let far: (SubmissionEntry) -> SubmissionEntry = { sqe in sqe.with { $0.slba = 1 << 40 } }
        var seen = try bench.execute([far(bench.compare), far(bench.write)])
        expect(seen[1]!, .lbaOutOfRange)
        expect(seen[2]!, .failedFusedCommand)
        seen = try bench.execute([bench.compare, bench.write.with { $0.cdw0 |= 3 << 14 }])
        expect(seen[1]!, .failedFusedCommand)
        expect(seen[2]!, .invalidField)
        seen = try bench.execute([bench.compare.with { $0.prp1 = 0x5000 }, bench.write])
        expect(seen[1]!, .dataTransferError)
        expect(seen[2]!, .failedFusedCommand)
        // The comparison has been made when the data of the write turn out to be nowhere.
        seen = try bench.execute([bench.compare, bench.write.with { $0.prp1 = 0x5000 }])
        expect(seen[1]!, .success)
        expect(seen[2]!, .dataTransferError)
        expect(try rig.setFeature(0x84, 1, nsid: 1).status, .success)
        seen = try bench.execute([bench.compare, bench.write])
        expect(seen[1]!, .failedFusedCommand)
        expect(seen[2]!, .namespaceIsWriteProtected)
        #expect(try bench.content() == Fused.old)
      }
    }
  }
}
