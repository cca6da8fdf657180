import Analysis
import Device
import Events
import Foundation
import Host
import NVMe
import Testing
import Trace

/// A file that goes with its owner.
private final class NamespaceFile {
  let path = NSTemporaryDirectory() + "/nvmepf-conformance-\(UUID().uuidString)"

  init(bytes: Int) throws {
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(truncate(path, bytes) == 0)
  }

  deinit { unlink(path) }
}

/// Every backend that keeps data, so that a behaviour is the same on each.
enum Medium: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case memory, file, bufferedFile
  var testDescription: String { rawValue }

  /// Serve 8 MiB of it.
  func withEndpoint(_ configuration: EndpointConfiguration = endpoint(), _ body: (Rig) throws -> Void) throws {
    let file = try NamespaceFile(bytes: 8 << 20)
    var configuration = configuration
    switch self {
    case .memory: break
    case .file: configuration.namespaces[0].backend = .file(path: file.path, buffered: false)
    case .bufferedFile: configuration.namespaces[0].backend = .file(path: file.path, buffered: true)
    }
    try ConformanceTests.withEndpoint(configuration, body)
    _ = file
  }
}

extension Conformance {
  @Suite("I/O commands", .serialized)
  struct Commands {
    @Test("NVM 3.3.4 and 3.3.6: data reads back", arguments: Medium.allCases, [9, 12] as [UInt8])
    func readsBack(medium: Medium, blockShift: UInt8) throws {
      try medium.withEndpoint(endpoint { $0.namespaces[0].blockShift = blockShift }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(8192)
        for (slba, fua) in [(0, 0), (1, 1 << 30), (UInt64(8 << 20) / (1 << UInt64(blockShift)) - 2, 0)]
          as [(UInt64, UInt32)]
        {
          data.fill(UInt8(truncatingIfNeeded: slba &+ 7), count: 8192)
          let write = SubmissionEntry.io(.write, slba: slba, blocks: 2, data).with { sqe in
            sqe.prp2 = data.address + 4096
            sqe.cdw12 |= fua
          }
          expect(try rig.execute(write, on: queue).status, .success)
          expect(try rig.execute(.io(.flush, blocks: 1), on: queue).status, .success)
          data.fill(0, count: 8192)
          let read = SubmissionEntry.io(.read, slba: slba, blocks: 2, data).with { $0.prp2 = data.address + 4096 }
          expect(try rig.execute(read, on: queue).status, .success)
          let found = data.bytes(2 << Int(blockShift))
          #expect(found.allSatisfy { $0 == UInt8(truncatingIfNeeded: slba &+ 7) })
        }
      }
    }

