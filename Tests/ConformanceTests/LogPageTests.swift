import NVMe
import Testing

extension Conformance {
  @Suite("Log pages", .serialized)
  struct LogPages {
    @Test("Base 5.1.12.1.1: the supported log pages are those that can be read")
    func supported() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.logPage(0, bytes: 1024).bytes
        for page in 0...255 as ClosedRange<Int> where page != 0x80 {
          let isSupported = data.integer(UInt32.self, at: page * 4) & 1 == 1
          let status = try rig.logPage(UInt8(page), retain: true).status
          expect(status, isSupported ? .success : .invalidLogPage, "page \(page)")
        }
      }
    }

    @Test("Base 5.1.12.1.2: the error log has the newest errors first, with their queue, command and status")
    func errors() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        for slba in 0..<20 as Range<UInt64> {
          _ = try rig.execute(.io(.read, slba: 1 << 40 + slba, try rig.buffer()), on: queue)
        }
        let data = try rig.logPage(1, bytes: 1024).bytes
        let counts = (0..<16).map { data.integer(UInt64.self, at: $0 * 64) }
        #expect(counts == (5...20).reversed())
        #expect(data.integer(UInt16.self, at: 8) == 1, "SQID")
        #expect(data.integer(UInt16.self, at: 12) >> 1 & 0x7ff == Status.lbaOutOfRange.code)
        #expect(data.integer(UInt64.self, at: 16) == 1 << 40 + 19 && data.integer(UInt32.self, at: 24) == 1)
        #expect(data[31] == IOOpcode.read.rawValue && data[63] == 1, "OPC, and that it is there")
      }
    }

    @Test("Base 5.1.12.1.2: an error's entry has a namespace and a logical block where the command has them")
    func errorsOfOthers() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        func expectEntry(nsid: UInt32, lba: UInt64, _ what: String) throws {
          let data = try rig.logPage(1).bytes
          #expect(data.integer(UInt32.self, at: 24) == nsid && data.integer(UInt64.self, at: 16) == lba, "\(what)")
        }
        _ = try rig.admin(.getLogPage) { ($0.cdw10, $0.cdw11, $0.nsid) = (0x77, 0, 5) }
        try expectEntry(nsid: 5, lba: 0, "Get Log Page")
        _ = try rig.admin(.identify) { ($0.cdw10, $0.nsid) = (1, 9) }
        try expectEntry(nsid: 0, lba: 0, "Identify Controller")
        _ = try rig.admin(.createIOCompletionQueue) { ($0.cdw10, $0.cdw11) = (1 | 7 << 16, 1) }
        try expectEntry(nsid: 0, lba: 0, "Create I/O Completion Queue")
        let data = try rig.buffer()
        data.put(UInt64(1) << 40, at: 8)
        data.put(UInt32(1), at: 4)
        _ = try rig.execute(.io(.datasetManagement, data).with { ($0.cdw10, $0.cdw11) = (0, 4) }, on: queue)
        try expectEntry(nsid: 1, lba: 0, "Dataset Management")
        _ = try rig.execute(.io(.flush, slba: 77, nsid: 3), on: queue)
        try expectEntry(nsid: 3, lba: 0, "Flush")
        _ = try rig.execute(.io(.verify, slba: 1 << 40), on: queue)
        try expectEntry(nsid: 1, lba: 1 << 40, "Verify")
        _ = try rig.execute(.io(.read, slba: 77, data).with { $0.cdw0 = 0x7f }, on: queue)
        try expectEntry(nsid: 0, lba: 0, "an unknown command")
      }
    }

    @Test("Base 5.1.12.1.2: an error's entry names the field at fault where its status is about one")
    func locates() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(8192)
        func location() throws -> UInt16 { try rig.logPage(1).bytes.integer(UInt16.self, at: 14) }
        func io(_ location: UInt16?, _ sqe: SubmissionEntry) throws {
          #expect(try !rig.execute(sqe, on: queue).status.isSuccess)
          #expect(try location == nil || rig.logPage(1).bytes.integer(UInt16.self, at: 14) == location)
        }
        try io(40, .io(.read, slba: 1 << 40, data))
        try io(4, .io(.read, nsid: 2000, data))
        try io(24, .io(.read, data).with { $0.prp1 += 1 })
        try io(32, .io(.read, blocks: 16, data).with { $0.prp2 = data.address + 4096 + 4 })
        try io(.max, .io(.read, data).with { $0.cdw0 |= 3 << 14 })
        _ = try rig.admin(.abort) { $0.cdw0 = $0.cdw0 & ~0xff | 0x7f }
        #expect(try location() == 0, "Opcode")
        _ = try rig.admin(.getLogPage) { $0.cdw10 = 0x77 }
        #expect(try location() == 40, "Log Page Identifier")
        _ = try rig.admin(.createIOCompletionQueue) {
          ($0.prp1, $0.cdw10, $0.cdw11) = (data.address, 2 | 15 << 16, 3 | 5 << 16)
        }
        #expect(try location() == 46, "Interrupt Vector")
        _ = try rig.admin(.createIOSubmissionQueue) {
          ($0.prp1, $0.cdw10, $0.cdw11) = (data.address, 2 | 15 << 16, 1 | 3 << 16)
        }
        #expect(try location() == 46, "Completion Queue Identifier")
        _ = try rig.setFeature(0x07, 1 | 1 << 16, save: true)
        #expect(try location() == 43 | 7 << 8, "Save")
      }
    }

    @Test("Base 5.1.12.1.3: SMART counts commands, data units and errors")
    func smart() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let data = try rig.buffer(1 << 20)
        let whole = SGLDescriptor(.dataBlock, address: data.address, length: 512 << 10)
        for _ in 0..<3 { _ = try rig.execute(.io(.write, blocks: 1024).sgl(whole), on: queue) }
        for _ in 0..<2 { _ = try rig.execute(.io(.read, blocks: 1024).sgl(whole), on: queue) }
        _ = try rig.execute(.io(.read, slba: .max, data), on: queue)
        for nsid in [0, 0xffff_ffff] as [UInt32] {
          let page = try rig.logPage(2, nsid: nsid).bytes
          #expect(page.integer(UInt16.self, at: 1) == 300, "kelvin")
          #expect(page.integer(UInt64.self, at: 32) == 3, "1048576 bytes are 2.05 units of 512000, rounded up")
          #expect(page.integer(UInt64.self, at: 48) == 4)
          #expect(page.integer(UInt64.self, at: 64) == 2 && page.integer(UInt64.self, at: 80) == 3)
          #expect(page.integer(UInt64.self, at: 176) == 1, "error log entries")
        }
        expect(try rig.logPage(2, nsid: 1).status, .invalidField)
      }
    }

    @Test("Base 5.1.12: NUMD and LPO select any piece of a page; bytes beyond its end read as zeros")
    func pieces() throws {
      try withEndpoint(endpoint { $0.subsystem.firmwareRevision = "ABCDEFGH" }) { rig in
        try rig.enable()
        let whole = try rig.logPage(3).bytes
        #expect(whole[0] == 1 && whole.text(at: 8, width: 8) == "ABCDEFGH")
        for (offset, count) in [(8, 8), (4, 12), (508, 4), (8, 512), (0, 8192), (512, 4)] {
          let piece = try rig.logPage(3, bytes: count, offset: UInt64(offset)).bytes
          let wanted = Array((whole + [UInt8](repeating: 0, count: 8192))[offset..<offset + count])
          #expect(piece == wanted)
        }
        for offset in [2, 516, 1 << 40] as [UInt64] {
          expect(try rig.logPage(3, offset: offset).status, .invalidField)
        }
        let endless = try rig.admin(.getLogPage) { ($0.cdw10, $0.cdw11) = (3 | 0xffff << 16, 0xffff) }
        expect(endless.status, .invalidField)
      }
    }

    @Test("Base 5.1.12.1.6: the commands that are supported, which change blocks, and what their scope is")
    func effects() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.logPage(5, bytes: 4096).bytes
        for (opcode, wanted) in [(0x00, 1), (0x06, 1), (0x18, 1), (0x80, 0)] as [(Int, UInt32)] {
          #expect(data.integer(UInt32.self, at: opcode * 4) == wanted | wanted << 21, "CSP: the controller")
        }
        // Linux takes any other bit of an I/O command for an unusual effect.
        for (opcode, wanted) in [(0x00, 1), (0x01, 3), (0x02, 1), (0x08, 3), (0x19, 3), (0x04, 0)] as [(Int, UInt32)] {
          #expect(data.integer(UInt32.self, at: 1024 + opcode * 4) == wanted, "no scope is reported")
        }
        // Where CC.CSS selects the command set, no command names another.
        #expect(try rig.logPage(5, bytes: 4096, commandSet: 2).bytes == data)
        try rig.disable()
        try rig.enable(ControllerConfiguration(rawValue: ControllerConfiguration.enabled.rawValue | 6 << 4))
        #expect(try rig.logPage(5, bytes: 4096).bytes == data)
        for csi in [1, 2, 0x30, 0xff] as [UInt8] {
          expect(
            try rig.logPage(5, bytes: 4096, commandSet: csi).status, .ioCommandSetNotSupported, "command set \(csi)")
        }
        let management = try rig.logPage(0x13, bytes: 4096).bytes
        #expect(management.allSatisfy { $0 == 0 }, "there is no management interface")
      }
    }
  }
}
