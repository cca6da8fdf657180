import Foundation
import Glibc
import Host
import NVMe
import Target
import TestDisks
import Testing

@testable import Backends
@testable import Device

extension Conformance {
  @Suite("Contents of files after resets and flushes", .serialized) struct Durability {
    /// Files of so many bytes, one a namespace, gone at the end of `body`.
    private func withFiles(
      _ count: Int, bytes: Int, _ configuration: EndpointConfiguration, fill: UInt8 = 0, _ body: (Rig) throws -> Void
    ) throws {
      let directory = try TemporaryDirectory()
      var configuration = configuration
      configuration.namespaces = try (1...count).map { nsid in
        let path = try directory.file("\(nsid)", bytes: bytes, fill: fill)
        return NamespaceConfiguration(nsid: UInt32(nsid), backend: .file(path: path, buffered: false))
      }
      configuration.subsystem.queueEntriesMax = 1024
      try withExtendedLifetime(directory) { try withEndpoint(configuration) { rig in try body(rig) } }
    }

    @Test("Base 7.2: a flush of all namespaces goes to every one of many, beside reads that find their data")
    func flushesAll() throws {
      try withFiles(100, bytes: 256 << 10, endpoint(), fill: 0x5a) { rig in
        try rig.enable()
        let ring = try rig.createPair(1, entries: 1024)
        let buffers = try (0..<100).map { _ in try rig.buffer() }
        for _ in 0..<3 {
          for buffer in buffers { buffer.fill(0xee, count: 4096) }
          for index in 0..<200 {
            var sqe = SubmissionEntry(opcode: IOOpcode.flush.rawValue, cid: CommandID(0), nsid: .max)
            if index % 2 == 1 {
              sqe = .io(.read, slba: UInt64(8 * (index / 2 % 32)), blocks: 8, nsid: 1, buffers[index / 2])
            }
            sqe.cid = CommandID(UInt16(index))
            ring.put(sqe)
          }
          ring.ring()
          var seen: Set<UInt16> = []
          for _ in 0..<200 {
            let cqe = try rig.wait(for: ring.completion)
            expect(cqe.status, .success)
            seen.insert(cqe.cid.rawValue)
          }
          #expect(seen.count == 200)
          let wrong = buffers.count { $0.bytes(4096).contains { $0 != 0x5a } }
          #expect(wrong == 0)
        }
      }
    }

    @Test("Base 3.7.2: no write from before a reset takes effect after a later write")
    func resetIsABarrier() throws {
      try withFiles(1, bytes: 128 << 20, endpoint()) { rig in
        try rig.enable()
        let old = try rig.host.share(512 << 10)
        let new = try rig.host.share(4096)
        let list = try rig.buffer()
        old.fill(0xaa, count: 512 << 10)
        new.fill(0xbb, count: 4096)
        for page in 0..<127 { list.put(old.address + UInt64(4096 * (page + 1)), at: 8 * page) }
        for _ in 0..<4 {
          var ring = try rig.createPair(1, entries: 256)
          // Not at a page's begin: such writes take their time.
          for index in 0..<200 {
            var sqe = SubmissionEntry.io(.write, slba: UInt64(1024 * index + 1), blocks: 1023, old)
            sqe.prp2 = list.address
            sqe.cid = CommandID(UInt16(index))
            ring.put(sqe)
          }
          ring.ring()
          // When the first is done the others are with the kernel.
          _ = try rig.wait(for: ring.completion)
          try rig.disable()
          try rig.enable()
          ring = try rig.createPair(1, entries: 256)
          for index in 0..<200 {
            var sqe = SubmissionEntry.io(.write, slba: UInt64(1024 * index + 8), blocks: 8, new)
            sqe.cid = CommandID(UInt16(index))
            ring.put(sqe)
          }
          ring.ring()
          for _ in 0..<200 { expect(try rig.wait(for: ring.completion).status, .success) }
          expect(try rig.execute(.io(.flush), on: ring).status, .success)
          // A reset waits for all requests in flight.
          try rig.disable()
          try rig.enable()
          ring = try rig.createPair(1, entries: 256)
          let data = try rig.buffer()
          var overtaken = 0
          for index in 0..<200 {
            expect(
              try rig.execute(.io(.read, slba: UInt64(1024 * index + 8), blocks: 8, data), on: ring).status, .success)
            if data.bytes(1)[0] != 0xbb { overtaken += 1 }
          }
          #expect(overtaken == 0)
          try rig.disable()
          try rig.enable()
        }
      }
    }

