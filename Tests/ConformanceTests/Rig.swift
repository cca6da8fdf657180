import Foundation
import Glibc
import NVMe
import Platform
import Replay
import Service
import Synchronization
import Target
import Testing
import Text
import Trace

@testable import Device
@testable import Host
@testable import VFIOUser

/// The behaviour that NVM Express Base 2.1 ("Base"), NVM Command Set 1.1 ("NVM") and PCIe Transport 1.1 ("PCIe") ask of
/// a controller, one a test, through its registers and queues as a host reaches them over vfio-user.
@Suite("Conformance", .serialized)
enum Conformance {}

/// The endpoint that tests begin with, but for a change.
func endpoint(_ change: (inout EndpointConfiguration) -> Void = { _ in }) -> EndpointConfiguration {
  var configuration = EndpointConfiguration(backend: .memory(bytes: 8 << 20), ioQueuesMax: 4)
  change(&configuration)
  return configuration
}

/// Serve and record an endpoint, let a host at it, and hold the recording against the engine.
/// - Parameter inspect: looks at the whole trace afterwards.
func withEndpoint(
  _ configuration: EndpointConfiguration = endpoint(), _ body: (Rig) throws -> Void,
  inspect: (TraceReader) throws -> Void = { _ in }
) throws {
  let trace = NSTemporaryDirectory() + "/nvmepf-\(TraceID.random()).nvpt"
  defer { unlink(trace) }
  let endpoint = try ServedEndpoint(configuration, output: .trace(trace), logLevel: .critical)
  do {
    try endpoint.start()
    let rig = try Rig(endpoint)
    defer { rig.leave() }
    try body(rig)
  } catch {
    try? endpoint.finish()
    throw error
  }
  try endpoint.finish()
  let reader = try TraceReader(path: trace)
  try inspect(reader)
  let result = try ReplayResult(replaying: reader)
  #expect(result.divergence == nil, "the recording does not replay: \(result.divergence?.description ?? "")")
  #expect(reader.streams.filter { $0.id.source == .engine }.count == 1)
}

/// A directory that goes with its last user.
final class TemporaryDirectory {
  let path = NSTemporaryDirectory() + "/nvmepf-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A file of zeros.
  func file(_ name: String = "namespace", bytes: Int, fill: UInt8 = 0) throws -> String {
    let file = path + "/" + name
    try (fill == 0 ? Data() : Data(repeating: fill, count: bytes)).write(to: URL(fileURLWithPath: file))
    guard truncate(file, bytes) == 0 else { throw RigError(description: "no file of \(bytes) bytes") }
    return file
  }
}

struct RigError: Error, CustomStringConvertible {
  let description: String
}

/// A host that does everything by hand.
final class Rig {
  let endpoint: ServedEndpoint
  private(set) var host: HostController!
  private(set) var admin: SubmissionRing!
  private var nextCID: UInt16 = 0x100

  init(_ endpoint: ServedEndpoint) throws {
    self.endpoint = endpoint
    host = try HostController(connecting: endpoint.socketPath)
  }

  /// Close the connection; rings of a test's own hold it too.
  func leave() {
    admin = nil
    host = nil
  }

  /// Connect anew, after `leave`.
  func connect() throws { host = try HostController(connecting: endpoint.socketPath) }

  // MARK: Registers

  func read32(_ offset: UInt64) throws -> UInt32 { try host.readRegister(offset) }
  func write32(_ offset: UInt64, _ value: UInt32) throws { try host.writeRegister(offset, value) }

  func read64(_ offset: UInt64) throws -> UInt64 {
    try host.client.read(region: PCIRegion.bar0, offset: offset, as: UInt64.self)
  }

  /// Any bytes of BAR 0.
  func readBytes(_ offset: UInt64, count: Int) throws -> [UInt8] {
    try host.client.read(region: PCIRegion.bar0, offset: offset, count: count)
  }

  func writeBytes(_ offset: UInt64, _ bytes: [UInt8]) throws {
    try host.client.write(region: PCIRegion.bar0, offset: offset, bytes)
  }

  /// 32 bits of the PCI configuration space.
  func readConfiguration(_ offset: UInt64) throws -> UInt32 {
    try host.client.read(region: PCIRegion.configuration, offset: offset, as: UInt32.self)
  }

  /// Signal `descriptors` for the vectors from 0 on; INTx has one.
  func setInterrupts(_ descriptors: [Int32], of kind: InterruptKind = .msix) throws {
    try host.client.setInterrupts(kind, start: 0, descriptors: descriptors)
  }

