import NVMe
import Testing

extension Conformance {
  @Suite("Queues", .serialized)
  struct Queues {
    @Test("Base 5.2.1: Create I/O Completion Queue refuses impossible queues without side effects")
    func refusesCompletionQueues() throws {
      try withEndpoint { rig in
        try rig.enable()
        let memory = try rig.buffer(1 << 16).address
        for (cdw10, cdw11, prp1, status) in [
          (0 | 15 << 16, 1, memory, .invalidQueueIdentifier), (5 | 15 << 16, 1, memory, .invalidQueueIdentifier),
          (0xffff | 15 << 16, 1, memory, .invalidQueueIdentifier), (1, 1, memory, .invalidQueueSize),
          (1 | 1024 << 16, 1, memory, .invalidQueueSize), (1 | 15 << 16, 0, memory, .invalidField),
          (1 | 15 << 16, 1, memory + 4, .prpOffsetInvalid),
          (1 | 15 << 16, 3 | 5 << 16, memory, .invalidInterruptVector),
        ] as [(UInt32, UInt32, UInt64, Status)] {
          let cqe = try rig.admin(.createIOCompletionQueue) {
            ($0.cdw10, $0.cdw11, $0.prp1) = (cdw10, cdw11, prp1)
          }
          expect(cqe.status, status, "\(cdw10) \(cdw11)")
        }
        _ = try rig.createPair(1)
        let again = try rig.admin(.createIOCompletionQueue) {
          ($0.cdw10, $0.cdw11, $0.prp1) = (1 | 15 << 16, 1, memory)
        }
        expect(again.status, .invalidQueueIdentifier)
      }
    }

    @Test("Base 5.2.2: Create I/O Submission Queue refuses impossible queues without side effects")
    func refusesSubmissionQueues() throws {
      try withEndpoint { rig in
        try rig.enable()
        let completion = try rig.createCompletion(2)
        let memory = try rig.buffer(1 << 16).address
        for (cdw10, cdw11, prp1, status) in [
          (0 | 15 << 16, 1 | 2 << 16, memory, .invalidQueueIdentifier),
          (5 | 15 << 16, 1 | 2 << 16, memory, .invalidQueueIdentifier),
          (1, 1 | 2 << 16, memory, .invalidQueueSize), (1 | 1024 << 16, 1 | 2 << 16, memory, .invalidQueueSize),
          (1 | 15 << 16, 2 << 16, memory, .invalidField), (1 | 15 << 16, 1 | 2 << 16, memory + 64, .prpOffsetInvalid),
          (1 | 15 << 16, 1, memory, .invalidQueueIdentifier),
          (1 | 15 << 16, 1 | 3 << 16, memory, .completionQueueInvalid),
          (1 | 15 << 16, 1 | 99 << 16, memory, .invalidQueueIdentifier),
        ] as [(UInt32, UInt32, UInt64, Status)] {
          let cqe = try rig.admin(.createIOSubmissionQueue) {
            ($0.cdw10, $0.cdw11, $0.prp1) = (cdw10, cdw11, prp1)
          }
          expect(cqe.status, status, "\(cdw10) \(cdw11)")
        }
        // The priority means nothing to a controller without weighted round robin.
        let ring = try rig.admin(.createIOSubmissionQueue) {
          ($0.cdw10, $0.cdw11, $0.prp1) = (1 | 15 << 16, 1 | 3 << 1 | 2 << 16, memory)
        }
        expect(ring.status, .success)
        _ = completion
      }
    }