    @Test("NVM 3.3: every command refuses blocks beyond the end of the namespace")
    func refusesRanges() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        let end = UInt64(8 << 20 / 512)
        for opcode in [IOOpcode.read, .write, .compare, .verify, .writeZeroes] {
          for (slba, blocks) in [(end - 7, 8), (end, 1), (.max, 1), (.max - 3, 8)] as [(UInt64, UInt32)] {
            expect(
              try rig.execute(.io(opcode, slba: slba, blocks: blocks, data), on: queue).status, .lbaOutOfRange,
              opcode.name)
          }
        }
      }
    }

    @Test("Base 4.2.3.1: every command refuses a missing namespace, fused bits and a PSDT of 11b")
    func refusesFields() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        for opcode in IOOpcode.allCases {
          for nsid in [0, 2, 33, 0xffff_ffff] as [UInt32] where opcode != .flush || nsid != .max {
            let cqe = try rig.execute(.io(opcode, nsid: nsid, data), on: queue)
            // One that could be in use but is not, or all at once, is another mistake than one that can never be.
            let canBeNamed = nsid == 2 || nsid == .max
            expect(cqe.status, canBeNamed ? .invalidField : .invalidNamespaceOrFormat, opcode.name)
          }
          for bits in [3 << 8, 3 << 14] as [UInt32] {
            expect(
              try rig.execute(.io(opcode, data).with { $0.cdw0 |= bits }, on: queue).status, .invalidField, opcode.name)
          }
        }
        for opcode in [0x03, 0x04, 0x06, 0x07, 0x10, 0x12, 0x18, 0x1d, 0x79, 0x7d, 0x80, 0xff] as [UInt8] {
          let sqe = SubmissionEntry(opcode: opcode, cid: CommandID(0), nsid: 1)
          expect(try rig.execute(sqe, on: queue).status, .invalidOpcode, "opcode \(opcode)")
        }
      }
    }

    @Test("Base 7.2: Flush of one namespace, and of all")
    func flushes() throws {
      for medium in Medium.allCases {
        try medium.withEndpoint { rig in
          try rig.enable()
          let queue = try rig.createPair()
          for nsid in [1, 0xffff_ffff] as [UInt32] {
            expect(try rig.execute(.io(.flush, nsid: nsid), on: queue).status, .success)
          }
        }
      }
    }

    @Test("NVM 3.3.1: Compare succeeds on equal data, and fails otherwise", arguments: Medium.allCases)
    func compares(medium: Medium) throws {
      try medium.withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        data.fill(3, count: 4096)
        expect(try rig.execute(.io(.compare, data), on: queue).status, .compareFailure)
        expect(try rig.execute(.io(.write, data), on: queue).status, .success)
        expect(try rig.execute(.io(.compare, data), on: queue).status, .success)
        data.fill(4, at: 4095, count: 1)
        expect(try rig.execute(.io(.compare, data), on: queue).status, .compareFailure)
        data.fill(0, count: 4096)
        expect(try rig.execute(.io(.read, data), on: queue).status, .success)
        let found = data.bytes(4096)
        #expect(found.allSatisfy { $0 == 3 }, "nothing was written")
      }
    }

    @Test(
      "NVM 3.3.8: Write Zeroes, deallocating or not, clears its blocks and no others", arguments: Medium.allCases,
      [false, true])
    func zeroes(medium: Medium, deallocates: Bool) throws {
      try medium.withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        for slba in [0, 8, 4096, 5000] as [UInt64] {
          data.fill(9, count: 4096)
          expect(try rig.execute(.io(.write, slba: slba, data), on: queue).status, .success)
        }
        let zero = SubmissionEntry.io(.writeZeroes, slba: 1, blocks: 5000).with {
          if deallocates { $0.cdw12 |= 1 << 25 }
        }
        expect(try rig.execute(zero, on: queue).status, .success)
        for (slba, wanted) in [(0, 0), (4096, 0), (5000, 1)] as [(UInt64, Int)] {
          expect(try rig.execute(.io(.read, slba: slba, data), on: queue).status, .success)
          let blocks = (0..<8).map { data.get(UInt8.self, at: $0 * 512) }
          switch (slba, wanted) {
          case (0, _): #expect(blocks == [9, 0, 0, 0, 0, 0, 0, 0])
          case (5000, _): #expect(blocks == [0, 9, 9, 9, 9, 9, 9, 9])
          default: #expect(blocks.allSatisfy { $0 == 0 })
          }
        }
      }
    }

    @Test(
      "NVM 3.3.3: Dataset Management deallocates its ranges; other hints change nothing", arguments: Medium.allCases)
    func deallocates(medium: Medium) throws {
      try medium.withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        let ranges = try rig.buffer()
        data.fill(9, count: 4096)
        for slba in [0, 8, 16] as [UInt64] { _ = try rig.execute(.io(.write, slba: slba, data), on: queue) }
        for (index, range) in [(1, 2), (0, 0), (16, 8)].enumerated() {
          ranges.put(0 as UInt32, at: index * 16)
          ranges.put(UInt32(range.1), at: index * 16 + 4)
          ranges.put(UInt64(range.0), at: index * 16 + 8)
        }
        let command = { (attributes: UInt32) in
          SubmissionEntry.io(.datasetManagement, blocks: 1, ranges).with { ($0.cdw10, $0.cdw11) = (2, attributes) }
        }
        expect(try rig.execute(command(3), on: queue).status, .success)
        _ = try rig.execute(.io(.read, slba: 16, data), on: queue)
        let untouched = data.bytes(4096)
        #expect(untouched.allSatisfy { $0 == 9 })
        expect(try rig.execute(command(4), on: queue).status, .success)
        _ = try rig.execute(.io(.read, slba: 16, data), on: queue)
        let cleared = data.bytes(4096)
        #expect(cleared.allSatisfy { $0 == 0 })
        _ = try rig.execute(.io(.read, data), on: queue)
        let blocks = (0..<8).map { data.get(UInt8.self, at: $0 * 512) }
        #expect(blocks == [9, 0, 0, 9, 9, 9, 9, 9])
        ranges.put(UInt64.max, at: 8)
        expect(try rig.execute(command(4), on: queue).status, .lbaOutOfRange)
        expect(try rig.execute(command(4).with { $0.prp1 = 0x1000 }, on: queue).status, .dataTransferError)
      }
    }

    @Test("NVM 3.3.3: 256 ranges, over a page's end, by an SGL")
    func deallocatesMany() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(8192)
        for index in 0..<256 {
          data.put(1 as UInt32, at: 100 + index * 16 + 4)
          data.put(UInt64(index), at: 100 + index * 16 + 8)
        }
        let sgl1 = SGLDescriptor(.dataBlock, address: data.address + 100, length: 4096)
        let command = SubmissionEntry.io(.datasetManagement).sgl(sgl1).with { ($0.cdw10, $0.cdw11) = (255, 4) }
        expect(try rig.execute(command, on: queue).status, .success)
      }
    }

    @Test("NVM 3.3.5: Verify reads blocks of any length", arguments: Medium.allCases)
    func verifies(medium: Medium) throws {
      try medium.withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        for blocks in [1, 8, 16384] as [UInt32] {
          expect(try rig.execute(.io(.verify, blocks: blocks), on: queue).status, .success)
        }
      }
    }

    /// A source range in descriptor format 0 (NVM 3.3.2).
    private func put(_ slba: UInt64, _ blocks: UInt16, _ list: SharedMemory, at index: Int) {
      list.fill(0, at: index * 32, count: 32)
      list.put(slba, at: index * 32 + 8)
      list.put(blocks - 1, at: index * 32 + 16)
    }

    @Test("NVM 3.3.2: Copy takes its sources in their order", arguments: Medium.allCases)
    func copies(medium: Medium) throws {
      try medium.withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        for slba in [0, 8] as [UInt64] {
          data.fill(UInt8(slba + 1), count: 4096)
          _ = try rig.execute(.io(.write, slba: slba, data), on: queue)
        }
        let list = try rig.buffer()
        put(8, 3, list, at: 0)
        put(2, 2, list, at: 1)
        let copy = SubmissionEntry.io(.copy, slba: 1000, blocks: 2, list)
        expect(try rig.execute(copy, on: queue).status, .success)
        _ = try rig.execute(.io(.read, slba: 1000, data), on: queue)
        let blocks = (0..<6).map { data.get(UInt8.self, at: $0 * 512) }
        #expect(blocks == [9, 9, 9, 1, 1, 0])
      }
    }

    @Test("NVM 3.3.2: Copy's limits are those of Identify Namespace")
    func limitsCopy() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let identity = try rig.identify(0, nsid: 1).bytes
        let (perRange, all, ranges) = (
          identity.integer(UInt16.self, at: 74), identity.integer(UInt32.self, at: 76), UInt32(identity[80]) + 1
        )
        let list = try rig.buffer()
        let end = UInt64(8 << 20 / 512)
        let copy = { (count: UInt32, slba: UInt64) in SubmissionEntry.io(.copy, slba: slba, blocks: count, list) }
        put(0, perRange, list, at: 0)
        expect(try rig.execute(copy(1, 8000), on: queue).status, .success)
        put(0, perRange + 1, list, at: 0)
        expect(try rig.execute(copy(1, 8000), on: queue).status, .commandSizeLimitExceeded)
        for index in 0..<Int(ranges) { put(0, perRange, list, at: index) }
        expect(try rig.execute(copy(all / UInt32(perRange) + 1, 8000), on: queue).status, .commandSizeLimitExceeded)
        expect(try rig.execute(copy(ranges + 1, 8000), on: queue).status, .commandSizeLimitExceeded)
        put(end - 1, 2, list, at: 0)
        expect(try rig.execute(copy(1, 8000), on: queue).status, .lbaOutOfRange)
        put(0, 8, list, at: 0)
        for slba in [end - 7, end, .max] {
          expect(try rig.execute(copy(1, slba), on: queue).status, .lbaOutOfRange)
        }
        expect(try rig.execute(copy(1, 8000).with { $0.cdw12 |= 1 << 8 }, on: queue).status, .invalidField, "format 1")
      }
    }

    @Test(
      "Base 8.1.16: a write-protected or read-only namespace refuses writes",
      arguments: [false, true])
    func protects(isReadOnly: Bool) throws {
      try withEndpoint(endpoint { $0.namespaces[0].isReadOnly = isReadOnly }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        if !isReadOnly { expect(try rig.setFeature(0x84, 1, nsid: 1).status, .success) }
        let attributes = try rig.identify(0, nsid: 1).bytes[99]
        #expect(attributes & 1 == 1, "NSATTR")
        for opcode in [IOOpcode.write, .writeZeroes, .datasetManagement, .copy] {
          expect(
            try rig.execute(.io(opcode, blocks: 1, data), on: queue).status, .namespaceIsWriteProtected, opcode.name)
        }
        for opcode in [IOOpcode.read, .verify, .flush, .compare] {
          expect(try rig.execute(.io(opcode, data), on: queue).status, .success, opcode.name)
        }
        guard !isReadOnly else { return }
        let state = try rig.getFeature(0x84, nsid: 1)
        #expect(state.dw0 == 1)
        _ = try rig.setFeature(0x84, 0, nsid: 1)
        expect(try rig.execute(.io(.write, data), on: queue).status, .success)
      }
    }

    @Test(
      "The data of several commands at once, one by one or in batches, goes where each says", arguments: [false, true])
    func fetchesBatches(fetchesBatches: Bool) throws {
      try withEndpoint(endpoint { $0.subsystem.fetchesBatches = fetchesBatches }) { rig in
        try rig.enable()
        let queue = try rig.createPair(entries: 16)
        let data = try rig.buffer(16 * 4096)
        for _ in 0..<5 {
          for opcode in [IOOpcode.write, .read] {
            for number in 0..<11 {
              if opcode == .write { data.fill(UInt8(number + 1), at: number * 4096, count: 4096) }
              let sqe = SubmissionEntry.io(opcode, slba: UInt64(number) * 8)
              queue.put(sqe.with { ($0.prp1, $0.cid) = (data.address + UInt64(number) * 4096, rig.cid()) })
            }
            queue.ring()
            for _ in 0..<11 { expect(try rig.wait(for: queue.completion).status, .success) }
            if opcode == .write { data.fill(0, count: 16 * 4096) }
          }
          let found = (0..<11).map { data.get(UInt8.self, at: $0 * 4096 + 4095) }
          #expect(found == Array(1...11))
        }
      }
    }

    @Test("SMART, the error log, the report and the host agree on commands, bytes and errors")
    func countersAgree() throws {
      var counts = Counts()
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        for number in 0..<3000 as Range<UInt64> {
          let opcode: IOOpcode = number % 3 == 0 ? .write : .read
          let isGood = number % 7 != 0
          let cqe = try rig.execute(.io(opcode, slba: isGood ? number : .max, data), on: queue)
          #expect(cqe.status.isSuccess == isGood)
          counts.add(opcode, isGood: isGood)
        }
        let smart = try rig.logPage(2).bytes
        #expect(smart.integer(UInt64.self, at: 64) == counts.reads)
        #expect(smart.integer(UInt64.self, at: 80) == counts.writes)
        #expect(smart.integer(UInt64.self, at: 32) == (counts.reads * 4096 + 511_999) / 512_000)
        #expect(smart.integer(UInt64.self, at: 48) == (counts.writes * 4096 + 511_999) / 512_000)
        #expect(smart.integer(UInt64.self, at: 176) == counts.errors)
        let log = try rig.logPage(1).bytes
        #expect(log.integer(UInt64.self, at: 0) == counts.errors)
      } inspect: { reader in
        let summary = try Summary(of: reader)
        #expect(summary.io.commands == counts.reads + counts.writes + counts.errors)
        #expect(summary.io.bytesToHost == counts.reads * 4096 && summary.io.bytesFromHost == counts.writes * 4096)
        #expect(summary.io.failed == counts.errors)
      }
    }

    private struct Counts {
      var reads: UInt64 = 0
      var writes: UInt64 = 0
      var errors: UInt64 = 0

      mutating func add(_ opcode: IOOpcode, isGood: Bool) {
        if !isGood { errors += 1 } else if opcode == .read { reads += 1 } else { writes += 1 }
      }
    }
  }
}
