import Chance
import NVMe
import Testing

@Suite("I/O commands")
struct IOTests {
  private func enabled() throws -> EngineBench {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1) == .success)
    return bench
  }

  @Test("data reads back through one page, two pages, a list and a chained list")
  func movesData() throws {
    let bench = try enabled()
    var random = SeededGenerator(seed: 11)
    let list = 0x3000
    for (blocks, offset, listOffset) in [(8, 0, 0), (16, 0, 0), (9, 0x200, 0), (64, 0x600, 0), (128, 0, 0xff0)]
      as [(UInt32, Int, Int)]
    {
      let bytes = Int(blocks) * 512
      let first = 4096 - offset & 4095
      let source = (0..<bytes).map { _ in UInt8.random(in: 0...255, using: &random) }
      let pages = (bytes - min(bytes, first) + 4095) / 4096
      var prp2: UInt64 = 0
      let next = EngineBench.address + UInt64(EngineBench.data + (offset & ~4095) + 4096)
      if pages == 1 { prp2 = next }
      if pages > 1 {
        prp2 = EngineBench.address + UInt64(list + listOffset)
        let room = (4096 - listOffset) / 8
        let chained = EngineBench.address + UInt64(list + 0x1000)
        for page in 0..<pages {
          let prp = next + UInt64(page) * 4096
          let isInFirst = pages <= room || page < room - 1
          let place = isInFirst ? list + listOffset + page * 8 : list + 0x1000 + (page - (room - 1)) * 8
          (bench.memory + place).storeBytes(of: prp, as: UInt64.self)
        }
        if pages > room { (bench.memory + list + 0x1000 - 8).storeBytes(of: chained, as: UInt64.self) }
      }
      let data = bench.memory + EngineBench.data + offset
      data.copyMemory(from: source, byteCount: bytes)
      let write = EngineBench.io(.write, slba: 3, blocks: blocks, offset: offset, prp2: prp2)
      #expect(bench.execute(1, write)?.status == .success)
      data.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
      let read = EngineBench.io(.read, slba: 3, blocks: blocks, offset: offset, prp2: prp2)
      #expect(bench.execute(1, read)?.status == .success)
      #expect(Array(UnsafeRawBufferPointer(start: data, count: bytes)) == source)
    }
  }

  @Test("Write Zeroes clears data; Flush succeeds, also for all namespaces")
  func clears() throws {
    let bench = try enabled()
    (bench.memory + EngineBench.data).initializeMemory(as: UInt8.self, repeating: 0x77, count: 4096)
    #expect(bench.execute(1, EngineBench.io(.write, slba: 0, blocks: 8))?.status == .success)
    #expect(bench.execute(1, EngineBench.io(.writeZeroes, slba: 0, blocks: 4))?.status == .success)
    #expect(bench.execute(1, EngineBench.io(.read, slba: 0, blocks: 8))?.status == .success)
    let bytes = UnsafeRawBufferPointer(start: bench.memory + EngineBench.data, count: 4096)
    #expect(bytes[..<2048].allSatisfy { $0 == 0 } && bytes[2048...].allSatisfy { $0 == 0x77 })
    for nsid in [1, UInt32.max] {
      let flush = SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(1), nsid: nsid)
      #expect(bench.execute(1, flush)?.status == .success)
    }
  }

  @Test("every invalid field has the specified status")
  func refuses() throws {
    let bench = try enabled()
    let good = EngineBench.io(.read, slba: 0, blocks: 8)
    var cases: [(SubmissionEntry, Status)] = []
    func add(_ status: Status, _ edit: (inout SubmissionEntry) -> Void) {
      var sqe = good
      edit(&sqe)
      cases.append((sqe, status))
    }
    add(.invalidOpcode) { $0.cdw0 = $0.cdw0 & ~0xff | 0x7f }
    add(.invalidField) { $0.nsid = 2 }
    add(.invalidField) { $0.nsid = .max }
    add(.invalidNamespaceOrFormat) { $0.nsid = 33 }
    add(.lbaOutOfRange) { $0.slba = EngineBench.namespaceBlocks - 7 }
    add(.lbaOutOfRange) { $0.slba = .max }
    add(.invalidField) { $0.cdw12 = 1024 }  // one block over MDTS
    add(.invalidField) { $0.cdw0 |= 3 << 14 }  // PSDT 11b
    add(.missingFusedCommand) { $0.cdw0 |= 1 << 8 }
    add(.prpOffsetInvalid) { $0.prp1 += 2 }
    add(.prpOffsetInvalid) {
      $0.cdw12 = 15
      $0.prp2 = $0.prp1 + 4096 + 512
    }
    add(.invalidField) { $0.cdw12 = 15 }  // PRP2 missing
    add(.dataTransferError) { $0.prp1 = 0x5000 }
    add(.dataTransferError) {
      $0.prp1 = EngineBench.address + UInt64(EngineBench.memoryBytes) - 2048
      $0.prp2 = EngineBench.address + UInt64(EngineBench.memoryBytes)
    }
    for (sqe, status) in cases { #expect(bench.execute(1, sqe)?.status.code == status.code) }
  }

  @Test("a PRP list that points to itself ends")
  func endsList() throws {
    let bench = try enabled()
    let list = EngineBench.address + 0x3000
    for entry in 0..<512 { (bench.memory + 0x3000 + entry * 8).storeBytes(of: list, as: UInt64.self) }
    let sqe = EngineBench.io(.write, slba: 0, blocks: 1024, prp2: list + 0xff8)
    #expect(bench.execute(1, sqe)?.status == .success)
    // Every list brings the transfer a page forward, but for the first, which has no room for one.
    #expect(bench.events(of: .read).count == 2, "each reading of it is an event")
  }

  @Test("completions wait for room in their queue, and the phase tag inverts")
  func waitsForRoom() throws {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1, entries: 4) == .success)
    var completed: [UInt16] = []
    var next: UInt16 = 0
    for _ in 0..<100 {
      // Three commands fill the queues; three more are fetched while nothing is reaped.
      for _ in 0..<3 {
        bench.submit(1, EngineBench.io(.read, cid: next, slba: 0, blocks: 1))
        next += 1
      }
      bench.settle()
      bench.submit(1, EngineBench.io(.read, cid: next, slba: 0, blocks: 1))
      next += 1
      bench.settle()
      while let cqe = bench.reap(1) {
        completed.append(cqe.cid.rawValue)
        bench.settle()
      }
    }
    #expect(completed == Array(0..<400))
  }

  @Test("NVM Express Base 2.1, 3.4.4: no queue gets more than its burst before the others have their turn")
  func sharesTurns() throws {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1) == .success)
    #expect(bench.createPair(2) == .success)
    for cid in 0..<20 as Range<UInt16> {
      bench.submit(1, EngineBench.io(.read, cid: cid, slba: 0, blocks: 1))
      bench.submit(2, EngineBench.io(.read, cid: cid, slba: 0, blocks: 1))
    }
    bench.settle()
    let order = bench.events(of: .fetch).map(\.qid).filter { $0 != 0 }
    #expect(order == [1, 2, 1, 2, 1, 2].enumerated().flatMap { [UInt16](repeating: $1, count: $0 < 4 ? 8 : 4) })
  }
}