  /// Do not signal INTx until it is unmasked.
  func maskPin() throws { try host.client.act(.mask, .intx, index: 0) }

  /// A signalled INTx has been handled: signal it again if it is asserted.
  func unmaskPin() throws { try host.client.act(.unmask, .intx, index: 0) }

  func writeConfiguration(_ offset: UInt64, _ value: UInt32) throws {
    try host.client.write(region: PCIRegion.configuration, offset: offset, value)
  }

  func status() throws -> ControllerStatus { try host.status() }

  /// Until the status is as wanted, or long enough has passed for any controller.
  func waitForStatus(_ reached: (ControllerStatus) -> Bool) throws -> ControllerStatus {
    let end = Clock.monotonicNs() + 10_000_000_000
    while true {
      let status = try status()
      if reached(status) { return status }
      guard Clock.monotonicNs() < end else { throw RigError(description: "CSTS stays \(status)") }
    }
  }

  // MARK: Bring-up

  /// Set the admin queues up and write CC; do not wait.
  func configure(_ cc: ControllerConfiguration = .enabled, entries: UInt32 = 32) throws {
    let completion = CompletionRing(.admin, entries: entries, try host.share(Int(entries) * 16), host)
    admin = SubmissionRing(.admin, entries: entries, try host.share(Int(entries) * 64), completion, host)
    try write32(Register.aqa, (entries - 1) | (entries - 1) << 16)
    try host.writeRegister(Register.asq, admin.memory.address)
    try host.writeRegister(Register.acq, completion.memory.address)
    try write32(Register.cc, cc.rawValue)
  }

  func enable(_ cc: ControllerConfiguration = .enabled, entries: UInt32 = 32) throws {
    try configure(cc, entries: entries)
    let status = try waitForStatus { $0.ready || $0.fatal }
    guard !status.fatal else { throw RigError(description: "the controller is not ready: CSTS.CFS") }
  }

  func disable() throws {
    try write32(Register.cc, 0)
    _ = try waitForStatus { !$0.ready }
  }

  // MARK: Commands

  func cid() -> CommandID {
    nextCID &+= 1
    return CommandID(nextCID)
  }

  func buffer(_ bytes: Int = 4096) throws -> SharedMemory { try host.share(bytes) }

  /// From submission to completion.
  func execute(_ sqe: SubmissionEntry, on queue: SubmissionRing) throws -> CompletionEntry {
    var sqe = sqe
    sqe.cid = cid()
    queue.submit(sqe)
    let cqe = try wait(for: queue.completion)
    #expect(cqe.cid == sqe.cid && cqe.sqid == queue.qid, "another command's completion")
    return cqe
  }

  func wait(for completion: CompletionRing) throws -> CompletionEntry {
    let end = Clock.monotonicNs() + 10_000_000_000
    while true {
      if let cqe = completion.consume() { return cqe }
      guard Clock.monotonicNs() < end else { throw RigError(description: "no completion on queue \(completion.qid)") }
    }
  }