    @Test("Base 3.5.1: hanging storage delays only the next enabling, and no register access")
    func resetOutlastsStorage() throws {
      let directory = try TemporaryDirectory()
      guard let disk = FreezableFileSystem(in: directory.path) else {
        return print("NOT RUN: storage that hangs needs the privilege to mount a file system, and mkfs.ext4")
      }
      let path = disk.path + "/namespace"
      try Data(count: 1 << 20).write(to: URL(fileURLWithPath: path))
      var configuration = endpoint()
      configuration.namespaces = [NamespaceConfiguration(nsid: 1, backend: .file(path: path, buffered: false))]
      try withEndpoint(configuration) { rig in
        try rig.enable()
        let (old, new) = (try rig.buffer(), try rig.buffer())
        old.fill(0xaa, count: 4096)
        new.fill(0xbb, count: 4096)
        var ring = try rig.createPair(1)
        #expect(disk.freeze())
        defer { disk.thaw() }
        ring.submit(.io(.write, blocks: 8, old))
        try rig.drain()
        try rig.disable()
        try rig.configure()
        for _ in 0..<100 {
          #expect(try rig.status().rawValue == 0, "what was written may still arrive")
          #expect(try rig.read32(Register.vs) == 0x0002_0100)
        }
        // The host gives up, and shuts the controller down that never got ready.
        try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue | 1 << 14)
        #expect(try rig.status().shutdown == 1)
        disk.thaw()
        #expect(try rig.waitForStatus { $0.shutdown == 2 }.rawValue == 2 << 2, "and not ready for that")
        try rig.disable()
        try rig.enable()
        ring = try rig.createPair(1)
        #expect(disk.freeze())
        ring.submit(.io(.write, blocks: 8, old))
        try rig.drain()
        try rig.disable()
        try rig.configure()
        #expect(try rig.status().rawValue == 0)
        disk.thaw()
        _ = try rig.waitForStatus { $0.ready }
        ring = try rig.createPair(1)
        expect(try rig.execute(.io(.write, blocks: 8, new), on: ring).status, .success)
        expect(try rig.execute(.io(.read, blocks: 8, old), on: ring).status, .success)
        #expect(old.bytes(4096).allSatisfy { $0 == 0xbb })
      }
    }

