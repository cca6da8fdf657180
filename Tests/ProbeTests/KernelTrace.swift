import Chance
import EventTable
@_spi(Places) import Events
import Foundation
import NVMe
import Testing
import Trace

/// A trace of the kernel's target, made event by event.
final class KernelTrace {
  let path: String
  private let id = TraceID.random()
  private let directory: RecordingDirectory
  private let writer: TraceWriter
  private var producers: [UInt16: Producer] = [:]
  private var time: UInt64 = 1000
  /// Completions posted, by completion queue.
  private var posted: [UInt16: UInt32] = [:]
  private let slots: UInt64

  private final class Producer {
    var producer: RingProducer
    init(_ ring: Ring) { producer = RingProducer(ring, whenFull: .drop) }
  }

  /// - Parameters:
  ///   - controller: whose events stream 0 has; nil for none, and no stream.
  ///   - slots: of each stream's ring, which must hold all of it.
  init(controller: UInt16? = 1, slots: UInt64 = 1 << 12) throws {
    path = NSTemporaryDirectory() + "kernel-\(UUID().uuidString).nvpt"
    self.slots = slots
    directory = try RecordingDirectory(creating: id, tracePath: path, ringBytes: 1 << 20)
    writer = try TraceWriter(path: path, id: id, scale: .identity, directory: directory)
    if let controller { try origin(stream: 0, controller: controller) }
  }

  deinit {
    directory.remove()
    unlink(path)
  }

  /// Open a stream of a controller's events, or of the host's driver that drives controller 1.
  func origin(stream: UInt16, controller: UInt16, isHost: Bool = false, nqn: String = "nqn") throws {
    let ring = try Ring(
      creating: "\(directory.path)/kernel-\(stream).ring", capacity: slots, source: .kernel, stream: stream,
      traceID: id)
    writer.add(ring)
    producers[stream] = Producer(ring)
    add(
      .origin, flags: Record.carriesBytesFlag | (isHost ? 1 : 0), cid: controller, a: isHost ? 1 : 0,
      b: UInt64(nqn.utf8.count), bytes: Array(nqn.utf8), stream: stream)
  }

  func add(
    _ kind: EventKind, flags: UInt8 = 0, qid: UInt16 = 0, cid: UInt16 = 0, a: UInt64 = 0, b: UInt64 = 0,
    bytes: [UInt8] = [], after ns: UInt64 = 10, stream: UInt16 = 0
  ) {
    time += ns
    let record = Record(time: time, kind: kind, flags: flags, qid: qid, cid: cid, a: a, b: b)
    bytes.withUnsafeBytes { producers[stream]!.producer.append(record, $0) }
  }

  func finish() throws -> TraceReader {
    producers = [:]
    _ = writer.finish()
    return try TraceReader(path: path)
  }

  // MARK: What the driver does

  func register(_ offset: UInt64, _ value: UInt64, width: UInt8 = 4) {
    add(.registerWrite, flags: width, a: offset, b: value)
  }

  /// The host enables the controller and creates queue pair 1 of 4 entries.
  /// - Parameters:
  ///   - cc: what it enables it with.
  ///   - vector: of the completion queue.
  ///   - ien: the completion queue has interrupts.
  func bringUp(cc: UInt64 = 0x46_0001, vector: UInt32 = 0, ien: Bool = true) {
    register(0x24, 0x1f_001f)
    register(0x28, 0x10000, width: 8)
    register(0x30, 0x20000, width: 8)
    register(0x14, cc)
    posted = [:]
    var create = SubmissionEntry(opcode: AdminOpcode.createIOCompletionQueue.rawValue, cid: CommandID(1))
    (create.prp1, create.cdw10, create.cdw11) = (0x30000, 3 << 16 | 1, vector << 16 | (ien ? 3 : 1))
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
    static let staleHead = Fault(rawValue: 32)
    static let wrongPhase = Fault(rawValue: 64)
    static let reservedDword = Fault(rawValue: 128)
    static let wrongQueue = Fault(rawValue: 256)
    static let noInterrupt = Fault(rawValue: 1024)
    static let retry = Fault(rawValue: 512)
  }

