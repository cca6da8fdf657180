import Events
import NVMe
import Testing
import Trace

extension Conformance {
  @Suite("Registers, enabling, shutdown and resets", .serialized)
  struct Registers {
    @Test("Base 3.1.4.1: CAP asks for contiguous queues, and has neither stride nor boot partitions nor memory buffers")
    func capabilities() throws {
      try withEndpoint { rig in
        let cap = try rig.read64(Register.cap)
        #expect(cap & 0xffff == 1023, "MQES")
        #expect(cap >> 16 & 1 == 1, "CQR")
        #expect(cap >> 17 & 3 == 0, "AMS")
        #expect(cap >> 24 & 0xff > 0, "TO")
        #expect(cap >> 32 & 0xf == 0, "DSTRD")
        #expect(cap >> 36 & 1 == 0, "NSSRS")
        #expect(cap >> 37 & 1 == 1, "CSS: the NVM command set")
        #expect(cap >> 45 & 1 == 0, "BPS")
        #expect(cap >> 48 & 0xff == 0, "MPSMIN and MPSMAX: 4 KiB")
        #expect(cap >> 56 & 3 == 0, "PMRS and CMBS")
        #expect(cap >> 59 & 1 == 1, "CRMS.CRWMS")
      }
    }

    @Test("Base 3.1.4: reset values")
    func resetValues() throws {
      try withEndpoint { rig in
        let version = try rig.read32(Register.vs)
        #expect(version == 0x0002_0100)
        for register in [Register.intms, Register.intmc, Register.cc, Register.csts, Register.nssr, Register.aqa] {
          let value = try rig.read32(register)
          #expect(value == 0, "register \(register)")
        }
        for register in [Register.asq, Register.acq] {
          let value = try rig.read64(register)
          #expect(value == 0)
        }
        let (crto, timeout) = try (rig.read32(Register.crto), rig.read64(Register.cap) >> 24 & 0xff)
        #expect(crto & 0xffff >= timeout, "CRWMT is at least CAP.TO")
        #expect(crto >> 16 == 0, "CRIMT: no readiness without media")
      }
    }

    @Test("Base 3.1.4: read-only registers keep their value, reserved ones read as zero")
    func readOnly() throws {
      try withEndpoint { rig in
        for register in [Register.cap, Register.cap + 4, Register.vs, Register.csts, Register.crto] {
          let before = try rig.read32(register)
          try rig.write32(register, ~before)
          #expect(try rig.read32(register) == before)
        }
        try rig.write32(Register.cc, .max & ~1)
        #expect(try rig.read32(Register.cc) == 0x00ff_fff0, "reserved bits of CC, and CRIME")
        for register in stride(from: 0x38, to: 0x1000, by: 4) as StrideTo<UInt64> where register != Register.crto {
          guard register < 0x80 || register % 0x200 == 0 else { continue }
          try rig.write32(register, .max)
          #expect(try rig.read32(register) == 0, "register \(register)")
        }
      }
    }

    @Test("PCIe 3.1: 64-bit registers are read and written as a whole or by halves")
    func halves() throws {
      try withEndpoint { rig in
        try rig.host.writeRegister(Register.asq, 0x1234_5678_9abc_d000 as UInt64)
        #expect(try rig.read32(Register.asq) == 0x9abc_d000)
        #expect(try rig.read32(Register.asq + 4) == 0x1234_5678)
        try rig.write32(Register.acq, 0x1111_1fff)
        try rig.write32(Register.acq + 4, 0x2222_2222)
        #expect(try rig.read64(Register.acq) == 0x2222_2222_1111_1000, "the lower 12 bits are reserved")
        try rig.write32(Register.aqa, .max)
        #expect(try rig.read32(Register.aqa) == 0x0fff_0fff)
      }
    }

    @Test("PCIe 3.1: accesses that are not aligned, or of other widths, change nothing")
    func unaligned() throws {
      try withEndpoint { rig in
        try rig.write32(Register.aqa, 0x001f_001f)
        for (offset, count) in [
          (Register.aqa + 1, 4), (Register.aqa, 1), (Register.aqa, 2), (Register.aqa + 2, 2), (Register.aqa - 2, 8),
        ] {
          try rig.writeBytes(offset, [UInt8](repeating: 0xff, count: count))
          #expect(try rig.read32(Register.aqa) == 0x001f_001f)
        }
        #expect(try rig.readBytes(Register.vs + 1, count: 2) == [1, 2])
        #expect(try rig.readBytes(Register.vs, count: 1) == [0])
      }
    }

    @Test("Base 3.5.1: ready when enabled, not ready when disabled, a hundred times over")
    func enables() throws {
      try withEndpoint { rig in
        for _ in 0..<100 {
          try rig.enable()
          _ = try rig.createPair()
          try rig.disable()
          #expect(try rig.status().rawValue == 0)
        }
      }
    }

