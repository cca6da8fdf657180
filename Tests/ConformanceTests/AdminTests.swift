import Backends
import Foundation
import Host
import NVMe
import Target
import TestDisks
import Testing

extension Conformance {
  @Suite("Admin commands", .serialized)
  struct Admin {
    @Test("Base 5.1.13: Identify Controller")
    func identifiesController() throws {
      try withEndpoint(
        endpoint {
          $0.subsystem.serial = "S123"
          $0.subsystem.model = "M 45"
          $0.subsystem.firmwareRevision = "F6"
          $0.subsystem.ieeeOUI = 0x12_3456
        }
      ) { rig in
        try rig.enable()
        let data = try rig.identify(1).bytes
        #expect(data.text(at: 4, width: 20) == "S123" && data.text(at: 24, width: 40) == "M 45")
        #expect(data.text(at: 64, width: 8) == "F6" && data[73] == 0x56 && data[75] == 0x12)
        #expect(data.integer(UInt32.self, at: 80) == 0x0002_0100, "VER as VS")
        #expect(data[111] == 1, "an I/O controller")
        #expect(data[512] == 0x66 && data[513] == 0x44, "SQES and CQES")
        #expect(data.integer(UInt32.self, at: 516) == 32, "NN")
        #expect(data.integer(UInt16.self, at: 520) == 0x1fd, "ONCS")
        #expect(data.integer(UInt16.self, at: 522) == 1, "FUSES")
        #expect(data.integer(UInt16.self, at: 532) == 127, "ACWU: 512 KiB in blocks of 4 KiB")
        #expect(data.integer(UInt32.self, at: 92) == 1 << 8, "OAES")
        #expect(data.integer(UInt32.self, at: 96) == 1 | 1 << 6 | 1 << 18, "CTRATT")
        #expect(data[258] == 3 && data[259] == 3 && data[260] == 3, "ACL, AERL, FRMW")
        #expect(data[261] == 1 << 1 | 1 << 2 | 1 << 5 && data[262] == 15, "LPA, ELPE")
        #expect(data.integer(UInt16.self, at: 320) == 1, "KAS")
        #expect(data[531] == 1 && data.integer(UInt16.self, at: 534) == 1, "NWPC, CDFS")
        #expect(data.integer(UInt32.self, at: 540) == 32, "MNAN")
        #expect(data[525] & 1 == 1 && data[525] >> 1 & 3 == 3, "VWC")
        #expect(data.integer(UInt32.self, at: 536) & 3 == 1, "SGLS")
        #expect(data.text(at: 768, width: 256).hasPrefix("nqn."))
      }
    }

    @Test("NVM 4.1.5.1: Identify Namespace; zeros where there is none", arguments: [9, 12] as [UInt8])
    func identifiesNamespace(blockShift: UInt8) throws {
      try withEndpoint(endpoint { $0.namespaces[0].blockShift = blockShift }) { rig in
        try rig.enable()
        let (status, data) = try rig.identify(0, nsid: 1)
        expect(status, .success)
        #expect(data.integer(UInt64.self, at: 0) << UInt64(blockShift) == 8 << 20, "NSZE")
        #expect(data[128 + 2] == blockShift, "LBADS")
        #expect(data[33] & 7 == 1, "deallocated blocks read as zeros")
        #expect(data.integer(UInt16.self, at: 74) > 0, "MSSRL")
        let (inactive, zeros) = try rig.identify(0, nsid: 2)
        expect(inactive, .success)
        #expect(zeros.allSatisfy { $0 == 0 })
        for nsid in [0, 33, 1025, 0xffff_ffff] as [UInt32] {
          expect(try rig.identify(0, nsid: nsid).status, .invalidNamespaceOrFormat)
        }
      }
    }

