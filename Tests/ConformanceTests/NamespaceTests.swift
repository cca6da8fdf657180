import Backends
import CPlatform
import Device
import Events
import Glibc
import Host
import NVMe
import Platform
import Testing
import Trace
import VFIOUser

extension Conformance {
  @Suite("Adding and removing namespaces", .serialized)
  struct Namespaces {
    @Test("Base 5.1.12.1.5: an added or removed namespace is a notice, and stands in the list of changes")
    func changes() throws {
      try withEndpoint { rig in
        try rig.enable()
        let function = rig.endpoint.function
        _ = rig.submitAdmin(.asynchronousEventRequest)
        try function.add(.init(nsid: 5, backend: .memory(bytes: 1 << 20)))
        #expect(try rig.wait(for: rig.admin.completion).dw0 == 0x04_00_02, "Namespace Attribute Changed")
        try function.add(.init(nsid: 3, backend: .null(bytes: 1 << 20, serviceTime: .none)))
        let list = try rig.logPage(4, bytes: 4096).bytes
        #expect((0..<3).map { list.integer(UInt32.self, at: $0 * 4) } == [3, 5, 0])
        let again = try rig.logPage(4, bytes: 4096).bytes
        #expect(again.integer(UInt32.self, at: 0) == 0, "read and cleared")
        let queue = try rig.createPair()
        expect(try rig.execute(.io(.read, nsid: 5, try rig.buffer()), on: queue).status, .success)
        try function.remove(nsid: 5)
        expect(try rig.execute(.io(.read, nsid: 5, try rig.buffer()), on: queue).status, .invalidField)
        let active = try rig.identify(2).bytes
        #expect((0..<3).map { active.integer(UInt32.self, at: $0 * 4) } == [1, 3, 0])
      }
    }