    @Test(
      "Base 3.1.4.5: never ready with what it does not support",
      arguments: [1 << 7, 2 << 4, 7 << 4, 1 << 11, 7 << 11, 1 << 16, 1 << 20] as [UInt32])
    func refusesConfiguration(bits: UInt32) throws {
      try withEndpoint { rig in
        try rig.configure(ControllerConfiguration(rawValue: ControllerConfiguration.enabled.rawValue ^ bits))
        let status = try rig.status()
        #expect(!status.ready && status.fatal)
        try rig.disable()
        try rig.enable()
      }
    }

    @Test("Base 3.1.4.5: ready with all supported command sets selected")
    func allCommandSets() throws {
      try withEndpoint { rig in
        try rig.enable(ControllerConfiguration(rawValue: ControllerConfiguration.enabled.rawValue | 6 << 4))
        #expect(try rig.identify(0x1c).bytes.integer(UInt64.self, at: 0) == 1)
      }
    }

    @Test("Base 3.3.1: I/O queues need their entry sizes; those may be set after the controller is enabled")
    func entrySizes() throws {
      try withEndpoint { rig in
        try rig.enable(ControllerConfiguration(rawValue: 1))
        let refused = { (opcode: AdminOpcode, cdw11: UInt32) in
          let memory = try rig.buffer()
          let cqe = try rig.admin(opcode) { ($0.cdw10, $0.cdw11, $0.prp1) = (1 | 15 << 16, cdw11, memory.address) }
          expect(cqe.status, .invalidQueueSize, "\(opcode)")
        }
        try refused(.createIOCompletionQueue, 1)
        try rig.write32(Register.cc, 1 | 4 << 20)
        let completion = try rig.createCompletion(1)
        try refused(.createIOSubmissionQueue, 1 | 1 << 16)
        try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue)
        expect(try rig.execute(.io(.flush), on: rig.createSubmission(1, on: completion)).status, .success)
      }
    }

