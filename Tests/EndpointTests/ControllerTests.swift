import NVMe
import Target
import Testing

/// Sections are those of NVM Express Base 2.1 unless said otherwise.
@Suite("The controller")
struct ControllerTests {
  @Test("3.5.1: becomes ready when enabled, and again after every disable")
  func enables() throws {
    let bench = try EngineBench()
    for _ in 0..<50 {
      bench.enable()
      #expect(bench.read(Register.csts) == 1)
      #expect(bench.createPair(1) == .success)
      bench.write(Register.cc, 0)
      #expect(bench.read(Register.csts) == 0)
    }
  }

  @Test(
    "3.1.4.5: does not become ready with what it does not support", arguments: [1 << 4, 1 << 7, 1 << 11] as [UInt32])
  func refusesConfiguration(bits: UInt32) throws {
    let bench = try EngineBench()
    bench.write(Register.aqa, 31 | 31 << 16)
    bench.write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue | bits))
    #expect(bench.read(Register.csts) == 2)
  }

  @Test("3.6.1: reports a shutdown as complete")
  func shutsDown() throws {
    let bench = try EngineBench()
    bench.enable()
    bench.write(Register.cc, UInt64(ControllerConfiguration.enabled.rawValue | 1 << 14))
    #expect(bench.read(Register.csts) >> 2 & 3 == 2)
  }

  @Test("3.1.4: keeps read-only and reserved registers")
  func keepsReadOnly() throws {
    let bench = try EngineBench()
    let cap = bench.read(Register.cap, width: 8)
    bench.write(Register.cap, .max, width: 8)
    bench.write(0x38, 0xffff_ffff)
    #expect(bench.read(Register.cap, width: 8) == cap)
    #expect(bench.read(0x38) == 0)
    #expect(bench.read(Register.vs) == UInt64(Target.version))
  }

  @Test("5.1.13: identifies itself and its namespaces")
  func identifies() throws {
    let bench = try EngineBench()
    bench.enable()
    let target = EngineBench.address + UInt64(EngineBench.identify)
    for (cns, nsid) in [(1, 0), (0, 1), (2, 0), (3, 1)] as [(UInt32, UInt32)] {
      let cqe = bench.admin(.identify) {
        $0.nsid = nsid
        $0.cdw10 = cns
        $0.prp1 = target
      }
      #expect(cqe?.status == .success)
    }
    _ = bench.admin(.identify) {
      $0.nsid = 1
      $0.prp1 = target
    }
    let bytes = bench.memory + EngineBench.identify
    #expect(bytes.load(as: UInt64.self) == EngineBench.namespaceBlocks)
    #expect(bytes.load(fromByteOffset: 130, as: UInt8.self) == 9)
    let unknown = bench.admin(.identify) { $0.cdw10 = 0x7f }
    #expect(unknown?.status.code == Status.invalidField.code)
  }

  @Test("5.2: refuses impossible queues without side effects")
  func refusesQueues() throws {
    let bench = try EngineBench()
    bench.enable()
    let base = EngineBench.address + UInt64(EngineBench.completion(1))
    let cases: [(cdw10: UInt32, cdw11: UInt32, prp1: UInt64, status: Status)] = [
      (0 | 63 << 16, 1, base, .invalidQueueIdentifier), (9 | 63 << 16, 1, base, .invalidQueueIdentifier),
      (1, 1, base, .invalidQueueSize), (1 | 0xffff << 16, 1, base, .invalidQueueSize),
      (1 | 63 << 16, 0, base, .invalidField), (1 | 63 << 16, 1, base + 8, .prpOffsetInvalid),
      (1 | 63 << 16, 3 | 99 << 16, base, .invalidInterruptVector),
    ]
    for (cdw10, cdw11, prp1, status) in cases {
      let cqe = bench.admin(.createIOCompletionQueue) {
        ($0.cdw10, $0.cdw11, $0.prp1) = (cdw10, cdw11, prp1)
      }
      #expect(cqe?.status.code == status.code)
    }
    let orphan = bench.admin(.createIOSubmissionQueue) {
      ($0.cdw10, $0.cdw11, $0.prp1) = (1 | 63 << 16, 1 | 1 << 16, base)
    }
    #expect(orphan?.status.code == Status.completionQueueInvalid.code)
    #expect(bench.createPair(1) == .success)
    #expect(bench.createPair(1).code == Status.invalidQueueIdentifier.code)
    let early = bench.admin(.deleteIOCompletionQueue) { $0.cdw10 = 1 }
    #expect(early?.status.code == Status.invalidQueueDeletion.code)
    #expect(bench.admin(.deleteIOSubmissionQueue) { $0.cdw10 = 1 }?.status == .success)
    #expect(bench.admin(.deleteIOCompletionQueue) { $0.cdw10 = 1 }?.status == .success)
    #expect(bench.createPair(1) == .success)
  }

  @Test("5.1.2: an invalid doorbell value raises one event and leaves the queue untouched")
  func reportsInvalidDoorbell() throws {
    let bench = try EngineBench()
    bench.enable()
    #expect(bench.createPair(1) == .success)
    bench.submit(0, SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: CommandID(42)))
    bench.settle()
    #expect(bench.reap(0) == nil)
    bench.ring(.submissionTail(QueueID(1)), 5000)
    bench.settle()
    let event = bench.reap(0)
    #expect(event?.cid == CommandID(42))
    #expect(event?.dw0 == AsynchronousEvent.invalidDoorbellWriteValue.dw0)
    let read = EngineBench.io(.read, slba: 0, blocks: 8)
    #expect(bench.execute(1, read)?.status == .success)
  }

  @Test("5.1.2: accepts as many Asynchronous Event Requests as it reports, and aborts them")
  func limitsEventRequests() throws {
    let bench = try EngineBench()
    bench.enable()
    for cid in 0..<4 {
      bench.submit(
        0, SubmissionEntry(opcode: AdminOpcode.asynchronousEventRequest.rawValue, cid: CommandID(UInt16(cid))))
      bench.settle()
    }
    #expect(bench.reap(0) == nil)
    let fifth = bench.admin(.asynchronousEventRequest)
    #expect(fifth?.status.code == Status.asynchronousEventRequestLimitExceeded.code)
    bench.submit(
      0,
      {
        var sqe = SubmissionEntry(opcode: AdminOpcode.abort.rawValue, cid: CommandID(9))
        sqe.cdw10 = 2 << 16
        return sqe
      }())
    bench.settle()
    let aborted = bench.reap(0)
    #expect(aborted?.cid == CommandID(2))
    #expect(aborted?.status.code == Status.abortRequested.code)
    #expect(bench.reap(0)?.dw0 == 0)
  }

  @Test("5.1.25: features are set, read back, and forgotten at a reset")
  func keepsFeatures() throws {
    let bench = try EngineBench()
    bench.enable()
    let set = bench.admin(.setFeatures) {
      ($0.cdw10, $0.cdw11) = (UInt32(FeatureID.interruptCoalescing.rawValue), 0x0203)
    }
    #expect(set?.status == .success)
    let get = bench.admin(.getFeatures) { $0.cdw10 = UInt32(FeatureID.interruptCoalescing.rawValue) }
    #expect(get?.dw0 == 0x0203)
    let queues = bench.admin(.setFeatures) { ($0.cdw10, $0.cdw11) = (UInt32(FeatureID.numberOfQueues.rawValue), 0) }
    #expect(queues?.dw0 == UInt32(3 | 3 << 16))
    bench.write(Register.cc, 0)
    bench.enable()
    let again = bench.admin(.getFeatures) { $0.cdw10 = UInt32(FeatureID.interruptCoalescing.rawValue) }
    #expect(again?.dw0 == 7)
    let save = bench.admin(.setFeatures) { $0.cdw10 = 1 << 31 | UInt32(FeatureID.arbitration.rawValue) }
    #expect(save?.status.code == Status.featureIdentifierNotSaveable.code)
  }

  @Test("5: unknown admin opcodes, and Keep Alive")
  func answersOpcodes() throws {
    let bench = try EngineBench()
    bench.enable()
    let unknown = bench.execute(0, SubmissionEntry(opcode: 0x7f, cid: CommandID(1)))
    #expect(unknown?.status.code == Status.invalidOpcode.code)
    #expect(bench.admin(.keepAlive)?.status == .success)
  }
}