    @Test("Base 5.1.25.1.6: a host that does not want notices gets none")
    func mutes() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.setFeature(0x0b, 0)
        _ = rig.submitAdmin(.asynchronousEventRequest)
        try rig.endpoint.function.add(.init(nsid: 2, backend: .memory(bytes: 1 << 20)))
        try rig.drain()
        #expect(rig.admin.completion.look() == nil)
      }
    }

    @Test("1024 namespaces, all of them usable")
    func many() throws {
      try withEndpoint(
        endpoint {
          for nsid in 2...1024 as ClosedRange<UInt32> {
            $0.namespaces.append(.init(nsid: nsid, backend: .null(bytes: 1 << 20, serviceTime: .none)))
          }
        }
      ) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let list = try rig.identify(2).bytes
        #expect((0..<1024).allSatisfy { list.integer(UInt32.self, at: $0 * 4) == UInt32($0 + 1) })
        for nsid in [1, 512, 1024] as [UInt32] {
          expect(try rig.execute(.io(.read, nsid: nsid, try rig.buffer()), on: queue).status, .success)
        }
      }
    }

    @Test("NN is what is configured or can be added; what is beyond it is refused by the option that sets it")
    func namespacesMax() throws {
      for (configured, given, wanted) in [(1, nil, 32), (900, nil, 900), (3, 3, 3), (1, 1024, 1024)]
        as [(UInt32, UInt32?, UInt32)]
      {
        let all = endpoint {
          $0.namespaces[0].nsid = configured
          $0.namespacesMax = given
        }
        try withEndpoint(all) { rig in
          try rig.enable()
          let data = try rig.identify(1).bytes
          #expect(data.integer(UInt32.self, at: 516) == wanted && data.integer(UInt32.self, at: 540) == wanted)
          let function = rig.endpoint.function
          if wanted < 1024 {
            #expect { try function.add(.init(nsid: wanted + 1, backend: .memory(bytes: 1 << 20))) } throws: {
              "\($0)".contains("--namespaces-max \(wanted + 1)")
            }
          }
          if configured < wanted { try function.add(.init(nsid: wanted, backend: .memory(bytes: 1 << 20))) }
          expect(try rig.identify(0, nsid: wanted).status, .success)
          expect(try rig.identify(0, nsid: wanted + 1).status, .invalidNamespaceOrFormat)
        }
      }
      var small = endpoint { $0.namespaces[0].nsid = 4 }
      small.namespacesMax = 3
      #expect { _ = try EndpointFunction(small) } throws: { "\($0)".contains("--namespaces-max") }
    }

    @Test("Endpoints with different seeds differ in all that a host tells them apart by; the same seed is the same")
    func identities() throws {
      func identity(_ seed: String) throws -> [String] {
        var all: [String] = []
        try withEndpoint(endpoint { $0.subsystem.identify(by: seed) }) { rig in
          try rig.enable()
          let data = try rig.identify(1).bytes
          let list = try rig.identify(3, nsid: 1).bytes
          #expect(list[0] == 3 && list[1] == 16, "a UUID")
          all = [
            data.text(at: 4, width: 20), data.text(at: 768, width: 256), "\(data.integer(UInt16.self, at: 78))",
            "\(list[4..<20])",
          ]
          #expect(all[0].utf8.count == 20 && all[1].hasPrefix("nqn.2014-08.org.nvmexpress:uuid:"))
          #expect((1...0xffef).contains(data.integer(UInt16.self, at: 78)))
        }
        return all
      }
      let (first, second) = try (identity("/tmp/nvme0.sock"), identity("/tmp/nvme1.sock"))
      #expect(zip(first, second).allSatisfy { $0 != $1 }, "\(first) \(second)")
      #expect(try identity("/tmp/nvme0.sock") == first)
    }

    @Test("An identifier is not reused while commands of its previous namespace are in flight")
    func waitsForCommands() throws {
      let slow = BackendConfiguration.null(bytes: 1 << 20, serviceTime: .constant(ns: 3_600_000_000_000))
      try withEndpoint(endpoint { $0.namespaces[0].backend = slow }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        queue.submit(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() })
        try rig.drain()
        let function = rig.endpoint.function
        try function.remove(nsid: 1)
        #expect(throws: EndpointError.self) { try function.add(.init(nsid: 1, backend: .memory(bytes: 1 << 20))) }
        try rig.disable()
        try function.add(.init(nsid: 1, backend: .memory(bytes: 1 << 20)))
      }
    }

    @Test("Commands in flight in a detached namespace complete")
    func removesWithCommands() throws {
      try withEndpoint(
        endpoint { $0.namespaces[0].backend = .null(bytes: 1 << 20, serviceTime: .constant(ns: 20_000_000)) }
      ) {
        rig in
        try rig.enable()
        let queue = try rig.createPair()
        for _ in 0..<4 { queue.submit(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() }) }
        try rig.drain()
        try rig.endpoint.function.remove(nsid: 1)
        for _ in 0..<4 { expect(try rig.wait(for: queue.completion).status, .success) }
      }
    }
  }

  @Suite("Interrupts", .serialized)
  struct Interrupts {
    /// Interrupts that a vector has had since the last look.
    private func count(_ descriptor: Int32) -> UInt64 {
      var value: UInt64 = 0
      return read(descriptor, &value, 8) == 8 ? value : 0
    }

    private func withDescriptors(_ count: Int, _ body: ([Int32]) throws -> Void) rethrows {
      let descriptors = (0..<count).map { _ in nvmepf_eventfd() }
      defer { for descriptor in descriptors { close(descriptor) } }
      for descriptor in descriptors { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
      try body(descriptors)
    }

    private func withVector(
      _ coalescing: UInt32?, disabled: Bool = false, _ body: (Rig, SubmissionRing, Int32) throws -> Void,
      inspect: (TraceReader) throws -> Void = { _ in }
    ) throws {
      try withDescriptors(5) { try withVector(coalescing, disabled, $0, body, inspect) }
    }

    private func withVector(
      _ coalescing: UInt32?, _ disabled: Bool, _ descriptors: [Int32],
      _ body: (Rig, SubmissionRing, Int32) throws -> Void, _ inspect: (TraceReader) throws -> Void
    ) throws {
      let test = { (rig: Rig) throws in
        try rig.setInterrupts(descriptors)
        try rig.enable()
        if let coalescing { expect(try rig.setFeature(0x08, coalescing).status, .success) }
        let queue = try rig.createPair(entries: 64, vector: 1)
        if disabled { expect(try rig.setFeature(0x09, 1 | 1 << 16).status, .success) }
        try body(rig, queue, descriptors[1])
      }
      try withEndpoint(endpoint(), test, inspect: inspect)
    }

    private func execute(_ count: Int, _ rig: Rig, _ queue: SubmissionRing) throws {
      for _ in 0..<count { queue.put(.io(.flush).with { $0.cid = rig.cid() }) }
      queue.ring()
      for _ in 0..<count { _ = try rig.wait(for: queue.completion) }
    }

    @Test("Base 5.1.25.1.4: without an aggregation time entries are announced immediately")
    func announces() throws {
      try withVector(nil) { rig, queue, vector in
        try execute(1, rig, queue)
        try rig.drain()
        #expect(count(vector) == 1)
      }
    }

    @Test("Base 5.1.25.1.4: entries below the threshold wait for the aggregation time, and no longer")
    func aggregates() throws {
      try withVector(7 | 50 << 8) { rig, queue, vector in
        try execute(3, rig, queue)
        let end = Clock.monotonicNs() + 10_000_000_000
        var seen: UInt64 = 0
        while seen == 0, Clock.monotonicNs() < end { seen = count(vector) }
        #expect(seen > 0)
      } inspect: { reader in
        // However long the machine took: it is the timer that raised them.
        var events = try MergedEvents(reader)
        var before: EventKind?
        while let (record, _) = try events.next() {
          if record.pointee.event == .interrupt, record.pointee.qid == 1 { #expect(before == .timer) }
          before = record.pointee.event
        }
      }
    }

    @Test("Base 5.1.25.1.4: entries that reach the threshold are announced immediately")
    func reachesThreshold() throws {
      // Longer than the test: what comes, comes by the threshold.
      try withVector(3 | 255 << 8) { rig, queue, vector in
        try execute(8, rig, queue)
        try rig.drain()
        #expect(count(vector) == 2)
      }
    }

    @Test("Base 5.1.25.1.5: Coalescing Disable")
    func disables() throws {
      try withVector(7 | 255 << 8, disabled: true) { rig, queue, vector in
        try execute(3, rig, queue)
        try rig.drain()
        #expect(count(vector) == 3)
      }
    }

    @Test("Base 3.1.4.3: a masked vector is announced when it is unmasked")
    func masks() throws {
      try withVector(nil) { rig, queue, vector in
        try rig.write32(Register.intms, 2)
        try post(rig, queue)
        #expect(count(vector) == 0)
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 1)
      }
    }

    @Test("Base 3.1.4.3: entries that reached their threshold while masked are announced when unmasked")
    func masksThreshold() throws {
      try withVector(1 | 255 << 8) { rig, queue, vector in
        try rig.write32(Register.intms, 2)
        for _ in 0..<3 { try post(rig, queue) }
        #expect(count(vector) == 0)
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 1)
      }
    }

    /// A command is completed, and its entry not freed.
    private func post(_ rig: Rig, _ queue: SubmissionRing) throws {
      queue.submit(.io(.flush).with { $0.cid = rig.cid() })
      let end = Clock.monotonicNs() + 10_000_000_000
      while queue.completion.look() == nil, Clock.monotonicNs() < end {}
      try rig.drain()
    }

    @Test("Base 3.1.4.4: unmasking announces exactly the entries that the host has not released")
    func unmasksPending() throws {
      try withVector(nil) { rig, queue, vector in
        try post(rig, queue)
        #expect(count(vector) == 1)
        try rig.write32(Register.intms, 2)
        try rig.write32(Register.intmc, 1)
        #expect(count(vector) == 0, "another vector's mask")
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 1)
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 0, "it was not masked")
        _ = try rig.wait(for: queue.completion)
        try rig.write32(Register.intms, 2)
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 0)
        // Found by looking, behind the mask.
        try rig.write32(Register.intms, 2)
        try execute(2, rig, queue)
        try rig.write32(Register.intmc, 2)
        #expect(count(vector) == 0)
      }
    }

    @Test("PCIe: INTx is signalled once, and again after it was unmasked while entries wait")
    func signalsPin() throws {
      try withDescriptors(1) { descriptors in
        try withEndpoint { rig in
          let pin = descriptors[0]
          try rig.setInterrupts(descriptors, of: .intx)
          try rig.enable()
          let queue = try rig.createPair(vector: 1)
          #expect(count(pin) == 1, "the admin queue's first entry")
          try rig.unmaskPin()
          #expect(count(pin) == 0, "all entries are freed")
          try post(rig, queue)
          #expect(count(pin) == 1)
          try execute(1, rig, queue)
          try post(rig, queue)
          #expect(count(pin) == 0, "masked by the signal")
          try rig.unmaskPin()
          #expect(count(pin) == 1, "still asserted")
          try rig.write32(Register.intms, 2)
          try rig.unmaskPin()
          #expect(count(pin) == 0, "the vector is masked")
          try rig.write32(Register.intmc, 2)
          #expect(count(pin) == 1)
          #expect(try rig.readConfiguration(4) >> 19 & 1 == 1, "Interrupt Status")
          try rig.maskPin()
          try rig.setInterrupts(descriptors, of: .intx)
          #expect(count(pin) == 1, "set up anew while it is asserted")
          try rig.writeConfiguration(4, 0x0406)
          try rig.unmaskPin()
          #expect(count(pin) == 0, "Interrupt Disable")
          try rig.writeConfiguration(4, 0x0006)
          #expect(count(pin) == 1)
          while queue.completion.consume() != nil {}
          try rig.unmaskPin()
          try rig.unmaskPin()
          #expect(count(pin) == 0)
          #expect(try rig.readConfiguration(4) >> 19 & 1 == 0)
          try rig.maskPin()
          try post(rig, queue)
          #expect(count(pin) == 0, "masked by the host")
          try rig.unmaskPin()
          #expect(count(pin) == 1)
        }
      }
    }

    @Test("PCIe: MSI is offered in powers of two, and a queue's vector is its message")
    func signalsMessages() throws {
      try withDescriptors(4) { descriptors in
        try withEndpoint(endpoint { $0.offerInterrupts(msix: 0, msi: 3) }) { rig in
          #expect(throws: VFIOUserError.self) { try rig.setInterrupts(descriptors) }
          try rig.setInterrupts(descriptors, of: .msi)
          try rig.enable()
          let queue = try rig.createPair(vector: 3)
          try execute(1, rig, queue)
          try rig.drain()
          #expect(count(descriptors[0]) > 0 && count(descriptors[3]) == 1)
          #expect(count(descriptors[1]) == 0 && count(descriptors[2]) == 0)
          let refused = try rig.admin(.createIOCompletionQueue) {
            $0.prp1 = queue.completion.memory.address
            ($0.cdw10, $0.cdw11) = (2 | 15 << 16, 3 | 4 << 16)
          }
          expect(refused.status, .invalidInterruptVector)
        }
      }
    }

    @Test("Base 5.1.25.1.4: the admin queue is never coalesced")
    func announcesAdmin() throws {
      try withVector(255 | 255 << 8) { rig, _, _ in
        for _ in 0..<3 { try rig.drain() }
      } inspect: { reader in
        var (posted, announced) = (0, 0)
        var events = try MergedEvents(reader)
        while let (record, _) = try events.next() {
          guard record.pointee.qid == 0 else { continue }
          if record.pointee.event == .completion { posted += 1 }
          if record.pointee.event == .interrupt { announced += Int(Event.Interrupt(record.pointee).entries) }
        }
        #expect(posted > 3 && announced == posted)
      }
    }
  }

  @Suite("Reservations", .serialized)
  struct ReservationTests {
    /// A host that has said who it is.
    private func name(_ rig: Rig, _ id: UInt64) throws {
      let data = try rig.buffer()
      data.put(id, at: 0)
      expect(try rig.setFeature(0x81, 1, data: data).status, .success)
    }

    /// The controller as another host finds it: reservations outlive a reset, who the host is does not.
    private func become(_ rig: Rig, _ id: UInt64) throws -> SubmissionRing {
      try rig.disable()
      try rig.enable()
      try name(rig, id)
      return try rig.createPair()
    }

    private func reserve(
      _ opcode: IOOpcode, _ cdw10: UInt32, _ first: UInt64, _ second: UInt64 = 0, _ rig: Rig, _ queue: SubmissionRing
    ) throws -> Status {
      let data = try rig.buffer()
      data.put(first, at: 0)
      data.put(second, at: 8)
      let sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: 1)
      return try rig.execute(sqe.with { ($0.cdw10, $0.prp1) = (cdw10, data.address) }, on: queue).status
    }

    private func withReservations(_ body: (Rig, SubmissionRing) throws -> Void) throws {
      try withEndpoint(endpoint { $0.namespaces[0].hasReservations = true }) { rig in
        try rig.enable()
        try name(rig, 1)
        try body(rig, try rig.createPair())
      }
    }

    @Test("Base 7.6 to 7.9: only if enabled, and only for a host with an identifier")
    func needsName() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        expect(try reserve(.reservationRegister, 0, 0, 7, rig, queue), .invalidOpcode)
      }
      try withEndpoint(endpoint { $0.namespaces[0].hasReservations = true }) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let capabilities = try rig.identify(0, nsid: 1).bytes[31]
        #expect(capabilities & 0x7e == 0x7e, "RESCAP")
        expect(try reserve(.reservationRegister, 0, 0, 7, rig, queue), .hostIdentifierInconsistentFormat)
      }
    }

    @Test("Base 7.7: register, register again, replace and unregister a key")
    func registers() throws {
      try withReservations { rig, queue in
        expect(try reserve(.reservationRegister, 0, 0, 7, rig, queue), .success)
        expect(try reserve(.reservationRegister, 0, 0, 7, rig, queue), .success)
        expect(try reserve(.reservationRegister, 0, 0, 8, rig, queue), .reservationConflict)
        expect(try reserve(.reservationRegister, 2, 6, 9, rig, queue), .reservationConflict)
        expect(try reserve(.reservationRegister, 2, 7, 9, rig, queue), .success)
        expect(try reserve(.reservationRegister, 2 | 8, 0, 10, rig, queue), .success)
        expect(try reserve(.reservationRegister, 1, 9, 0, rig, queue), .reservationConflict)
        expect(try reserve(.reservationRegister, 1, 10, 0, rig, queue), .success)
        expect(try reserve(.reservationRegister, 1, 10, 0, rig, queue), .reservationConflict)
        expect(try reserve(.reservationRegister, 3, 0, 0, rig, queue), .invalidField)
        expect(try reserve(.reservationRegister, 3 << 30, 0, 7, rig, queue), .invalidField, "no PTPL")
      }
    }

    @Test(
      "Base 8.1.24: what another host may do, by reservation type",
      arguments: [
        (1, true, false), (2, false, false), (3, true, false), (4, false, false), (5, true, false), (6, false, false),
      ]
        as [(UInt32, Bool, Bool)])
    func excludes(type: UInt32, mayRead: Bool, mayWrite: Bool) throws {
      try withReservations { rig, first in
        expect(try reserve(.reservationRegister, 0, 0, 7, rig, first), .success)
        expect(try reserve(.reservationAcquire, type << 8, 7, 0, rig, first), .success)
        let data = try rig.buffer()
        expect(try rig.execute(.io(.write, data), on: first).status, .success, "the holder")
        let queue = try become(rig, 2)
        expect(try rig.execute(.io(.read, data), on: queue).status, mayRead ? .success : .reservationConflict)
        for opcode in [IOOpcode.write, .writeZeroes, .datasetManagement] {
          expect(try rig.execute(.io(opcode, blocks: 1, data), on: queue).status, .reservationConflict)
        }
        expect(try reserve(.reservationAcquire, type << 8, 0, 0, rig, queue), .reservationConflict, "not registered")
        expect(try reserve(.reservationRegister, 0, 0, 8, rig, queue), .success)
        let isForRegistrants = type >= 3
        expect(
          try rig.execute(.io(.write, data), on: queue).status, isForRegistrants ? .success : .reservationConflict,
          "registered")
      }
    }

    @Test("Base 7.6: Preempt takes a reservation over, and its holder's registration away")
    func preempts() throws {
      try withReservations { rig, first in
        _ = try reserve(.reservationRegister, 0, 0, 7, rig, first)
        expect(try reserve(.reservationAcquire, 1 << 8, 6, 0, rig, first), .reservationConflict, "another key")
        expect(try reserve(.reservationAcquire, 1 << 8, 7, 0, rig, first), .success)
        expect(try reserve(.reservationAcquire, 2 << 8, 7, 0, rig, first), .reservationConflict, "another type")
        let queue = try become(rig, 2)
        _ = try reserve(.reservationRegister, 0, 0, 8, rig, queue)
        expect(try reserve(.reservationAcquire, 1 << 8, 8, 0, rig, queue), .reservationConflict)
        expect(try reserve(.reservationAcquire, 1 | 2 << 8, 8, 7, rig, queue), .success)
        let report = try rig.buffer()
        let sqe = SubmissionEntry(opcode: IOOpcode.reservationReport.rawValue, cid: CommandID(0), nsid: 1)
        let cqe = try rig.execute(sqe.with { ($0.cdw10, $0.cdw11, $0.prp1) = (1023, 1, report.address) }, on: queue)
        expect(cqe.status, .success)
        #expect(report.get(UInt8.self, at: 4) == 2 && report.get(UInt16.self, at: 5) == 1, "type, registrants")
        #expect(report.get(UInt8.self, at: 66) == 1 && report.get(UInt64.self, at: 72) == 8, "holder, key")
        #expect(report.get(UInt64.self, at: 80) == 2, "host")
        // Who does it need not be told of it.
        let log = try rig.logPage(0x80, bytes: 64).bytes
        #expect(log.allSatisfy { $0 == 0 }, "no notification")
      }
    }

    @Test("Base 5.1.25.1.33: the notification mask of a namespace, or of all, until a reset")
    func masksNotifications() throws {
      try withReservations { rig, _ in
        expect(try rig.setFeature(0x82, 0xff, nsid: 1).status, .success)
        #expect(try rig.getFeature(0x82, nsid: 1).dw0 == 0xe)
        expect(try rig.setFeature(0x82, 2, nsid: .max).status, .success)
        #expect(try rig.getFeature(0x82, nsid: 1).dw0 == 2)
        _ = try become(rig, 2)
        #expect(try rig.getFeature(0x82, nsid: 1).dw0 == 0)
      }
    }

    @Test("Base 7.8: the short report has no room for a host of 16 bytes, the long one has")
    func reports() throws {
      try withReservations { rig, queue in
        _ = try reserve(.reservationRegister, 0, 0, 7, rig, queue)
        let data = try rig.buffer()
        func report(_ cdw11: UInt32) throws -> Status {
          let sqe = SubmissionEntry(opcode: IOOpcode.reservationReport.rawValue, cid: CommandID(0), nsid: 1)
          return try rig.execute(
            sqe.with { ($0.cdw10, $0.cdw11, $0.prp1) = (1023, cdw11, data.address) }, on: queue
          ).status
        }
        expect(try report(0), .success)
        #expect(data.get(UInt32.self) == 1 && data.get(UInt64.self, at: 32) == 1 && data.get(UInt64.self, at: 40) == 7)
        try rig.disable()
        try rig.enable()
        data.put(5 as UInt64, at: 0)
        data.put(6 as UInt64, at: 8)
        expect(try rig.setFeature(0x81, 1, data: data).status, .success)
        let again = try rig.createPair()
        _ = try reserve(.reservationRegister, 0, 0, 8, rig, again)
        for (cdw11, status) in [(0, .hostIdentifierInconsistentFormat), (1, .success)] as [(UInt32, Status)] {
          let sqe = SubmissionEntry(opcode: IOOpcode.reservationReport.rawValue, cid: CommandID(0), nsid: 1)
          let cqe = try rig.execute(
            sqe.with { ($0.cdw10, $0.cdw11, $0.prp1) = (1023, cdw11, data.address) }, on: again)
          expect(cqe.status, status)
        }
      }
    }

    @Test("Base 7.9: release by the holder, clear by any registrant")
    func releases() throws {
      try withReservations { rig, queue in
        _ = try reserve(.reservationRegister, 0, 0, 7, rig, queue)
        expect(try reserve(.reservationRelease, 1 << 8, 7, 0, rig, queue), .success, "there was none")
        _ = try reserve(.reservationAcquire, 1 << 8, 7, 0, rig, queue)
        expect(try reserve(.reservationRelease, 2 << 8, 7, 0, rig, queue), .invalidField, "another type")
        expect(try reserve(.reservationRelease, 1 << 8, 6, 0, rig, queue), .reservationConflict)
        expect(try reserve(.reservationRelease, 1 << 8, 7, 0, rig, queue), .success)
        expect(try reserve(.reservationRelease, 1, 7, 0, rig, queue), .success, "clear")
        expect(try reserve(.reservationAcquire, 1 << 8, 7, 0, rig, queue), .reservationConflict, "nobody is registered")
      }
    }
  }
}
