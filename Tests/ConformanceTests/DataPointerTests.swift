import Host
import NVMe
import Testing

extension Conformance {
  @Suite("Data pointers", .serialized)
  struct DataPointers {
    /// Write a pattern through one command, read it back through another, and compare.
    private func moves(
      _ bytes: Int, _ rig: Rig, _ queue: SubmissionRing, _ data: SharedMemory, pieces: [(offset: Int, count: Int)],
      _ point: (inout SubmissionEntry) -> Void
    ) throws {
      let pattern = (0..<bytes).map { UInt8(truncatingIfNeeded: $0 / 256 &+ $0) }
      scatter(pattern, data, pieces)
      let blocks = UInt32(bytes / 512)
      expect(try rig.execute(.io(.write, slba: 16, blocks: blocks).with(point), on: queue).status, .success)
      scatter([UInt8](repeating: 0, count: bytes), data, pieces)
      expect(try rig.execute(.io(.read, slba: 16, blocks: blocks).with(point), on: queue).status, .success)
      let found = pieces.flatMap { data.bytes($0.count, at: $0.offset) }
      #expect(found == pattern)
    }

    private func scatter(_ bytes: [UInt8], _ data: SharedMemory, _ pieces: [(offset: Int, count: Int)]) {
      var place = 0
      for piece in pieces {
        bytes[place..<place + piece.count].withUnsafeBytes {
          (data.base + piece.offset).copyMemory(from: $0.baseAddress!, byteCount: piece.count)
        }
        place += piece.count
      }
    }