    @Test("Base 5.1.13.2.3: the list of active namespaces, from any identifier on", arguments: [2, 7] as [UInt8])
    func listsNamespaces(cns: UInt8) throws {
      try withEndpoint(
        endpoint {
          for nsid in [3, 900] as [UInt32] { $0.namespaces.append(.init(nsid: nsid, backend: .memory(bytes: 1 << 20))) }
        }
      ) { rig in
        try rig.enable()
        for (after, wanted) in [
          (0, [1, 3, 900, 0]), (1, [3, 900, 0, 0]), (899, [900, 0, 0, 0]), (900, [0, 0, 0, 0]),
        ]
          as [(UInt32, [UInt32])]
        {
          let data = try rig.identify(cns, nsid: after).bytes
          let found = (0..<4).map { data.integer(UInt32.self, at: $0 * 4) }
          #expect(found == wanted)
        }
        for nsid in [0xffff_fffe, 0xffff_ffff] as [UInt32] {
          expect(try rig.identify(cns, nsid: nsid).status, .invalidNamespaceOrFormat)
        }
      }
    }

    @Test("Base 5.1.13.2.4: identification descriptors: NGUID, UUID and command set")
    func describesNamespace() throws {
      try withEndpoint(
        endpoint {
          $0.namespaces[0].uuid = NamespaceUUID(high: 0x0102_0304_0506_0708, low: 0x090a_0b0c_0d0e_0f10)
          $0.namespaces[0].nguid = NamespaceUUID(high: 1, low: 2)
        }
      ) { rig in
        try rig.enable()
        let data = try rig.identify(3, nsid: 1).bytes
        #expect(data[0] == 2 && data[1] == 16 && data[4 + 7] == 1 && data[4 + 15] == 2)
        #expect(data[20] == 3 && data[21] == 16 && Array(data[24..<40]) == Array(1...16))
        // Linux insists on it where CAP offers several command sets.
        #expect(data[40] == 4 && data[41] == 1 && data[44] == 0)
        expect(try rig.identify(3, nsid: 2).status, .invalidNamespaceOrFormat)
      }
    }

    @Test("Base 5.1.13.2: structures of a command set, and those that belong to none")
    func identifiesCommandSet() throws {
      try withEndpoint { rig in
        try rig.enable()
        for (cns, nsid) in [(5, 1), (6, 0), (7, 0), (8, 1), (0x19, 0), (0x1c, 0)] as [(UInt8, UInt32)] {
          expect(try rig.identify(cns, nsid: nsid).status, .success, "CNS \(cns)")
        }
        for (cns, nsid) in [(5, 1), (6, 0), (7, 0)] as [(UInt8, UInt32)] {
          expect(try rig.identify(cns, nsid: nsid, csi: 2).status, .invalidField)
        }
        let independent = try rig.identify(8, nsid: 1).bytes
        #expect(independent[14] == 1, "NSTAT: ready")
        for cns in [4, 9, 0x10, 0x7f, 0xff] as [UInt8] {
          expect(try rig.identify(cns, nsid: 1).status, .invalidField, "CNS \(cns)")
        }
      }
    }