  /// Hand in an admin command that may wait.
  func submitAdmin(_ opcode: AdminOpcode, _ edit: (inout SubmissionEntry) -> Void = { _ in }) -> CommandID {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: cid())
    edit(&sqe)
    admin.submit(sqe)
    return sqe.cid
  }

  @discardableResult
  func admin(_ opcode: AdminOpcode, nsid: UInt32 = 0, _ edit: (inout SubmissionEntry) -> Void = { _ in }) throws
    -> CompletionEntry
  {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: nsid)
    edit(&sqe)
    return try execute(sqe, on: admin)
  }

  /// Wait until the engine has seen every doorbell. It takes admin commands in turn and looks at the admin queue once a
  /// pass, first: a pass that takes the first of two may have begun before the host's last write, the next one not.
  func drain() throws {
    for _ in 0..<2 { try admin(.keepAlive) }
  }

  // MARK: Queues

  func createCompletion(_ qid: UInt16, entries: UInt32 = 16, vector: UInt16? = nil) throws -> CompletionRing {
    let ring = CompletionRing(QueueID(qid), entries: entries, try host.share(Int(entries) * 16), host)
    let cqe = try admin(.createIOCompletionQueue) {
      $0.prp1 = ring.memory.address
      $0.cdw10 = UInt32(qid) | (entries - 1) << 16
      $0.cdw11 = 1 | (vector.map { 2 | UInt32($0) << 16 } ?? 0)
    }
    guard cqe.status.isSuccess else { throw RigError(description: "no completion queue \(qid): \(cqe.status)") }
    return ring
  }

  func createSubmission(_ qid: UInt16, on completion: CompletionRing, entries: UInt32 = 16) throws -> SubmissionRing {
    let ring = SubmissionRing(QueueID(qid), entries: entries, try host.share(Int(entries) * 64), completion, host)
    let cqe = try admin(.createIOSubmissionQueue) {
      $0.prp1 = ring.memory.address
      $0.cdw10 = UInt32(qid) | (entries - 1) << 16
      $0.cdw11 = 1 | UInt32(completion.qid.rawValue) << 16
    }
    guard cqe.status.isSuccess else { throw RigError(description: "no submission queue \(qid): \(cqe.status)") }
    return ring
  }

  func createPair(_ qid: UInt16 = 1, entries: UInt32 = 16, vector: UInt16? = nil) throws -> SubmissionRing {
    try createSubmission(qid, on: createCompletion(qid, entries: entries, vector: vector), entries: entries)
  }

  func delete(_ opcode: AdminOpcode, _ qid: UInt16) throws -> Status {
    try admin(opcode) { $0.cdw10 = UInt32(qid) }.status
  }

  // MARK: Data

  func identify(_ cns: UInt8, nsid: UInt32 = 0, csi: UInt8 = 0) throws -> (status: Status, bytes: [UInt8]) {
    let data = try buffer()
    let cqe = try admin(.identify, nsid: nsid) {
      $0.cdw10 = UInt32(cns)
      $0.cdw11 = UInt32(csi) << 24
      $0.prp1 = data.address
    }
    return (cqe.status, data.bytes(4096))
  }

  func logPage(
    _ page: UInt8, nsid: UInt32 = 0, bytes: Int = 512, offset: UInt64 = 0, retain: Bool = false, commandSet: UInt8 = 0
  ) throws -> (status: Status, bytes: [UInt8]) {
    let data = try buffer(max(bytes, 4096))
    let dwords = UInt32(bytes / 4 - 1)
    let cqe = try admin(.getLogPage, nsid: nsid) {
      $0.cdw10 = UInt32(page) | (retain ? 1 << 15 : 0) | dwords << 16
      $0.cdw11 = dwords >> 16
      ($0.cdw12, $0.cdw13) = (UInt32(truncatingIfNeeded: offset), UInt32(offset >> 32))
      $0.commandSet = commandSet
      ($0.prp1, $0.prp2) = (data.address, bytes > 4096 ? data.address + 4096 : 0)
    }
    return (cqe.status, data.bytes(bytes))
  }

  func getFeature(_ id: UInt8, select: UInt32 = 0, nsid: UInt32 = 0, cdw11: UInt32 = 0, data: SharedMemory? = nil)
    throws -> CompletionEntry
  {
    try admin(.getFeatures, nsid: nsid) {
      $0.cdw10 = UInt32(id) | select << 8
      $0.cdw11 = cdw11
      $0.prp1 = data?.address ?? 0
    }
  }

  func setFeature(
    _ id: UInt8, _ value: UInt32, nsid: UInt32 = 0, save: Bool = false, data: SharedMemory? = nil
  ) throws -> CompletionEntry {
    try admin(.setFeatures, nsid: nsid) {
      $0.cdw10 = UInt32(id) | (save ? 1 << 31 : 0)
      $0.cdw11 = value
      $0.prp1 = data?.address ?? 0
    }
  }
}

/// A completion queue that a test reads by hand.
final class CompletionRing {
  let qid: QueueID
  let entries: UInt32
  let memory: SharedMemory
  private let host: HostController
  private(set) var head: UInt32 = 0
  private(set) var phase = true

  init(_ qid: QueueID, entries: UInt32, _ memory: SharedMemory, _ host: HostController) {
    (self.qid, self.entries, self.memory, self.host) = (qid, entries, memory, host)
  }

  /// The next entry, if it is there; its place is not freed.
  func look() -> CompletionEntry? {
    let place = memory.base + Int(head) * 16
    // The phase tag is looked at first.
    atomicFence()
    guard ((place + 12).load(as: UInt32.self) & 1 << 16 != 0) == phase else { return nil }
    atomicFence()
    return place.load(as: CompletionEntry.self)
  }

  /// Take the next entry without telling the controller.
  func consumeSilently() -> CompletionEntry? {
    guard let cqe = look() else { return nil }
    head = (head + 1) % entries
    if head == 0 { phase.toggle() }
    return cqe
  }

