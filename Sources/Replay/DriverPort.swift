import Endpoint
import NVMe
import Target
import Trace

/// The engine's port to one command of the kernel's driver at a time: it supplies the driver's inputs and keeps the
/// engine's actions for the comparison.
struct DriverPort: Port, ~Copyable {
  /// The engine's actions for the current command.
  struct Outcome {
    var fetched = false
    var lists: [DriverSegment] = []
    var segments: [DriverSegment] = []
    var completion: (cqid: UInt16, entry: CompletionEntry)?
  }

  private var command: DriverCommand?
  private(set) var outcome = Outcome()
  /// The engine's next entry, and the tail to report, by submission queue; completion queues are emptied immediately.
  private var heads: [UInt16: UInt32] = [:]
  private var tails: [UInt16: UInt32] = [:]
  private var posted: [UInt16: UInt32] = [:]
  /// Number of entries, by completion queue.
  var depths: [UInt16: UInt32] = [:]

  /// The driver fetched `command`: let the engine see its doorbell, in whichever entry is its next.
  mutating func present(_ command: DriverCommand, depth: UInt32) {
    self.command = command
    outcome = Outcome()
    let next = (heads[command.qid] ?? 0) + 1
    tails[command.qid] = next >= depth ? 0 : next
  }

  mutating func forgetQueues() {
    heads = [:]
    tails = [:]
    posted = [:]
    command = nil
  }

  mutating func doorbell(_ doorbell: Doorbell, last: UInt32) -> UInt32 {
    let qid = doorbell.qid.rawValue
    return (doorbell.isCompletionHead ? posted[qid] : tails[qid]) ?? last
  }

  mutating func clear(_ doorbell: Doorbell) {
    let qid = doorbell.qid.rawValue
    if doorbell.isCompletionHead { posted[qid] = 0 } else { (heads[qid], tails[qid]) = (0, 0) }
  }

  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    guard let command, count == 1, qid.rawValue == command.qid, !outcome.fetched else { return false }
    outcome.fetched = true
    heads[command.qid] = tails[command.qid]
    entries[0] = command.sqe
    return true
  }

  /// A list that the driver read too; else data of a command, whose bytes the recording does not have.
  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    _ = bytes.initializeMemory(as: UInt8.self, repeating: 0)
    let list = command?.lists.first { $0.address == address.rawValue }
    if list != nil || readsList(at: address.rawValue) {
      outcome.lists.append(DriverSegment(fromHost: true, address: address.rawValue, length: UInt64(bytes.count)))
    } else {
      moved(fromHost: true, address, bytes.count)
    }
    if let list { bytes.copyBytes(from: list.bytes.prefix(bytes.count)) }
    return true
  }

  /// The driver did not read it. Whether it is a list nevertheless.
  private func readsList(at address: UInt64) -> Bool {
    guard let command else { return false }
    if command.segments.contains(where: { $0.fromHost && $0.contains(address) }) { return false }
    return command.sqe.psdt != 0 || (!command.lists.isEmpty && command.segments.isEmpty)
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    moved(fromHost: false, address, bytes.count)
    return !failed(address)
  }

  private mutating func moved(fromHost: Bool, _ address: PCIAddress, _ count: Int) {
    outcome.segments.append(DriverSegment(fromHost: fromHost, address: address.rawValue, length: UInt64(count)))
  }

  /// Whether the driver could not access it.
  private func failed(_ address: PCIAddress) -> Bool {
    command?.segments.contains { $0.failed && $0.contains(address.rawValue) } ?? false
  }

  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    if segment.isBitBucket { return true }
    moved(fromHost: direction == .fromHost, segment.address, Int(segment.length))
    return !failed(segment.address)
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool { true }

  /// The result of the kernel's backend.
  mutating func execute(_ request: IORequest) -> Status? { command?.executed?.status ?? .success }
  mutating func completion() -> (slot: Int32, status: Status)? { nil }
  mutating func cancel(_ request: IORequest) -> Bool { false }
  mutating func abandonRequests() {}

  mutating func clockMs() -> UInt64 { 0 }
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) {}
  mutating func disarm(_ timer: EngineTimer) {}
  mutating func expired() -> EngineTimer? { nil }

  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    // A request that waits for an event may complete long after its turn.
    if let command, cqe.sqid.rawValue == command.qid, cqe.cid.rawValue == command.cid {
      outcome.completion = (cqid.rawValue, cqe)
    }
    let next = (posted[cqid.rawValue] ?? 0) + 1
    posted[cqid.rawValue] = next >= depths[cqid.rawValue] ?? .max ? 0 : next
    return true
  }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {}
}
