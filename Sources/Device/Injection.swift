import Endpoint
import NVMe
import Platform
import Recording
import Target
import Text

/// Time that the engine's thread spends on purpose in one stage of I/O commands, to check what a report makes of it.
public struct Injection: Equatable, Sendable, CustomStringConvertible {
  /// The stages in which the engine works, by the names of the report.
  public enum Stage: Int, CaseIterable, Sendable {
    case detect, fetch, dispatch, map, dataIn, execute, dataOut, complete, interrupt

    public var name: String { "\(self)".hyphenated }
  }

  public let stage: Stage
  /// Nanoseconds.
  public let ns: UInt64
  /// Only every so many times.
  public var every: UInt64 = 1
  /// Only for this queue.
  public var qid: UInt16?
  /// Sleep instead of keeping the core busy.
  public var sleeps = false

  public init(_ stage: Stage, ns: UInt64) { (self.stage, self.ns) = (stage, ns) }

  public var description: String {
    "\(stage.name)=\(ns)ns" + (every > 1 ? ",every=\(every)" : "") + (qid.map { ",queue=\($0)" } ?? "")
      + (sleeps ? ",sleep" : ",spin")
  }
}

/// A live port that spends time in some stages: within what the recorder measures as that stage.
struct InjectingPort: LivePortHolder, ~Copyable {
  var live: LivePort<MachineTime>
  /// By stage.
  private var spendings = InlineArray<9, Spending>(repeating: Spending())

  private struct Spending: BitwiseCopyable {
    /// 0 for none.
    var ns: UInt64 = 0
    var every: UInt64 = 1
    /// 0 for every queue.
    var qid: UInt16 = 0
    var sleeps = false
    /// Times since the last one that was spent.
    var passes: UInt64 = 0
  }

  init(_ live: consuming LivePort<MachineTime>, _ injections: [Injection]) {
    self.live = live
    for injection in injections {
      spendings[injection.stage.rawValue] = Spending(
        ns: injection.ns, every: injection.every, qid: injection.qid ?? 0, sleeps: injection.sleeps)
    }
  }

  /// A command reaches a stage.
  private mutating func spend(_ stage: Injection.Stage, _ qid: QueueID) {
    let place = stage.rawValue
    guard spendings[place].ns > 0, qid != .admin, spendings[place].qid == 0 || spendings[place].qid == qid.rawValue
    else { return }
    spendings[place].passes += 1
    guard spendings[place].passes == spendings[place].every else { return }
    spendings[place].passes = 0
    let end = Clock.monotonicNs() + spendings[place].ns
    while true {
      let now = Clock.monotonicNs()
      if now >= end { return }
      if spendings[place].sleeps { Backoff.sleep(ns: end - now) }
    }
  }
}

extension InjectingPort {
  mutating func doorbell(_ doorbell: Doorbell, last seen: UInt32) -> UInt32 {
    let value = live.doorbell(doorbell, last: seen)
    if value != seen, !doorbell.isCompletionHead { spend(.detect, doorbell.qid) }
    return value
  }

  mutating func clear(_ doorbell: Doorbell) { live.clear(doorbell) }

  mutating func fetch(
    _ address: PCIAddress, qid: QueueID, slot: UInt32, count: Int, into entries: UnsafeMutablePointer<SubmissionEntry>
  ) -> Bool {
    spend(.fetch, qid)
    return live.fetch(address, qid: qid, slot: slot, count: count, into: entries)
  }

  mutating func read(_ address: PCIAddress, into bytes: UnsafeMutableRawBufferPointer, qid: QueueID, cid: CommandID)
    -> Bool
  {
    live.read(address, into: bytes, qid: qid, cid: cid)
  }

  mutating func write(_ address: PCIAddress, _ bytes: UnsafeRawBufferPointer, qid: QueueID, cid: CommandID) -> Bool {
    live.write(address, bytes, qid: qid, cid: cid)
  }

  mutating func begins(qid: QueueID, cid: CommandID) { spend(.dispatch, qid) }

  mutating func mapped(qid: QueueID, cid: CommandID, segments: Int, length: UInt32) { spend(.map, qid) }

  /// Without data there is nothing to transfer, and no such stage.
  mutating func transfer(_ direction: Direction, _ request: IORequest, offset: UInt64, _ segment: Segment) -> Bool {
    if live.payload(of: request) != nil { spend(direction == .fromHost ? .dataIn : .dataOut, request.qid) }
    return live.transfer(direction, request, offset: offset, segment)
  }

  mutating func reaches(_ direction: Direction, _ request: IORequest, _ segment: Segment) -> Bool {
    live.reaches(direction, request, segment)
  }

  mutating func payload(of request: IORequest) -> UnsafeRawBufferPointer? { live.payload(of: request) }

  mutating func execute(_ request: IORequest) -> Status? {
    spend(.execute, request.qid)
    return live.execute(request)
  }

  mutating func completion() -> (slot: Int32, status: Status)? { live.completion() }
  mutating func cancel(_ request: IORequest) -> Bool { live.cancel(request) }
  mutating func release(_ request: IORequest) { live.release(request) }
  mutating func abandonRequests() { live.abandonRequests() }
  mutating func clockMs() -> UInt64 { live.clockMs() }
  mutating func arm(_ timer: EngineTimer, afterUs: UInt64) { live.arm(timer, afterUs: afterUs) }
  mutating func disarm(_ timer: EngineTimer) { live.disarm(timer) }
  mutating func expired() -> EngineTimer? { live.expired() }

  mutating func post(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> Bool {
    spend(.complete, cqid)
    return live.post(cqe, at: address, cqid: cqid)
  }

  mutating func prepare(_ cqe: CompletionEntry, at address: PCIAddress, cqid: QueueID) -> UnsafeMutableRawPointer? {
    spend(.complete, cqid)
    return live.prepare(cqe, at: address, cqid: cqid)
  }

  mutating func show(_ cqe: CompletionEntry, at place: UnsafeMutableRawPointer) { live.show(cqe, at: place) }

  mutating func interrupt(vector: UInt16, cqid: QueueID, entries: UInt32) {
    spend(.interrupt, cqid)
    live.interrupt(vector: vector, cqid: cqid, entries: entries)
  }
}