    @Test("Base 4.3.1: Identify into two pages, and into memory that is not there")
    func identifiesIntoPages() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer(3 * 4096)
        let cqe = try rig.admin(.identify) {
          $0.cdw10 = 1
          ($0.prp1, $0.prp2) = (data.address + 256, data.address + 8192)
        }
        expect(cqe.status, .success)
        #expect(data.get(UInt16.self, at: 256) == 0x4e56)
        #expect(data.get(UInt16.self, at: 8192 + 2048 - (4096 - 256) + 0) == 0)
        let lost = try rig.admin(.identify) { ($0.cdw10, $0.prp1) = (1, 0x1000) }
        expect(lost.status, .dataTransferError)
        let missing = try rig.admin(.identify) { ($0.cdw10, $0.prp1) = (1, data.address + 8) }
        expect(missing.status, .invalidField)
      }
    }

    @Test("Base 5: commands that do not exist, fused bits, and fields that must be zero")
    func refusesCommands() throws {
      try withEndpoint { rig in
        try rig.enable()
        for opcode in [0x03, 0x07, 0x0b, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x19, 0x1a, 0x7c, 0x80, 0x81, 0x84, 0xc0, 0xff]
          as [UInt8]
        {
          let cqe = try rig.execute(SubmissionEntry(opcode: opcode, cid: CommandID(0)), on: rig.admin)
          expect(cqe.status, .invalidOpcode, "opcode \(opcode)")
        }
        for opcode in AdminOpcode.allCases where !opcode.namesNamespace {
          expect(try rig.admin(opcode, nsid: 1).status, .invalidField, "opcode \(opcode) names no namespace")
        }
        for cns in [0x01, 0x06, 0x19, 0x1c] as [UInt8] {
          expect(try rig.identify(cns, nsid: 1).status, .invalidField, "CNS \(cns) names no namespace")
        }
        for fuse in 1...3 as ClosedRange<UInt32> {
          let cqe = try rig.admin(.keepAlive) { $0.cdw0 |= fuse << 8 }
          expect(cqe.status, .invalidField)
        }
      }
    }

    @Test("Base 5.1.1: Abort ends an Asynchronous Event Request, and tells when there is nothing to end")
    func aborts() throws {
      try withEndpoint { rig in
        try rig.enable()
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        let abort = SubmissionEntry(opcode: AdminOpcode.abort.rawValue, cid: rig.cid())
        rig.admin.submit(abort.with { $0.cdw10 = UInt32(waiting.rawValue) << 16 })
        let first = try rig.wait(for: rig.admin.completion)
        let second = try rig.wait(for: rig.admin.completion)
        #expect(first.cid == waiting && second.cid == abort.cid && second.dw0 & 1 == 0)
        expect(first.status, .abortRequested)
        for cdw10 in [UInt32(waiting.rawValue) << 16, 5 | 7 << 16, 0xffff_ffff] as [UInt32] {
          let cqe = try rig.admin(.abort) { $0.cdw10 = cdw10 }
          expect(cqe.status, .success)
          #expect(cqe.dw0 & 1 == 1, "not aborted")
        }
      }
    }

    @Test("Base 5.1.1: a command whose backend has not begun it is aborted, and completes before the Abort does")
    func abortsExecution() throws {
      let slow = BackendConfiguration.null(bytes: 1 << 20, serviceTime: .constant(ns: 3_600_000_000_000))
      try withEndpoint(endpoint { $0.namespaces[0].backend = slow }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let sqes = try (0..<3).map { _ in SubmissionEntry.io(.read, try rig.buffer()).with { $0.cid = rig.cid() } }
        for sqe in sqes { queue.submit(sqe) }
        try rig.drain()
        let abort = try rig.admin(.abort) { $0.cdw10 = 1 | UInt32(sqes[1].cid.rawValue) << 16 }
        expect(abort.status, .success)
        #expect(abort.dw0 & 1 == 0, "aborted")
        let cqe = try #require(queue.completion.take(), "its completion comes first")
        #expect(cqe.cid == sqes[1].cid)
        expect(cqe.status, .abortRequested)
        let again = try rig.admin(.abort) { $0.cdw10 = 1 | UInt32(sqes[1].cid.rawValue) << 16 }
        #expect(again.dw0 & 1 == 1, "there is nothing to abort any more")
        #expect(queue.completion.look() == nil, "the others are under way")
      }
    }

    @Test("Base 5.1.1: a command that waits in the kernel for a worker is aborted, and writes nothing")
    func abortsStorage() throws {
      let directory = try TemporaryDirectory()
      guard let disk = FreezableFileSystem(in: directory.path) else {
        return print("NOT RUN: storage that hangs needs the privilege to mount a file system, and mkfs.ext4")
      }
      let file = disk.path + "/namespace"
      try Data(count: 1 << 20).write(to: URL(fileURLWithPath: file))
      try withEndpoint(endpoint { $0.namespaces[0].backend = .file(path: file, buffered: true) }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let buffer = try rig.buffer()
        buffer.fill(0xab, count: 4096)
        #expect(disk.freeze())
        defer { disk.thaw() }
        // The kernel writes to the page cache of a file one after the other: those behind the first wait for its worker,
        // unless it took them together with the first.
        var written: [CommandID] = []
        var aborted: Int?
        for place in 0..<12 where aborted == nil {
          let sqe = SubmissionEntry.io(.write, slba: UInt64(8 * place), buffer).with { $0.cid = rig.cid() }
          queue.submit(sqe)
          try rig.drain()
          let abort = try rig.admin(.abort) { $0.cdw10 = 1 | UInt32(sqe.cid.rawValue) << 16 }
          guard abort.dw0 & 1 == 0 else {
            written.append(sqe.cid)
            continue
          }
          let cqe = try #require(queue.completion.take(), "its completion comes first")
          #expect(cqe.cid == sqe.cid)
          expect(cqe.status, .abortRequested)
          aborted = place
        }
        let place = try #require(aborted, "none could be aborted")
        disk.thaw()
        for cid in written {
          let cqe = try rig.wait(for: queue.completion)
          #expect(cqe.cid == cid)
          expect(cqe.status, .success)
        }
        let found = try rig.buffer()
        for block in 0...place {
          expect(try rig.execute(.io(.read, slba: UInt64(8 * block), found), on: queue).status, .success)
          #expect(found.bytes(4096) == [UInt8](repeating: block < place ? 0xab : 0, count: 4096))
        }
      }
    }

    @Test("Base 5.1.1: a command that is done and waits for room in its completion queue is not aborted")
    func abortsNothingDone() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair(entries: 3)
        let sqes = try (0..<3).map { _ in SubmissionEntry.io(.read, try rig.buffer()).with { $0.cid = rig.cid() } }
        for sqe in sqes[..<2] { queue.submit(sqe) }
        try rig.drain()
        queue.submit(sqes[2])
        try rig.drain()
        let abort = try rig.admin(.abort) { $0.cdw10 = 1 | UInt32(sqes[2].cid.rawValue) << 16 }
        #expect(abort.dw0 & 1 == 1, "not aborted")
        for sqe in sqes {
          let cqe = try rig.wait(for: queue.completion)
          #expect(cqe.cid == sqe.cid)
          expect(cqe.status, .success)
        }
      }
    }

    @Test("Base 5.1.2: no more Asynchronous Event Requests than AERL says")
    func limitsEventRequests() throws {
      try withEndpoint { rig in
        try rig.enable()
        let limit = Int(try rig.identify(1).bytes[259]) + 1
        for _ in 0..<limit { _ = rig.submitAdmin(.asynchronousEventRequest) }
        try expect(rig.admin(.asynchronousEventRequest).status, .asynchronousEventRequestLimitExceeded)
      }
    }

    @Test("Base 5.1.2: a reported event masks its type until the log page is read, without Retain Asynchronous Event")
    func masksEvents() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.createPair()
        for _ in 0..<2 { _ = rig.submitAdmin(.asynchronousEventRequest) }
        rig.host.ring(.submissionTail(QueueID(1)), 99)
        #expect(try rig.wait(for: rig.admin.completion).dw0 == 0x01_01_00)
        rig.host.ring(.completionHead(QueueID(1)), 98)
        try rig.drain()
        #expect(rig.admin.completion.look() == nil, "masked")
        _ = try rig.logPage(1, retain: true)
        #expect(rig.admin.completion.look() == nil, "the event is retained")
        _ = try rig.logPage(1)
        #expect(try rig.wait(for: rig.admin.completion).dw0 == 0x01_01_00)
      }
    }

    @Test("Base 3.9: without a sign of life for the Keep Alive Timeout the controller fails, with one it does not")
    func keepsAlive() throws {
      try withEndpoint { rig in
        try rig.enable()
        let set = try rig.setFeature(0x0f, 950)
        expect(set.status, .success)
        let get = try rig.getFeature(0x0f)
        #expect(get.dw0 == 1000, "rounded up to KAS")
        for _ in 0..<20 { try rig.drain() }
        #expect(try !rig.status().fatal)
        _ = try rig.waitForStatus { $0.fatal }
        try rig.disable()
        try rig.enable()
        // Its entry in the error log outlives the reset.
        let log = try rig.logPage(1).bytes
        #expect(log.integer(UInt16.self, at: 8) == .max && log.integer(UInt16.self, at: 12) >> 1 & 0x7ff == 0x19)
      }
    }
  }

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

    @Test("Base 5.1.12: NUMD and LPO cut any piece out of a page; what lies behind it reads as zeros")
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

  @Suite("Features", .serialized)
  struct FeatureTests {
    @Test(
      "Base 5.1.25: set, read back, and back to the default after a reset",
      arguments: [
        (0x01, 0x0102_0305, 3), (0x04, 0x140, 0x157), (0x05, 7, 0), (0x06, 0, 1), (0x08, 0x0304, 7),
        (0x09, 0x1_0001, 1), (0x0a, 1, 0), (0x0b, 0x1ff, 0x100), (0x0f, 5000, 0),
      ] as [(UInt8, UInt32, UInt32)])
    func keeps(id: UInt8, value: UInt32, initial: UInt32) throws {
      try withEndpoint { rig in
        try rig.enable()
        let cdw11: UInt32 = id == 0x09 ? 1 : 0
        let nsid: UInt32 = id == 0x05 ? 1 : 0
        for round in 0..<2 {
          // A vector has a configuration when a queue has the vector.
          _ = try rig.createCompletion(1, vector: 1)
          let before = try rig.getFeature(id, nsid: nsid, cdw11: cdw11)
          #expect(before.dw0 == initial, "round \(round)")
          expect(try rig.setFeature(id, value, nsid: nsid).status, .success)
          let after = try rig.getFeature(id, nsid: nsid, cdw11: cdw11)
          #expect(after.dw0 == value)
          for select in [1, 2] as [UInt32] {
            let other = try rig.getFeature(id, select: select, nsid: nsid, cdw11: cdw11)
            #expect(other.dw0 == initial, "default and saved")
          }
          let capabilities = try rig.getFeature(id, select: 3, nsid: nsid, cdw11: cdw11)
          #expect(capabilities.dw0 & 1 == 0, "not saveable")
          #expect(capabilities.dw0 & 4 == 4, "changeable")
          expect(try rig.setFeature(id, value, nsid: nsid, save: true).status, .featureIdentifierNotSaveable)
          try rig.disable()
          try rig.enable()
        }
      }
    }

    @Test("Base 5.1.25: what cannot be set or read")
    func refuses() throws {
      try withEndpoint { rig in
        try rig.enable()
        for id in [0x00, 0x03, 0x0c, 0x0d, 0x10, 0x80, 0xc0, 0xff] as [UInt8] {
          expect(try rig.getFeature(id).status, .invalidField, "feature \(id)")
          expect(try rig.setFeature(id, 0).status, .invalidField, "feature \(id)")
        }
        expect(try rig.getFeature(0x01, select: 4).status, .invalidField)
        expect(try rig.setFeature(0x02, 1).status, .invalidField, "there is one power state")
        expect(try rig.setFeature(0x04, 1 << 16 | 300).status, .invalidField, "one temperature sensor")
        expect(try rig.setFeature(0x05, 1 << 16, nsid: 1).status, .invalidField, "no DULBE")
        expect(try rig.setFeature(0x05, 1).status, .invalidNamespaceOrFormat, "each namespace has its own")
        expect(try rig.setFeature(0x0b, 1 << 14).status, .invalidField, "no endurance groups")
        expect(try rig.setFeature(0x09, 1).status, .invalidField, "no queue has that vector")
        expect(try rig.setFeature(0x07, 0xffff_ffff).status, .invalidField)
        expect(try rig.setFeature(0x09, 5).status, .invalidField, "no such vector")
        expect(try rig.setFeature(0x01, 0, nsid: 1).status, .featureNotNamespaceSpecific)
        expect(try rig.setFeature(0x84, 1).status, .invalidNamespaceOrFormat)
        expect(try rig.setFeature(0x84, 2, nsid: 1).status, .invalidField)
        expect(try rig.setFeature(0x82, 2, nsid: 1).status, .invalidField, "no reservations")
      }
    }

    @Test("Base 5.1.25.1.4: error recovery is set of one namespace, or of all")
    func errorRecovery() throws {
      try withEndpoint(endpoint { $0.namespaces.append(.init(nsid: 2, backend: .memory(bytes: 1 << 20))) }) { rig in
        try rig.enable()
        let both = { try [1, 2].map { try rig.getFeature(0x05, nsid: $0).dw0 } }
        expect(try rig.setFeature(0x05, 7, nsid: 1).status, .success)
        #expect(try both() == [7, 0])
        expect(try rig.setFeature(0x05, 9, nsid: .max).status, .success)
        #expect(try both() == [9, 9])
        expect(try rig.getFeature(0x05, nsid: .max).status, .invalidField)
      }
    }

    @Test("Base 5.1.11: Get of a feature of a namespace that names none is answered for the first")
    func namesNoNamespace() throws {
      let all = endpoint {
        $0.namespaces = ([5, 7] as [UInt32]).map {
          var namespace = NamespaceConfiguration(nsid: $0, backend: .memory(bytes: 1 << 20))
          namespace.hasReservations = true
          return namespace
        }
      }
      try withEndpoint(all) { rig in
        try rig.enable()
        for (id, value) in [(0x05, 9), (0x82, 2), (0x84, 1)] as [(UInt8, UInt32)] {
          expect(try rig.setFeature(id, value, nsid: 5).status, .success)
          let read = try rig.getFeature(id)
          expect(read.status, .success, "feature \(id)")
          #expect(read.dw0 == value)
          #expect(try rig.getFeature(id, select: 3).dw0 & 2 == 2, "it is a namespace's")
          expect(try rig.setFeature(id, value).status, .invalidNamespaceOrFormat, "feature \(id)")
        }
        for nsid in [5, 7] as [UInt32] { try rig.endpoint.function.remove(nsid: nsid) }
        for id in [0x05, 0x82, 0x84] as [UInt8] {
          let read = try rig.getFeature(id)
          expect(read.status, .success)
          #expect(read.dw0 == 0, "there is no namespace")
        }
      }
    }

    @Test("Base 5.1.25.1.14: Host Behavior Support keeps what a host says of itself, until a reset")
    func hostBehavior() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        for round in 0..<2 {
          data.fill(0xff, count: 512)
          expect(try rig.getFeature(0x16, data: data).status, .success)
          #expect(data.bytes(512).allSatisfy { $0 == 0 }, "round \(round)")
          // ACRE and HDISNS; what is reserved is not kept.
          data.fill(0xff, at: 6, count: 506)
          for place in [0, 3] { data.put(1 as UInt8, at: place) }
          expect(try rig.setFeature(0x16, 0, data: data).status, .success)
          data.fill(0xff, count: 512)
          expect(try rig.getFeature(0x16, data: data).status, .success)
          #expect(data.bytes(512) == [1, 0, 0, 1] + [UInt8](repeating: 0, count: 508))
          for (place, value) in [(0, 2), (2, 0xff), (4, 1 << 2), (5, 1)] as [(Int, UInt8)] {
            data.fill(0, count: 512)
            data.put(value, at: place)
            expect(try rig.setFeature(0x16, 0, data: data).status, .invalidField, "byte \(place)")
          }
          expect(try rig.getFeature(0x16, select: 1, data: data).status, .success)
          #expect(data.bytes(512).allSatisfy { $0 == 0 }, "the default")
          try rig.disable()
          try rig.enable()
        }
      }
    }

    @Test("Base 5.1.25.1.3: temperature thresholds, over and under")
    func temperatures() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.setFeature(0x04, 1 << 20 | 280)
        let (over, under) = try (rig.getFeature(0x04).dw0, rig.getFeature(0x04, cdw11: 1 << 20).dw0)
        #expect(over == 0x157 && under == 280)
      }
    }

    @Test("Base 5.1.25.1.3: the number of queues is given before there are any")
    func numberOfQueues() throws {
      try withEndpoint { rig in
        try rig.enable()
        let granted = try rig.setFeature(0x07, 63 | 63 << 16)
        let read = try rig.getFeature(0x07)
        #expect(granted.dw0 == 0x0003_0003 && read.dw0 == granted.dw0)
        _ = try rig.createCompletion(1)
        expect(try rig.setFeature(0x07, 0).status, .commandSequenceError)
      }
    }

    @Test("Base 5.1.25.1.7: the timestamp counts on from what was set, and says who set it")
    func timestamp() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        expect(try rig.getFeature(0x0e, data: data).status, .success)
        #expect(data.get(UInt64.self) >> 48 & 0xe == 0 && data.get(UInt64.self) & 0xffff_ffff_ffff < 60_000)
        data.put(1_700_000_000_000 as UInt64, at: 0)
        expect(try rig.setFeature(0x0e, 0, data: data).status, .success)
        data.put(0 as UInt64, at: 0)
        _ = try rig.getFeature(0x0e, data: data)
        let value = data.get(UInt64.self)
        #expect((1_700_000_000_000..<1_700_000_060_000).contains(value & 0xffff_ffff_ffff) && value >> 49 & 7 == 1)
      }
    }

    @Test("Base 5.1.25.1.28: a host names itself once, in 8 bytes or 16")
    func hostIdentifier() throws {
      try withEndpoint { rig in
        try rig.enable()
        let data = try rig.buffer()
        data.put(0x0123_4567_89ab_cdef as UInt64, at: 0)
        data.put(UInt64.max, at: 8)
        expect(try rig.setFeature(0x81, 0, data: data).status, .success)
        data.fill(0xff, count: 64)
        expect(try rig.getFeature(0x81, cdw11: 0, data: data).status, .success)
        #expect(data.get(UInt64.self) == 0x0123_4567_89ab_cdef && data.get(UInt64.self, at: 8) == .max, "8 bytes")
        try rig.disable()
        try rig.enable()
        data.put(0x1122_3344_5566_7788 as UInt64, at: 0)
        data.put(0x99 as UInt64, at: 8)
        expect(try rig.setFeature(0x81, 1, data: data).status, .success)
        data.put(5 as UInt64, at: 0)
        expect(try rig.setFeature(0x81, 1, data: data).status, .commandSequenceError)
        data.fill(0, count: 64)
        expect(try rig.getFeature(0x81, cdw11: 1, data: data).status, .success)
        #expect(data.get(UInt64.self) == 0x1122_3344_5566_7788 && data.get(UInt64.self, at: 8) == 0x99)
      }
    }

    @Test("Base 5.1.12: a log page that did not reach the host is not read")
    func failedLogPage() throws {
      try withEndpoint { rig in
        try rig.enable()
        try rig.endpoint.function.add(
          NamespaceConfiguration(nsid: 7, backend: .null(bytes: 1 << 20, serviceTime: .none)))
        expect(try rig.logPage(4, bytes: 4096, offset: 4100).status, .invalidField, "an offset beyond its end")
        let page = try rig.logPage(4, bytes: 4096)
        #expect(page.bytes.integer(UInt32.self, at: 0) == 7)
      }
    }

    @Test("Base 5.1.25.1.3: a temperature that reaches its threshold is a warning, and an event that is asked for")
    func temperatureThreshold() throws {
      try withEndpoint { rig in
        try rig.enable()
        expect(try rig.setFeature(0x0b, 1 << 1).status, .success)
        #expect(try rig.logPage(2).bytes[0] == 0)
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        let set = rig.submitAdmin(.setFeatures) {
          $0.cdw10 = 4
          $0.cdw11 = 200 | 0xf << 16
        }
        var seen: [UInt16: UInt32] = [:]
        for _ in 0..<2 {
          let cqe = try rig.wait(for: rig.admin.completion)
          expect(cqe.status, .success)
          seen[cqe.cid.rawValue] = cqe.dw0
        }
        #expect(seen[waiting.rawValue] == 0x02_01_01 && seen[set.rawValue] != nil)
        #expect(try rig.logPage(2).bytes[0] == 1 << 1)
      }
    }

    @Test("Base 5.1.25.1.5: what is so already when its notice is switched on is an event")
    func temperatureBeforeNotice() throws {
      try withEndpoint { rig in
        try rig.enable()
        expect(try rig.setFeature(0x04, 200).status, .success)
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        try rig.drain()
        #expect(rig.admin.completion.look() == nil, "nobody has asked")
        let set = rig.submitAdmin(.setFeatures) { ($0.cdw10, $0.cdw11) = (0x0b, 1 << 1) }
        let cids = try [rig.wait(for: rig.admin.completion).cid, rig.wait(for: rig.admin.completion).cid]
        #expect(Set(cids) == [waiting, set])
      }
    }
  }
}