    @Test("Base 5.2.3 and 5.2.4: a completion queue is deleted after its submission queues")
    func deletesInOrder() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.createPair(1)
        try expect(rig.delete(.deleteIOCompletionQueue, 1), .invalidQueueDeletion)
        for qid in [0, 2, 5, 0xffff] as [UInt16] {
          try expect(rig.delete(.deleteIOSubmissionQueue, qid), .invalidQueueIdentifier)
          try expect(rig.delete(.deleteIOCompletionQueue, qid), .invalidQueueIdentifier)
        }
        try expect(rig.delete(.deleteIOSubmissionQueue, 1), .success)
        try expect(rig.delete(.deleteIOSubmissionQueue, 1), .invalidQueueIdentifier)
        try expect(rig.delete(.deleteIOCompletionQueue, 1), .success)
        _ = try rig.createPair(1)
      }
    }

    @Test("Base 5.2.4: commands in flight complete before their queue is deleted", arguments: [false, true])
    func deletesWithCommands(fetchesBatches: Bool) throws {
      try withEndpoint(
        endpoint {
          $0.subsystem.fetchesBatches = fetchesBatches
          $0.namespaces[0].backend = .null(bytes: 1 << 20, serviceTime: .constant(ns: 10_000_000))
        }
      ) { rig in
        try rig.enable()
        let queue = try rig.createPair()
        for _ in 0..<8 { queue.put(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() }) }
        queue.ring()
        try rig.drain()
        try expect(rig.delete(.deleteIOSubmissionQueue, 1), .success)
        var completed = 0
        while queue.completion.consume() != nil { completed += 1 }
        #expect(completed == 8)
      }
    }

    @Test("Base 3.3.1.2.1: several submission queues may share a completion queue")
    func sharesCompletionQueue() throws {
      try withEndpoint { rig in
        try rig.enable()
        let completion = try rig.createCompletion(1, entries: 64)
        let queues = try (1...4).map { try rig.createSubmission($0, on: completion) }
        for queue in queues {
          for _ in 0..<3 { queue.submit(.io(.read, try rig.buffer()).with { $0.cid = rig.cid() }) }
        }
        var seen: [UInt16: Int] = [:]
        for _ in 0..<12 { seen[try rig.wait(for: completion).sqid.rawValue, default: 0] += 1 }
        #expect(seen == [1: 3, 2: 3, 3: 3, 4: 3])
        for qid in 1...3 as ClosedRange<UInt16> { try expect(rig.delete(.deleteIOSubmissionQueue, qid), .success) }
        try expect(rig.delete(.deleteIOCompletionQueue, 1), .invalidQueueDeletion)
      }
    }

    @Test(
      "Base 3.3.1.2: queues wrap, the phase tag inverts with every round, SQHD follows",
      arguments: [2, 3, 16] as [UInt32])
    func wraps(entries: UInt32) throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair(entries: entries)
        let data = try rig.buffer()
        for number in 1...100 as ClosedRange<UInt32> {
          let cqe = try rig.execute(.io(.read, data), on: queue)
          #expect(UInt32(cqe.sqhd) == number % entries)
          #expect(cqe.phase == ((number - 1) / entries % 2 == 0))
        }
      }
    }

    @Test("Base 3.3.1.2.2: completions wait while their queue is full, and none is lost")
    func waitsForRoom() throws {
      try withEndpoint { rig in
        try rig.enable()
        let completion = try rig.createCompletion(1, entries: 4)
        let queue = try rig.createSubmission(1, on: completion, entries: 32)
        var sent: [CommandID] = []
        for _ in 0..<20 {
          let sqe = SubmissionEntry.io(.flush).with { $0.cid = rig.cid() }
          sent.append(sqe.cid)
          queue.put(sqe)
        }
        queue.ring()
        try rig.drain()
        var completed: [CommandID] = []
        while completed.count < 20 {
          var now = 0
          while let cqe = completion.consumeSilently() {
            completed.append(cqe.cid)
            now += 1
          }
          #expect(now <= 3, "one entry stays free")
          completion.free()
        }
        #expect(completed == sent)
      }
    }

    @Test("Base 3.3.1: queues of the largest size")
    func deepQueues() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair(entries: 1024)
        let data = try rig.buffer()
        for _ in 0..<1023 { queue.put(.io(.read, blocks: 1, data).with { $0.cid = rig.cid() }) }
        queue.ring()
        for _ in 0..<1023 { expect(try rig.wait(for: queue.completion).status, .success) }
      }
    }

    @Test("Base 3.4.4: no more than the arbitration burst is fetched before the others have their turn")
    func sharesTurns() throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = try rig.setFeature(0x01, 1)
        let completion = try rig.createCompletion(1, entries: 64)
        let queues = try [1, 2].map { try rig.createSubmission($0, on: completion) }
        // Both are filled while the admin queue keeps the engine from looking at neither; the order within a queue is
        // certain, that between queues is the arbitration's.
        for queue in queues { for _ in 0..<8 { queue.put(.io(.flush).with { $0.cid = rig.cid() }) } }
        for queue in queues { queue.ring() }
        var order: [UInt16] = []
        for _ in 0..<16 { order.append(try rig.wait(for: completion).sqid.rawValue) }
        #expect(order.filter { $0 == 1 }.count == 8)
        // From where both have commands on, they take turns of two.
        let first = order.firstIndex(of: 2)!
        #expect(first % 2 == 0)
      }
    }

    @Test(
      "Base 5.1.2.1: an invalid doorbell value only causes an event",
      arguments: [16, 17, 5000, 0xffff_ffff] as [UInt32])
    func refusesTail(value: UInt32) throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        let waiting = rig.submitAdmin(.asynchronousEventRequest)
        rig.host.ring(.submissionTail(QueueID(1)), value)
        let event = try rig.wait(for: rig.admin.completion)
        #expect(event.cid == waiting && event.dw0 == 0x01_01_00, "Error, Invalid Doorbell Write Value, log page 1")
        queue.ring()
        expect(try rig.execute(.io(.read, try rig.buffer()), on: queue).status, .success)
      }
    }

    @Test("Base 5.1.2.1: a head beyond what was posted is an event too")
    func refusesHead() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        _ = rig.submitAdmin(.asynchronousEventRequest)
        rig.host.ring(.completionHead(QueueID(1)), 5)
        #expect(try rig.wait(for: rig.admin.completion).dw0 == 0x01_01_00)
        expect(try rig.execute(.io(.read, try rig.buffer()), on: queue).status, .success)
      }
    }

    @Test("Base 5.1.2.1: a doorbell of a nonexistent or impossible queue is an event", arguments: [3, 200])
    func refusesStrayDoorbell(qid: UInt16) throws {
      try withEndpoint { rig in
        try rig.enable()
        _ = rig.submitAdmin(.asynchronousEventRequest)
        rig.host.ring(.submissionTail(QueueID(qid)), 1)
        #expect(try rig.wait(for: rig.admin.completion).dw0 == 0x01_00_00, "Write to Invalid Doorbell Register")
      }
    }

    @Test(
      "Base 5.1.2.1: a queue that is deleted, or a reset, leaves no doorbell that could count as stray")
    func clearsDoorbells() throws {
      try withEndpoint { rig in
        try rig.enable()
        func expectClear(_ what: String) {
          #expect(rig.host.doorbell(.submissionTail(QueueID(1))) == 0, "\(what)")
          #expect(rig.host.doorbell(.completionHead(QueueID(1))) == 0, "\(what)")
        }
        let queue = try rig.createPair(1)
        expect(try rig.execute(.io(.read, try rig.buffer()), on: queue).status, .success)
        #expect(rig.host.doorbell(.submissionTail(QueueID(1))) == 1)
        expect(try rig.delete(.deleteIOSubmissionQueue, 1), .success)
        expect(try rig.delete(.deleteIOCompletionQueue, 1), .success)
        expectClear("after their deletion")
        let again = try rig.createPair(1)
        expect(try rig.execute(.io(.read, try rig.buffer()), on: again).status, .success)
        try rig.disable()
        expectClear("after a reset")
      }
    }

    @Test("Base 9.5: an entry that cannot be fetched is fatal, and the controller can be enabled again")
    func failsFetch() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        try rig.host.unshare(queue.memory.address)
        rig.host.ring(.submissionTail(QueueID(1)), 1)
        _ = try rig.waitForStatus { $0.fatal }
        try rig.disable()
        try rig.enable()
        _ = try rig.createPair()
      }
    }

    @Test("A completion that cannot be posted is fatal")
    func failsPosting() throws {
      try withEndpoint { rig in
        try rig.enable()
        let queue = try rig.createPair()
        try rig.host.unshare(queue.completion.memory.address)
        queue.submit(.io(.flush))
        _ = try rig.waitForStatus { $0.fatal }
      }
    }
  }
}