    @Test("Base 4.3.1: PRP1 with an offset, PRP2 as a page, adjacent or not")
    func twoPages() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(1 << 16)
        try moves(4096, rig, queue, data, pieces: [(0, 4096)]) { $0.prp1 = data.address }
        try moves(4096, rig, queue, data, pieces: [(0x604, 4096 - 0x604), (8192, 0x604)]) {
          ($0.prp1, $0.prp2) = (data.address + 0x604, data.address + 8192)
        }
        try moves(8192, rig, queue, data, pieces: [(0, 8192)]) {
          ($0.prp1, $0.prp2) = (data.address, data.address + 4096)
        }
      }
    }

    @Test(
      "Base 4.3.1: a PRP list, one that ends with its page, one that goes on in another", arguments: [3, 512, 513, 700])
    func lists(pages: Int) throws {
      try withEndpoint(endpoint { $0.subsystem.maxTransferBytes = 2 << 20 }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let count = min(pages, 512)
        let data = try rig.buffer(count * 8192)
        let lists = try rig.buffer(8192)
        // Every second page, from the end.
        let places = (0..<count).map { (count - 1 - $0) * 8192 }
        // With 513 and more the list begins so late in its page that it must go on in the next.
        let begin = pages > 512 ? 4096 - 8 * (pages - 511) : pages == 512 ? 8 : 0
        for (index, place) in places.dropFirst().enumerated() {
          let room = (4096 - begin) / 8
          let isChained = count - 1 > room
          let target = isChained && index >= room - 1 ? 4096 + (index - (room - 1)) * 8 : begin + index * 8
          lists.put(data.address + UInt64(place), at: target)
          if isChained { lists.put(lists.address + 4096, at: 4096 - 8) }
        }
        try moves(count * 4096, rig, queue, data, pieces: places.map { ($0, 4096) }) {
          ($0.prp1, $0.prp2) = (data.address + UInt64(places[0]), lists.address + UInt64(begin))
        }
      }
    }

    @Test("Base 4.3.1: invalid PRP offsets and missing entries")
    func refusesPRPs() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(1 << 16)
        let list = try rig.buffer(4096)
        list.put(data.address + 4096 + 512, at: 0)
        for (blocks, prp1, prp2, status) in [
          (8, data.address + 2, 0, .prpOffsetInvalid), (16, data.address, data.address + 4096 + 8, .prpOffsetInvalid),
          (16, data.address, 0, .invalidField), (64, data.address, 0, .invalidField),
          (64, data.address, list.address + 4, .prpOffsetInvalid), (64, data.address, list.address, .prpOffsetInvalid),
          (64, data.address, list.address + 8, .invalidField),
        ] as [(UInt32, UInt64, UInt64, Status)] {
          for opcode in [IOOpcode.read, .write] {
            let cqe = try rig.execute(.io(opcode, blocks: blocks).with { ($0.prp1, $0.prp2) = (prp1, prp2) }, on: queue)
            expect(cqe.status, status, "\(blocks) blocks, \(prp1), \(prp2)")
          }
        }
      }
    }

    @Test("Base 4.2.3.1: inaccessible memory is a Data Transfer Error, and such a write changes nothing")
    func refusesUnreachable() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer()
        data.fill(0x77, count: 4096)
        let list = try rig.buffer()
        for (blocks, prp1, prp2) in [(8, 0x1000, 0), (16, data.address, 0x2000), (64, data.address, 0x3000)]
          as [(UInt32, UInt64, UInt64)]
        {
          for opcode in [IOOpcode.read, .write, .compare] {
            let cqe = try rig.execute(.io(opcode, blocks: blocks).with { ($0.prp1, $0.prp2) = (prp1, prp2) }, on: queue)
            expect(cqe.status, .dataTransferError)
          }
        }
        list.put(SGLDescriptor(.dataBlock, address: data.address, length: 2048), at: 0)
        list.put(SGLDescriptor(.dataBlock, address: 0x1000, length: 2048), at: 16)
        let half = SGLDescriptor(.lastSegment, address: list.address, length: 32)
        expect(try rig.execute(.io(.write).sgl(half), on: queue).status, .dataTransferError)
        expect(try rig.execute(.io(.read, data), on: queue).status, .success)
        let found = data.bytes(4096)
        #expect(found.allSatisfy { $0 == 0 }, "nothing was written")
      }
    }

    @Test(
      "Base 5.1.13: no more than MDTS is transferred", arguments: [8 << 10, 128 << 10, 512 << 10, 2 << 20] as [UInt32])
    func limitsTransfers(mdts: UInt32) throws {
      try withEndpoint(endpoint { $0.subsystem.maxTransferBytes = mdts }) { rig in
        try rig.enable()
        let identity = try rig.identify(1).bytes
        #expect(4096 << UInt32(identity[77]) == mdts)
        let queue = try rig.createPair()
        let data = try rig.buffer(4 << 20)
        let sqe = { (blocks: UInt32) in
          SubmissionEntry.io(.read, blocks: blocks).sgl(
            SGLDescriptor(.dataBlock, address: data.address, length: 4 << 20))
        }
        expect(try rig.execute(sqe(mdts / 512), on: queue).status, .success)
        expect(try rig.execute(sqe(mdts / 512 + 1), on: queue).status, .invalidField)
      }
    }

    @Test("Base 4.3.2: one Data Block, of any alignment, as long as the data or longer")
    func dataBlock() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(1 << 16)
        for (offset, length) in [(0, 4096), (3, 4096), (1, 60000)] {
          try moves(4096, rig, queue, data, pieces: [(offset, 4096)]) {
            $0 = $0.sgl(SGLDescriptor(.dataBlock, address: data.address + UInt64(offset), length: UInt32(length)))
          }
        }
      }
    }

    @Test("Base 4.3.2: Data Blocks in a last segment, and in a chain of segments")
    func segments() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(1 << 16)
        let lists = try rig.buffer(8192)
        let block = { (offset: Int, count: Int) in
          SGLDescriptor(.dataBlock, address: data.address + UInt64(offset), length: UInt32(count))
        }
        for (index, descriptor) in [block(0, 1000), block(5000, 0), block(9001, 3096)].enumerated() {
          lists.put(descriptor, at: index * 16)
        }
        try moves(4096, rig, queue, data, pieces: [(0, 1000), (9001, 3096)]) {
          $0 = $0.sgl(SGLDescriptor(.lastSegment, address: lists.address, length: 48))
        }
        lists.put(block(0, 24), at: 0)
        lists.put(SGLDescriptor(.segment, address: lists.address + 4096, length: 32), at: 16)
        lists.put(block(100, 4000), at: 4096)
        lists.put(SGLDescriptor(.lastSegment, address: lists.address + 1024, length: 16), at: 4112)
        lists.put(block(60000, 72), at: 1024)
        try moves(4096, rig, queue, data, pieces: [(0, 24), (100, 4000), (60000, 72)]) {
          $0 = $0.sgl(SGLDescriptor(.segment, address: lists.address, length: 32))
        }
      }
    }

    @Test("Base 4.3.2.1.2: a Bit Bucket discards data of a read and contributes none to a write")
    func bitBuckets() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(8192)
        let list = try rig.buffer()
        data.fill(1, count: 1024)
        data.fill(2, at: 1024, count: 3072)
        list.put(SGLDescriptor(.dataBlock, address: data.address, length: 1024), at: 0)
        list.put(SGLDescriptor(.bitBucket, address: 0, length: 512), at: 16)
        list.put(SGLDescriptor(.dataBlock, address: data.address + 1024, length: 3072), at: 32)
        let last = SGLDescriptor(.lastSegment, address: list.address, length: 48)
        expect(try rig.execute(.io(.write).sgl(last), on: queue).status, .success)
        data.fill(0, count: 8192)
        expect(try rig.execute(.io(.read).sgl(last), on: queue).status, .success)
        let found = data.bytes(4096)
        let wanted =
          [UInt8](repeating: 1, count: 1024) + [UInt8](repeating: 2, count: 2560) + [UInt8](repeating: 0, count: 512)
        #expect(found == wanted, "the 512 bytes after the first 1024 went into the bucket")
        let bucket = SGLDescriptor(.bitBucket, address: 0, length: 4096)
        expect(try rig.execute(.io(.read).sgl(bucket), on: queue).status, .success)
        expect(try rig.execute(.io(.write).sgl(bucket), on: queue).status, .dataSGLLengthInvalid)
      }
    }

    @Test("Base 4.2.3.1: SGLs of wrong types, lengths and nesting")
    func refusesSGLs() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(8192)
        let lists = try rig.buffer(1 << 16)
        let block = SGLDescriptor(.dataBlock, address: data.address, length: 512)
        for place in stride(from: 0, to: 1 << 16, by: 16) { lists.put(block, at: place) }
        let last = { (length: UInt32) in SGLDescriptor(.lastSegment, address: lists.address, length: length) }
        let raw = { (identifier: UInt64) in
          SGLDescriptor(address: data.address, lengthAndIdentifier: 4096 | identifier << 56)
        }
        lists.put(last(16), at: 0x8000)
        lists.put(last(16), at: 0x9000 + 16)
        lists.put(raw(0x40), at: 0xa000)
        lists.put(SGLDescriptor(.segment, address: lists.address + 0xb000, length: 16), at: 0xb000)
        let at = { (kind: SGLDescriptor.Kind, offset: UInt64, length: UInt32) in
          SGLDescriptor(kind, address: lists.address + offset, length: length)
        }
        for (sgl1, status, what) in [
          (SGLDescriptor(.dataBlock, address: data.address, length: 4095), .dataSGLLengthInvalid, "too short"),
          (last(7 * 16), .dataSGLLengthInvalid, "blocks too short"), (last(0), .invalidSGLSegmentDescriptor, "empty"),
          (last(24), .invalidSGLSegmentDescriptor, "no multiple of 16"),
          (at(.lastSegment, 4, 128), .invalidSGLSegmentDescriptor, "not aligned"),
          (at(.lastSegment, 0x8000, 16), .invalidSGLSegmentDescriptor, "a segment in a last segment"),
          (at(.segment, 0, 16), .invalidSGLSegmentDescriptor, "no segment at the end of a segment"),
          (at(.segment, 0x9000, 48), .invalidNumberOfSGLDescriptors, "a segment before the end"),
          (last(16 * 2000), .invalidNumberOfSGLDescriptors, "more descriptors than anybody needs"),
          (at(.segment, 0xb000, 16), .invalidNumberOfSGLDescriptors, "a segment that points to itself"),
          (raw(0x01), .sglDescriptorTypeInvalid, "sub type"), (raw(0x40), .sglDescriptorTypeInvalid, "keyed"),
          (raw(0xf0), .sglDescriptorTypeInvalid, "vendor specific"),
          (at(.lastSegment, 0xa000, 16), .sglDescriptorTypeInvalid, "keyed, in a segment"),
          (SGLDescriptor(.lastSegment, address: 0x1000, length: 16), .dataTransferError, "a list out of reach"),
          (SGLDescriptor(.dataBlock, address: 0x1000, length: 4096), .dataTransferError, "data out of reach"),
        ] as [(SGLDescriptor, Status, String)] {
          for opcode in [IOOpcode.read, .write] {
            expect(try rig.execute(.io(opcode).sgl(sgl1), on: queue).status, status, what)
          }
        }
        expect(try rig.execute(.io(.read, data).with { $0.cdw0 |= 3 << 14 }, on: queue).status, .invalidField)
      }
    }

    @Test("Base 4.1.1: admin commands use PRPs, no SGLs")
    func adminUsesPRPs() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        let cqe = try rig.admin(.identify) {
          $0 = $0.sgl(SGLDescriptor(.dataBlock, address: data.address, length: 4096))
          $0.cdw10 = 1
        }
        expect(cqe.status, .invalidField)
      }
    }
  }
}
