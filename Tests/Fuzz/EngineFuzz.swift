import Endpoint
import NVMe
import Replay
import Target
import Trace

@testable import Simulation

/// A host that does what the bytes say: registers, doorbells, queue entries and the memory they point to. Its backend and
/// what goes wrong are the bytes', too. The engine's state is right after every pass, and the recording replays.
@_cdecl("fuzz_engine")
public func fuzzEngine(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  var input = Input(data, count)
  let options = input.consume(UInt8.self)
  let scenario =
    options & 8 != 0
    ? Scenario(seed: UInt64(options >> 4), hasFaults: true) : options & 1 == 0 ? Scenario() : .slow(0...1000)
  let bench = EngineBench.make(scenario) {
    $0.fetchesBatches = options & 2 != 0
    $0.configurationPollMs = options & 4 != 0 ? 1 : 0
  }
  while !input.isEmpty { bench.step(&input) }
  bench.settle()
  bench.checkpoint()
  bench.holdRecording()
  return 0
}

/// One read and one write whose data pointer and lists are the bytes.
@_cdecl("fuzz_datapointer")
public func fuzzDataPointer(_ data: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  var input = Input(data, count)
  let bench = EngineBench.make()
  bench.enable()
  precondition(bench.createPair(1) == .success)
  var sqe = bench.entry(&input, IOOpcode.read.rawValue)
  let list = input.rest(EngineBench.listBytes)
  bench.fillLists(list)
  for opcode in [IOOpcode.write, .read, .compare] {
    sqe.cdw0 = sqe.cdw0 & ~0xff | UInt32(opcode.rawValue)
    precondition(bench.execute(1, sqe) != nil, "a command never completes")
  }
  bench.holdRecording()
  return 0
}

extension EngineBench {
  /// A bench; without room for its ring there is nothing to fuzz.
  fileprivate static func make(
    _ scenario: Scenario = Scenario(), _ configure: (inout Subsystem) -> Void = { _ in }
  ) -> EngineBench {
    do {
      return try EngineBench(keepsPromises: false, scenario: scenario, ringSlots: 1 << 15, configure)
    } catch { preconditionFailure("no bench: \(error)") }
  }

  /// One thing that a host can do.
  fileprivate func step(_ input: inout Input) {
    let qid = UInt16(input.consume(UInt8.self) % 5)
    switch input.consume(UInt8.self) % 16 {
    case 0: write(UInt64(input.consume(UInt8.self) % 0x70) & ~3, input.consume(), width: qid & 1 == 0 ? 4 : 8)
    case 1: enable()
    case 2: if queueExists(0) { _ = createPair(max(qid, 1), entries: 2 + UInt32(input.consume(UInt8.self) % 32)) }
    case 3: ring(.submissionTail(QueueID(qid)), input.consume())
    case 4: ring(.completionHead(QueueID(qid)), input.consume())
    case 5: controller.reset(ResetReason(rawValue: UInt8(qid % 4))!, &port)
    case 6:
      let nsid = UInt32(qid) + 2
      if controller.target.namespace(nsid) == nil { attach(nsid) } else { controller.detach(nsid, &port) }
    case 7: controller.findStrayDoorbells(&port)
    case 8:
      fillLists(input.rest(256))
    case 9: while queueExists(qid), reap(qid) != nil {}
    case 10: wait()
    default:
      guard queueExists(qid) else { break }
      let all = qid == 0 ? AdminOpcode.allCases.map(\.rawValue) : IOOpcode.allCases.map(\.rawValue)
      submit(qid, entry(&input, all[Int(input.consume(UInt8.self)) % all.count]))
    }
    settle()
  }

  fileprivate func fillLists(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    (memory + EngineBench.lists).copyMemory(from: base, byteCount: bytes.count)
  }

  /// An entry whose pointers mostly lie in the host's memory.
  fileprivate func entry(_ input: inout Input, _ opcode: UInt8) -> SubmissionEntry {
    var sqe = SubmissionEntry(opcode: opcode, cid: CommandID(input.consume()), nsid: UInt32(input.consume(UInt8.self)))
    let flags = input.consume(UInt8.self)
    sqe.cdw0 |= UInt32(flags & 0xc3) << 8
    let base = EngineBench.address + UInt64(flags & 4 != 0 ? EngineBench.lists : EngineBench.data)
    sqe.prp1 = flags & 8 != 0 ? input.consume() : base + UInt64(input.consume(UInt16.self))
    // PRP2, or the length and the type of SGL1.
    let second = UInt64(input.consume(UInt32.self))
    sqe.prp2 =
      sqe.psdt == 0
      ? EngineBench.address + UInt64(EngineBench.lists) + (second & 0x3fff)
      : second & 0xfffff | UInt64(input.consume(UInt8.self) & 0xf1) << 56
    sqe.cdw10 = input.consume()
    // A size or flags below, and above the CQID or the vector of a queue that is created.
    sqe.cdw11 = UInt32(input.consume(UInt16.self)) | UInt32(input.consume(UInt8.self) % 8) << 16
    sqe.cdw12 = input.consume()
    sqe.cdw13 = UInt32(input.consume(UInt8.self))
    if flags & 0x10 != 0 { widen(&sqe, &input) }
    if flags & 0x20 != 0 { sqe.nsid = .max }
    return sqe
  }

  /// Let every field take any value that it can hold.
  private func widen(_ sqe: inout SubmissionEntry, _ input: inout Input) {
    for field in [
      \SubmissionEntry.nsid, \.cdw2, \.cdw3, \.cdw11, \.cdw12, \.cdw13, \.cdw14, \.cdw15,
    ] {
      let isHighest = input.consume(UInt8.self) & 3 == 0
      sqe[keyPath: field] = isHighest ? .max : input.consume()
    }
  }

  /// What must hold whatever the host did.
  fileprivate func holdRecording() {
    var given = false
    recorded.withUnsafeBufferPointer { slots in
      guard
        var replayer = try? Replayer(
          stream: 0, isClosed: true,
          chunks: { () throws(TraceError) in
            defer { given = true }
            return given ? nil : slots
          }), let result = try? replayer.run()
      else { preconditionFailure("the recording cannot be replayed") }
      precondition(result.divergence == nil, "\(result.divergence!)")
    }
  }
}