  /// A command from fetch to interrupt; a read moves its data to the host.
  func command(
    _ sqe: SubmissionEntry, qid: UInt16, slot: UInt32, bytes: UInt32 = 0, _ fault: Fault = [], status: UInt16? = nil,
    dw0: UInt32 = 0
  ) {
    let cid = sqe.cid.rawValue
    let status = status ?? (fault.contains(.fails) ? Status.internalError.rawValue : 0)
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
    for _ in 0..<(fault.contains(.twice) ? 2 : 1) {
      complete(sqe, qid: qid, slot: slot, status: status, dw0: dw0, fault)
    }
    if !fault.contains(.noInterrupt) { add(.interrupt, qid: qid, b: 1, after: 12) }
    add(.workEnd, flags: 1, qid: qid)
  }

  private func complete(
    _ sqe: SubmissionEntry, qid: UInt16, slot: UInt32, status: UInt16, dw0: UInt32, _ fault: Fault
  ) {
    let depth: UInt32 = qid == 0 ? 32 : 4
    let ordinal = posted[qid, default: 0]
    posted[qid] = ordinal + 1
    var cqe = CompletionEntry(
      dw0: dw0, sqhd: UInt16((slot + 1) % depth), sqid: QueueID(fault.contains(.wrongQueue) ? 7 : qid), cid: sqe.cid,
      phase: (ordinal / depth % 2 == 0) != fault.contains(.wrongPhase),
      status: Status(rawValue: fault.contains(.retry) ? status | 1 << 13 : status))
    if fault.contains(.staleHead) { cqe.dw2 = cqe.dw2 & 0xffff_0000 | 40 }
    if fault.contains(.reservedDword) { cqe.dw1 = 0xdead }
    add(
      .completion, qid: qid, cid: sqe.cid.rawValue, a: UInt64(cqe.dw0) | UInt64(cqe.dw1) << 32,
      b: UInt64(cqe.dw2) | UInt64(cqe.dw3) << 32)
  }

  /// A read of the test's one size, fetched and no more.
  func fetch(_ cid: UInt16, slot: UInt32, flags: UInt8 = 0) {
    add(
      .fetch, flags: flags, qid: 1, cid: cid, a: UInt64(slot), b: 10,
      bytes: withUnsafeBytes(of: KernelTrace.readEntry(cid), Array.init))
  }

  /// The rest of it.
  func finishRead(_ cid: UInt16, slot: UInt32, head: UInt32? = nil) {
    add(.executeEnd, qid: 1, cid: cid, a: 4096 << 32)
    add(.segment, qid: 1, cid: cid, a: 0x80000, b: 4096)
    complete(KernelTrace.readEntry(cid), qid: 1, slot: (head ?? slot + 1) - 1, status: 0, dw0: 0, [])
  }

  /// An event of any kind, with numbers that are often at the edges.
  func addAny(_ random: inout SeededGenerator) {
    let edges: [UInt64] = [0, 1, 2, 0x14, 0x24, 0x28, 0x30, 0xffff, 0xffff_ffff, .max - 1, .max, 1 << 63]
    func number(_ random: inout SeededGenerator) -> UInt64 {
      Bool.random(using: &random) ? edges.randomElement(using: &random)! : random.next()
    }
    let kind = EventKind.allCases.randomElement(using: &random)!
    var flags = UInt8.random(in: 0...255, using: &random)
    var b = number(&random)
    var count = kind.description.fixedTailBytes
    if kind.description.carriesBytes {
      count = Int.random(in: 0...100, using: &random)
      flags = count > 0 ? flags | Record.carriesBytesFlag : flags & ~Record.carriesBytesFlag
      b = b & ~0xffff_ffff | UInt64(count)
    }
    // What makes the rest be looked at no more comes seldom.
    if kind == .gap, Int.random(in: 0...9, using: &random) > 0 { flags |= Event.Gap.Flags.notRun.rawValue }
    if kind == .origin { flags = Record.carriesBytesFlag | flags & 1 }
    let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    add(
      kind, flags: flags, qid: .random(in: 0...2, using: &random), cid: .random(in: 0...5, using: &random),
      a: number(&random), b: b, bytes: bytes)
  }

  private static func readEntry(_ cid: UInt16) -> SubmissionEntry {
    var sqe = SubmissionEntry(opcode: IOOpcode.read.rawValue, cid: CommandID(cid), nsid: 1)
    (sqe.prp1, sqe.cdw12) = (0x80000, 7)
    return sqe
  }

  func read(_ cid: UInt16, slot: UInt32, _ fault: Fault = []) {
    command(KernelTrace.readEntry(cid), qid: 1, slot: slot, bytes: 4096, fault)
  }
}