    @Test("Base 3.1.4.8: an admin queue of less than two entries is none")
    func tinyAdminQueue() throws {
      try withEndpoint { rig in
        try rig.write32(Register.aqa, 0)
        try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue)
        #expect(try !rig.status().ready)
      }
    }

    @Test("Base 3.6.1: a shutdown, normal or abrupt, is reported as complete", arguments: [1, 2] as [UInt32])
    func shutsDown(shn: UInt32) throws {
      try withEndpoint { rig in
        try rig.enable()
        try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue | shn << 14)
        #expect(try rig.waitForStatus { $0.shutdown == 2 }.ready)
        // As the Linux and UEFI drivers go on from there.
        try rig.disable()
        #expect(try rig.status().rawValue == 0)
        try rig.enable()
      }
    }

    @Test("Base 3.6.1: what is cached is on the medium when a shutdown is complete, of a controller that is reset too")
    func shutsDownDisabled() throws {
      let directory = try TemporaryDirectory()
      let path = try directory.file(bytes: 1 << 20)
      defer { withExtendedLifetime(directory) {} }
      try withEndpoint(endpoint { $0.namespaces[0].backend = .file(path: path, buffered: true) }) { rig in
        try rig.enable()
        expect(try rig.execute(.io(.write, try rig.buffer()), on: rig.createPair()).status, .success)
        try rig.write32(Register.cc, 1 << 14)
        let status = try rig.waitForStatus { $0.shutdown == 2 }
        #expect(!status.ready && !status.fatal)
        try rig.enable()
        #expect(try rig.status().shutdown == 0, "ready again")
      } inspect: { reader in
        var flushes = 0
        var events = try MergedEvents(reader)
        while let (record, _) = try events.next() {
          guard record.pointee.event == .executeBegin else { continue }
          if Event.ExecuteBegin(record.pointee).opcode == IOOpcode.flush.rawValue { flushes += 1 }
        }
        #expect(flushes == 1)
      }
    }

    @Test("Base 3.7.2: a controller reset keeps AQA, ASQ and ACQ, and forgets queues and features")
    func resetsController() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.createPair()
        _ = try rig.setFeature(0x01, 0x0102_0304)
        try rig.write32(Register.intms, .max)
        let registers = try (rig.read32(Register.aqa), rig.read64(Register.asq), rig.read64(Register.acq))
        try rig.disable()
        let after = try (rig.read32(Register.aqa), rig.read64(Register.asq), rig.read64(Register.acq))
        #expect(after == registers)
        #expect(try rig.read32(Register.intms) == 0, "no vector stays masked")
        try rig.enable()
        #expect(try rig.getFeature(0x01).dw0 == 3)
        _ = try rig.createPair()
      }
    }

    @Test("PCIe Base 6.6.2: a function level reset clears the whole state")
    func resetsFunction() throws {
      try withEndpoint { rig in
        try rig.enable()
        let capability = UInt64(0x48)
        #expect(try rig.readConfiguration(capability) & 0xff == 0x10, "the PCI Express capability")
        #expect(try rig.readConfiguration(capability + 4) >> 28 & 1 == 1, "FLR is offered")
        let control = try rig.readConfiguration(capability + 8)
        try rig.writeConfiguration(capability + 8, control | 1 << 15)
        for register in [Register.cc, Register.csts, Register.aqa, Register.asq, Register.acq] {
          #expect(try rig.read32(register) == 0)
        }
        try rig.enable()
      }
    }

    /// A first namespace whose commands outlast every test, and a second that is quick.
    private let slowAndQuick = endpoint {
      $0.namespaces[0].backend = .null(bytes: 1 << 20, serviceTime: .constant(ns: 3_600_000_000_000))
      $0.namespaces.append(.init(nsid: 2, backend: .memory(bytes: 1 << 20)))
    }

    enum Reset: CaseIterable { case device, function, controller }

    @Test("Base 3.7.2: a reset of any kind abandons commands in flight", arguments: Reset.allCases)
    func resets(_ reset: Reset) throws {
      try withEndpoint(slowAndQuick) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        for _ in 0..<8 { queue.submit(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() }) }
        _ = rig.submitAdmin(.asynchronousEventRequest)
        try rig.drain()
        switch reset {
        case .device: try rig.host.reset()
        case .function: try rig.writeConfiguration(0x50, try rig.readConfiguration(0x50) | 1 << 15)
        case .controller: try rig.disable()
        }
        try rig.enable()
        let again = try rig.createPair()
        let cqe = try rig.execute(.io(.read, nsid: 2, try rig.buffer()), on: again)
        expect(cqe.status, .success)
        #expect(
          queue.completion.look() == nil && rig.admin.completion.look() == nil, "no completion to what was before")
      }
    }

    @Test("Link down and up: registers read as ones, commands are abandoned, the state is initial")
    func losesLink() throws {
      try withEndpoint(slowAndQuick) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        queue.submit(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() })
        try rig.drain()
        try rig.endpoint.function.setLink(isUp: false)
        #expect(try rig.read32(Register.csts) == .max)
        #expect(try rig.read64(Register.cap) == .max)
        try rig.write32(Register.cc, ControllerConfiguration.enabled.rawValue)
        try rig.endpoint.function.setLink(isUp: true)
        #expect(try rig.status().rawValue == 0)
        #expect(try rig.read32(Register.cc) == 0)
        #expect(queue.completion.look() == nil)
        try rig.enable()
        // What a drive counts that loses its host.
        #expect(try rig.logPage(2).bytes.integer(UInt64.self, at: 144) == 1, "Unsafe Shutdowns")
      }
    }

    @Test(
      "PCIe Base 7.5.1.1.11: the capability list contains the offered interrupts",
      arguments: [(5, 0, [1, 0x10, 0x11]), (0, 4, [1, 0x10, 5]), (5, 32, [1, 0x10, 0x11, 5]), (0, 0, [1, 0x10])])
    func listsCapabilities(msix: UInt16, msi: UInt16, expected: [UInt32]) throws {
      try withEndpoint(endpoint { $0.offerInterrupts(msix: msix, msi: msi) }) { rig in
        var found: [UInt32] = []
        var place = UInt64(try rig.readConfiguration(0x34) & 0xff)
        while place != 0, found.count < 16 {
          let header = try rig.readConfiguration(place)
          found.append(header & 0xff)
          if header & 0xff == 5 {
            #expect(1 << (header >> 17 & 7) == msi, "Multiple Message Capable")
            #expect(header >> 23 & 1 == 1, "addresses of 64 bits")
          }
          if header & 0xff == 0x11 { #expect(header >> 16 & 0x7ff == msix - 1, "Table Size") }
          place = UInt64(header >> 8 & 0xff)
        }
        #expect(found == expected)
      }
    }

    @Test("A host that reconnects finds a controller in its initial state")
    func losesHost() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.createPair()
        rig.leave()
        try rig.connect()
        _ = try rig.waitForStatus { $0.rawValue == 0 }
        try rig.enable()
        _ = try rig.createPair()
      }
    }

    @Test("CC takes effect when it is polled, as in a driver whose registers are plain memory")
    func pollsConfiguration() throws {
      try withEndpoint(endpoint { $0.subsystem.configurationPollMs = 5 }) { rig in
        try rig.configure()
        #expect(try rig.read32(Register.cc) == ControllerConfiguration.enabled.rawValue, "CC reads as written")
        _ = try rig.waitForStatus { $0.ready }
        _ = try rig.createPair()
        try rig.disable()
      }
    }

    @Test("Base 3.1.4.3: interrupt masks are set and cleared")
    func masks() throws {
      try withEndpoint { rig in
        try rig.write32(Register.intms, 0xf0f0)
        #expect(try rig.read32(Register.intms) == 0xf0f0)
        #expect(try rig.read32(Register.intmc) == 0xf0f0)
        try rig.write32(Register.intmc, 0x00f0)
        #expect(try rig.read32(Register.intms) == 0xf000)
      }
    }
  }
}