    @Test("Base 3.6.1: a shutdown that cannot write cached data does not report success")
    func shutdownFails() throws {
      // A disk that has blocks, and no room for any.
      guard let small = MountedFileSystem("tmpfs", "size=64k") else {
        return print("NOT RUN: a disk that loses data needs the privilege to mount")
      }
      let image = small.path + "/image"
      try Data().write(to: URL(fileURLWithPath: image))
      #expect(truncate(image, 1 << 20) == 0)
      try Data(count: 64 << 10).write(to: URL(fileURLWithPath: small.path + "/rest"))
      guard let disk = LoopDevice(image) else {
        return print("NOT RUN: a disk that loses data needs the privilege to set up a loop device")
      }
      var configuration = endpoint()
      configuration.namespaces = [NamespaceConfiguration(nsid: 1, backend: .file(path: disk.path, buffered: true))]
      for enabled in [true, false] {
        try withEndpoint(configuration) { rig in
          try rig.enable()
          let data = try rig.buffer()
          data.fill(1, count: 4096)
          expect(try rig.execute(.io(.write, blocks: 8, data), on: try rig.createPair()).status, .success)
          if !enabled { try rig.disable() }
          try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue & (enabled ? .max : ~1) | 1 << 14)
          #expect(try rig.waitForStatus { $0.shutdown == 2 }.fatal)
          try rig.disable()
          try rig.enable()
          #expect(try rig.logPage(2).bytes.integer(UInt64.self, at: 160) > 0, "Media and Data Integrity Errors")
        }
      }
    }

    @Test("NVM 3.3.4: reads, comparisons and verifications with Force Unit Access succeed, on a file")
    func forcedReads() throws {
      try withFiles(1, bytes: 1 << 20, endpoint(), fill: 0x11) { rig in
        try rig.enable()
        let ring = try rig.createPair(1)
        let data = try rig.buffer()
        data.fill(0x11, count: 4096)
        for opcode in [IOOpcode.write, .read, .compare, .verify] {
          var sqe = SubmissionEntry.io(opcode, slba: 8, blocks: 8, data)
          sqe.cdw12 |= 1 << 30
          expect(try rig.execute(sqe, on: ring).status, .success, opcode.name)
        }
      }
    }

    @Test(
      "Base 8.1.16: a namespace that is to be protected is flushed first, and all are where there is to be no cache")
    func flushesBeforeProtection() throws {
      try withFiles(3, bytes: 1 << 20, endpoint()) { rig in
        try rig.enable()
        let ring = try rig.createPair(1)
        let data = try rig.buffer()
        expect(try rig.execute(.io(.write, slba: 8, blocks: 8, nsid: 1, data), on: ring).status, .success)
        expect(try rig.setFeature(0x84, 1, nsid: 1).status, .success)
        expect(
          try rig.execute(.io(.write, slba: 8, blocks: 8, nsid: 1, data), on: ring).status, .namespaceIsWriteProtected)
        expect(try rig.setFeature(0x06, 0).status, .success)
        expect(try rig.execute(.io(.write, slba: 8, blocks: 8, nsid: 2, data), on: ring).status, .success)
      }
    }

    /// Commands that take their time: long writes that begin at no page's begin.
    private func submitLongWrites(_ count: Int, nsid: UInt32, _ rig: Rig, _ ring: SubmissionRing) throws {
      let data = try rig.host.share(512 << 10)
      let list = try rig.buffer()
      data.fill(0xaa, count: 512 << 10)
      for page in 0..<127 { list.put(data.address + UInt64(4096 * (page + 1)), at: 8 * page) }
      for index in 0..<count {
        var sqe = SubmissionEntry.io(.write, slba: UInt64(1024 * index + 1), blocks: 1023, nsid: nsid, data)
        sqe.prp2 = list.address
        sqe.cid = CommandID(UInt16(index))
        ring.put(sqe)
      }
      ring.ring()
    }

    /// The same file again, where another namespace was.
    private func file(of nsid: UInt32, _ rig: Rig) throws -> NamespaceConfiguration {
      let state = try #require(rig.endpoint.function.namespaceStates.first { $0.nsid == nsid })
      return NamespaceConfiguration(nsid: nsid, backend: .file(path: state.backend, buffered: false))
    }

    @Test("A file that was removed can be added again, however busy another one is")
    func removesBesideLoad() throws {
      try withFiles(2, bytes: 128 << 20, endpoint()) { rig in
        try rig.enable()
        let ring = try rig.createPair(1, entries: 256)
        try submitLongWrites(200, nsid: 1, rig, ring)
        expect(try rig.wait(for: ring.completion).status, .success)
        let second = try file(of: 2, rig)
        for _ in 0..<3 {
          try rig.endpoint.function.remove(nsid: 2)
          try rig.endpoint.function.add(second)
        }
        for _ in 1..<200 { expect(try rig.wait(for: ring.completion).status, .success) }
        let other = try rig.createPair(2)
        expect(try rig.execute(.io(.read, nsid: 2, try rig.buffer()), on: other).status, .success)
      }
    }

    @Test("A file stays open until its requests are done")
    func removesUnderLoad() throws {
      try withFiles(2, bytes: 64 << 20, endpoint()) { rig in
        try rig.enable()
        let ring = try rig.createPair(1, entries: 256)
        let second = try file(of: 2, rig)
        try submitLongWrites(100, nsid: 2, rig, ring)
        expect(try rig.wait(for: ring.completion).status, .success)
        try rig.endpoint.function.remove(nsid: 2)
        // What the engine had not yet begun finds no namespace.
        var written = 1
        for _ in 1..<100 {
          let cqe = try rig.wait(for: ring.completion)
          if cqe.status.isSuccess { written += 1 } else { expect(cqe.status, .invalidField) }
        }
        #expect(written > 0)
        try rig.endpoint.function.add(second)
        let data = try rig.buffer()
        expect(try rig.execute(.io(.read, slba: 1, blocks: 1, nsid: 2, data), on: ring).status, .success)
        #expect(data.bytes(512).allSatisfy { $0 == 0xaa })
      }
    }

    @Test("1024 files are usable and flushed together")
    func manyFiles() throws {
      var before = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
      var limit = before
      limit.rlim_cur = max(before.rlim_cur, min(before.rlim_max, 4096))
      guard limit.rlim_cur >= 4096, setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
        return print("NOT RUN: 1024 files need a limit of 4096 open files, which is not allowed here")
      }
      defer { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before) }
      try withFiles(1024, bytes: 64 << 10, endpoint()) { rig in
        try rig.enable()
        let ring = try rig.createPair(1)
        let data = try rig.buffer()
        for nsid in [1, 512, 1024] as [UInt32] {
          data.fill(UInt8(truncatingIfNeeded: nsid >> 4), count: 4096)
          expect(try rig.execute(.io(.write, slba: 8, nsid: nsid, data), on: ring).status, .success)
        }
        expect(try rig.execute(.io(.flush, nsid: .max), on: ring).status, .success)
        for nsid in [1, 512, 1024] as [UInt32] {
          expect(try rig.execute(.io(.read, slba: 8, nsid: nsid, data), on: ring).status, .success)
          #expect(data.bytes(4096).allSatisfy { $0 == UInt8(truncatingIfNeeded: nsid >> 4) })
        }
      }
    }
  }
}