  func free() { host.ring(.completionHead(qid), head) }

  func consume() -> CompletionEntry? {
    guard let cqe = consumeSilently() else { return nil }
    free()
    return cqe
  }
}

/// A submission queue that a test fills by hand.
final class SubmissionRing {
  let qid: QueueID
  let entries: UInt32
  let memory: SharedMemory
  let completion: CompletionRing
  private let host: HostController
  private(set) var tail: UInt32 = 0

  init(_ qid: QueueID, entries: UInt32, _ memory: SharedMemory, _ completion: CompletionRing, _ host: HostController) {
    (self.qid, self.entries, self.memory, self.completion, self.host) = (qid, entries, memory, completion, host)
  }

  func put(_ sqe: SubmissionEntry) {
    (memory.base + Int(tail) * 64).storeBytes(of: sqe, as: SubmissionEntry.self)
    tail = (tail + 1) % entries
  }

  func ring() { host.ring(.submissionTail(qid), tail) }

  func submit(_ sqe: SubmissionEntry) {
    put(sqe)
    ring()
  }
}

/// The other side writes this memory.
private func atomicFence() { atomicMemoryFence(ordering: .sequentiallyConsistent) }

extension SharedMemory {
  func bytes(_ count: Int, at offset: Int = 0) -> [UInt8] {
    [UInt8](UnsafeRawBufferPointer(start: base + offset, count: count))
  }

  func fill(_ byte: UInt8, at offset: Int = 0, count: Int) { memset(base + offset, Int32(byte), count) }

  func put<Value: BitwiseCopyable>(_ value: Value, at offset: Int) {
    base.storeBytes(of: value, toByteOffset: offset, as: Value.self)
  }

  func get<Value: BitwiseCopyable>(_: Value.Type, at offset: Int = 0) -> Value {
    base.loadUnaligned(fromByteOffset: offset, as: Value.self)
  }
}

extension [UInt8] {
  func integer<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type = Value.self, at offset: Int) -> Value {
    withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Value.self) }
  }

  /// ASCII, without the padding.
  func text(at offset: Int, width: Int) -> String {
    String(decoding: self[offset..<offset + width].prefix { $0 != 0 }, as: UTF8.self)
      .trimmingCharacters(in: .whitespaces)
  }
}

extension SubmissionEntry {
  /// An I/O command on `blocks` blocks from `slba`.
  static func io(
    _ opcode: IOOpcode, slba: UInt64 = 0, blocks: UInt32 = 8, nsid: UInt32 = 1, _ data: SharedMemory? = nil
  )
    -> SubmissionEntry
  {
    var sqe = SubmissionEntry(opcode: opcode.rawValue, cid: CommandID(0), nsid: nsid)
    sqe.slba = slba
    sqe.cdw12 = blocks &- 1
    sqe.prp1 = data?.address ?? 0
    return sqe
  }

  /// The same with a change.
  func with(_ edit: (inout SubmissionEntry) -> Void) -> SubmissionEntry {
    var sqe = self
    edit(&sqe)
    return sqe
  }

  /// The same with SGL1 as its data pointer.
  func sgl(_ descriptor: SGLDescriptor) -> SubmissionEntry {
    with {
      $0.cdw0 |= 1 << 14
      $0.sgl1 = descriptor
    }
  }
}

/// Type and code as the specification writes them, whether to try again, and for every failure More: the error log has it.
func expect(_ status: Status, _ wanted: Status, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation)
{
  let raw = wanted.isSuccess ? 0 : wanted.rawValue | Status.more
  #expect(
    status.rawValue == raw, "\(what) status \(status.rawValue.hex)", sourceLocation: sourceLocation)
}

extension HostController {
  private func place(of doorbell: Doorbell) -> UnsafeMutablePointer<Atomic<UInt32>> {
    precondition(doorbell.index < doorbellBytes / 4)
    return doorbells.assumingMemoryBound(to: Atomic<UInt32>.self) + doorbell.index
  }

  /// Write a doorbell through the mapped page, whatever the queue.
  func ring(_ doorbell: Doorbell, _ value: UInt32) { place(of: doorbell).pointee.store(value, ordering: .releasing) }

  /// The doorbell's current value: the last one written, or 0 once its queue is deleted.
  func doorbell(_ doorbell: Doorbell) -> UInt32 { place(of: doorbell).pointee.load(ordering: .acquiring) }
}
