import Foundation
import NVMe
import Testing
import Trace

/// A trace of the kernel's target, made event by event.
final class KernelTrace {
  let path: String
  private let directory: RecordingDirectory
  private let writer: TraceWriter
  private var producer: RingProducer?
  private var time: UInt64 = 1000

  init() throws {
    path = NSTemporaryDirectory() + "kernel-\(UUID().uuidString).nvpt"
    let id = TraceID.random()
    directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
    writer = try TraceWriter(path: path, id: id, scale: .identity, directory: directory)
    let ring = try Ring(
      creating: "\(directory.path)/kernel-0.ring", capacity: 1 << 12, source: .kernel, stream: 0, traceID: id)
    writer.add(ring)
    producer = RingProducer(ring, whenFull: .drop)
    add(.origin, flags: EventFlag.bytes, cid: 1, b: 3, bytes: Array("nqn".utf8))
  }

  deinit {
    directory.remove()
    unlink(path)
  }

  func add(
    _ kind: EventKind, flags: UInt8 = 0, qid: UInt16 = 0, cid: UInt16 = 0, a: UInt64 = 0, b: UInt64 = 0,
    bytes: [UInt8] = [], after ns: UInt64 = 10
  ) {
    time += ns
    let record = Record(time: time, kind: kind, flags: flags, qid: qid, cid: cid, a: a, b: b)
    bytes.withUnsafeBytes { producer!.append(record, $0) }
  }

  func finish() throws -> TraceReader {
    producer = nil
    _ = writer.finish()
    return try TraceReader(path: path)
  }

  // MARK: What the driver does

  func register(_ offset: UInt64, _ value: UInt64, width: UInt8 = 4) {
    add(.registerWrite, flags: width, a: offset, b: value)
  }

  /// The host enables the controller and creates queue pair 1 of 4 entries.
  func bringUp() {
    register(0x24, 0x1f_001f)
    register(0x28, 0x10000, width: 8)
    register(0x30, 0x20000, width: 8)
    register(0x14, 0x46_0001)
    var create = SubmissionEntry(opcode: AdminOpcode.createIOCompletionQueue.rawValue, cid: CommandID(1))
    (create.prp1, create.cdw10, create.cdw11) = (0x30000, 3 << 16 | 1, 3)
    command(create, qid: 0, slot: 0)
    create = SubmissionEntry(opcode: AdminOpcode.createIOSubmissionQueue.rawValue, cid: CommandID(2))
    (create.prp1, create.cdw10, create.cdw11) = (0x40000, 3 << 16 | 1, 1 << 16 | 1)
    command(create, qid: 0, slot: 1)
  }

  /// How a command goes otherwise than it should.
  struct Fault: OptionSet {
    let rawValue: Int
    static let noSegment = Fault(rawValue: 1)
    static let twice = Fault(rawValue: 2)
    static let noWorkEnd = Fault(rawValue: 4)
    static let fails = Fault(rawValue: 8)
    static let workerIsGone: Fault = [.noWorkEnd, .fails]
    static let noExecuteEnd = Fault(rawValue: 16)
  }

  /// A command from fetch to interrupt; a read moves its data to the host.
  func command(_ sqe: SubmissionEntry, qid: UInt16, slot: UInt32, bytes: UInt32 = 0, _ fault: Fault = []) {
    let cid = sqe.cid.rawValue
    let status: UInt16 = fault.contains(.fails) ? Status.internalError.rawValue : 0
    add(.fetch, qid: qid, cid: cid, a: UInt64(slot), b: 10, bytes: withUnsafeBytes(of: sqe, Array.init), after: 20)
    add(.work, qid: qid, cid: cid, b: 30, after: 50)
    add(.request, flags: sqe.opcode, qid: qid, cid: cid, after: 5)
    add(.executeBegin, flags: sqe.opcode, qid: qid, cid: cid, after: 15)
    if !fault.contains(.noExecuteEnd) {
      add(.executeEnd, qid: qid, cid: cid, a: UInt64(status) | UInt64(bytes) << 32, after: 100)
    }
    add(.response, qid: qid, cid: cid)
    if bytes > 0, !fault.contains(.noSegment), !fault.contains(.fails) {
      add(.segment, qid: qid, cid: cid, a: sqe.prp1, b: UInt64(bytes) | 40 << 32, after: 60)
    }
    add(.completionQueued, qid: qid, cid: cid)
    if !fault.contains(.noWorkEnd) { add(.workEnd, qid: qid, cid: cid) }
    add(.work, flags: 1, qid: qid, b: 20, after: 25)
    let cqe = CompletionEntry(
      dw0: 0, sqhd: 0, sqid: QueueID(qid), cid: sqe.cid, phase: true, status: Status(rawValue: status))
    for _ in 0..<(fault.contains(.twice) ? 2 : 1) {
      add(
        .completion, qid: qid, cid: cid, a: UInt64(cqe.dw0) | UInt64(cqe.dw1) << 32,
        b: UInt64(cqe.dw2) | UInt64(cqe.dw3) << 32)
    }
    add(.interrupt, qid: qid, b: 1, after: 12)
    add(.workEnd, flags: 1, qid: qid)
  }

  func read(_ cid: UInt16, slot: UInt32, _ fault: Fault = []) {
    var sqe = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(cid), nsid: 1)
    (sqe.prp1, sqe.cdw12) = (0x80000, 7)
    command(sqe, qid: 1, slot: slot, bytes: 4096, fault)
  }
}

/// Numbers that a seed reproduces (SplitMix64).
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
