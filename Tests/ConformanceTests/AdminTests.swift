import Backends
import Foundation
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

    @Test("Base 4.3.1: Identify into two pages, and into inaccessible memory")
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

    @Test("Base 5.1.1: Abort ends an Asynchronous Event Request, and reports if there is nothing to abort")
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
        let cqe = try #require(queue.completion.consume(), "its completion comes first")
        #expect(cqe.cid == sqes[1].cid)
        expect(cqe.status, .abortRequested)
        let again = try rig.admin(.abort) { $0.cdw10 = 1 | UInt32(sqes[1].cid.rawValue) << 16 }
        #expect(again.dw0 & 1 == 1, "there is nothing to abort any more")
        #expect(queue.completion.look() == nil, "the others are in flight")
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
          let cqe = try #require(queue.completion.consume(), "its completion comes first")
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

    @Test("Base 5.1.1: a finished command that waits for room in its completion queue is not aborted")
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

    @Test("Base 5.1.2: no more Asynchronous Event Requests than AERL allows")
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

    @Test("Base 3.9: the controller fails after a Keep Alive Timeout without a command, and only then")
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
}
